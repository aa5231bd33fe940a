"""`brainmri readme`: write the figures of README and docs from metrics/ and bench/results/, so that they cannot lie."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import tables
from stages.files import atomic_write
from stages.shell.errors import InputError

ROOT = Path(__file__).parent.parent
PAGES: dict[str, dict[str, Callable[[Path, str], str]]] = {  # page: block: what writes it, given the root and the page
    "README.md": {"results": tables.results, "speed": tables.pipeline},
    "docs/audit.md": {"copies": tables.copies},
    "docs/published-split.md": {"baselines": tables.baselines},
    "docs/predict.md": {"predicting": tables.predicting},
    "docs/speed.md": {"training": tables.training},
}


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "readme", help="write the figures of README and docs from what was measured", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is behind")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the blocks of all pages, or with --check compare them."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    fresh = {name: rewritten(ROOT, name, text) for name, text in texts.items()}
    behind = [name for name in PAGES if fresh[name] != texts[name]]
    if behind and args.check:
        raise InputError(f"{', '.join(behind)}: behind metrics/ or bench/results/: run `brainmri readme`")
    for name in behind:
        atomic_write(ROOT / name, fresh[name])
    return 0


def rewritten(root: Path, name: str, text: str) -> str:
    """Return a page with what stands between its markers written anew; each pair must be there once, in order."""
    for block, written in PAGES[name].items():
        begin, end = f"<!-- {block}: written by `brainmri readme` -->\n", f"<!-- end of {block} -->"
        before, _, rest = text.partition(begin)
        if (text.count(begin), text.count(end), rest.count(end)) != (1, 1, 1):
            raise InputError(
                f"{name}: expected one line {begin.strip()!r} and after it one {end!r}: put them back around the block"
            )
        text = "".join([before, begin, written(root, text), end, rest.partition(end)[2]])
    return text
