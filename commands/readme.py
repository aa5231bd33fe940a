"""`brainmri readme`: write the README's table of results from the metrics of every study, so that it cannot lie."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from stages.files import InputError, atomic_write

STUDIES = {
    "studies/nickparvar": "Brain Tumor MRI Dataset, trained as published",
    "studies/nickparvar-leakfree": "the same, trained without the copies of test images",
    ".": "phantoms (the default study)",
}
BEGIN, END = "<!-- results: written by `brainmri readme` -->\n", "<!-- end of results -->"
BLOCK = re.compile(f"(?<={BEGIN}).*?(?={END})", re.DOTALL)
ROOT = Path(__file__).parent.parent


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("readme", help="write the README's results from the metrics", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the README is behind")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the block, or with --check compare it."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    fresh = BLOCK.sub(lambda _: results(ROOT), text)
    if fresh == text:
        return 0
    if args.check:
        raise InputError("README.md is behind the metrics: run `brainmri readme`")
    atomic_write(path, fresh)
    return 0


def results(root: Path) -> str:
    """Return the table of scores and the one of copies, as Markdown."""
    lines = [
        "| study | all test images | without a copy in training | copies of training images |",
        "|---|---|---|---|",
    ]
    for folder, title in STUDIES.items():
        if not (root / folder / "metrics/test.json").is_file():
            lines.append(_row(title, "not run yet", "", ""))
            continue
        metrics = _read(root / folder / "metrics/test.json")
        lines.append(_row(f"[{title}]({folder})", *(_accuracy(metrics[group]) for group in ("all", "clean", "leaked"))))
    integrity = root / "studies/nickparvar/metrics/integrity.json"
    if integrity.is_file():
        lines += ["", *_copies(_read(integrity)["leaked"])]
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _accuracy(group: dict[str, Any]) -> str:
    if not group["n"]:
        return "none"
    return (
        f"**{group['accuracy']:.2%}** ({group['accuracy_low']:.1%} to {group['accuracy_high']:.1%}, n = {group['n']:,})"
    )


def _copies(leaked: dict[str, Any]) -> list[str]:
    """Return how many test images of the public set are copies of training images, by class and kind."""
    kinds = ["byte", "pixel", "copy", "mirrored", "rotated", "all"]
    rows = {**leaked["by_class"], "all": leaked["by_kind"]}
    return [
        _row(
            "copies among test images", "same bytes", "same pixels", "re-encoded, rescaled", "mirrored", "turned", "all"
        ),
        "|---|---|---|---|---|---|---|",
        *(_row(name, *(f"{row[kind]:,}" for kind in kinds)) for name, row in rows.items()),
    ]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
