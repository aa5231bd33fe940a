"""`brainmri replay`: make a commit's study again from nothing, and hold every output against what was committed."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from stages import provenance
from stages.files import InputError


@dataclass(frozen=True)
class Output:
    """One output of one stage: its hash in the commit's dvc.lock, and the one that it has now."""

    stage: str
    path: str
    committed: str
    now: str

    @property
    def same(self) -> bool:
        """Whether the bits came out as committed."""
        return self.committed == self.now


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "replay", help="re-make a commit from raw bytes and compare every output's hash", description=__doc__
    )
    parser.add_argument("rev", nargs="?", default="HEAD", metavar="REV", help="what to re-make (default: HEAD)")
    parser.add_argument(
        "--study", default=".", metavar="DIR", help="the study, from the repository's root (default: .)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay, print, and return 0 if and only if every output has the committed hash."""
    # a plain `kill` unwinds too, so that the temporary folder goes
    signal.signal(signal.SIGTERM, _terminated)
    root = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="brainmri-replay-") as folder:
        clone = Path(folder) / "clone"
        rev = checkout(root, args.rev, clone)
        study = clone / args.study
        if not (study / "dvc.lock").is_file():
            raise InputError(f"{args.study}/dvc.lock is not in {args.rev}: expected the folder of a study that was run")
        committed = _lock(study)
        failed, skipped = repro(study, committed, sys.stderr if args.json else sys.stdout)
        outputs = compare(committed, _lock(study))
        changed = _git(clone, "status", "--porcelain").splitlines()
        result = {
            "rev": rev,
            "study": args.study,
            "same": not failed and not skipped and not changed and all(output.same for output in outputs),
            "failed": failed,
            "skipped": skipped,
            "changed_files": changed,
            "outputs": [asdict(output) | {"same": output.same} for output in outputs],
            "other_versions": provenance.other_versions(clone / "requirements.lock"),
        }
    print(json.dumps(result, indent=2) if args.json else table(result, outputs))
    return 0 if result["same"] else 1


def checkout(root: Path, rev: str, clone: Path) -> str:
    """Put commit `rev` of the repository `root` into a new folder and return its full name.

    A clone that borrows the objects, not a worktree: nothing at all is written into the repository, so nothing can be
    left there, even by a power cut.
    """
    try:
        name = _git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    except subprocess.CalledProcessError:
        raise InputError(
            f"{rev!r} is no commit of {root.name}: give a branch, tag or hash that `git log` knows"
        ) from None
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", root, clone], check=True)
    _git(clone, "checkout", "--quiet", "--detach", name)
    return name


def repro(study: Path, committed: dict[str, Any], console: Any) -> tuple[bool, list[str]]:
    """Run every stage of `study` by force, with an empty cache; return (did one fail, stages that did not run)."""
    ran: list[str] = []
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        command, cwd=study, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            console.write(line)
            ran += re.findall(r"^Running stage '([^']+)'", line)
    finally:
        process.terminate()
        failed = process.wait() != 0
    return failed, [stage for stage in committed if stage not in [name.rpartition(":")[2] for name in ran]]


def compare(committed: dict[str, Any], now: dict[str, Any]) -> list[Output]:
    """Return one row an output, in the order of the stages; an output that is on one side only has an empty hash."""
    rows = []
    for stage in [*committed, *(stage for stage in now if stage not in committed)]:
        before, after = _hashes(committed.get(stage, {})), _hashes(now.get(stage, {}))
        rows += [Output(stage, path, before.get(path, ""), after.get(path, "")) for path in sorted(before | after)]
    return rows


def table(result: dict[str, Any], outputs: list[Output]) -> str:
    """Return what a person reads: every output with both hashes, then the verdict."""
    rows = [
        ("stage", "output", "committed", "now", ""),
        *(
            (
                output.stage,
                output.path,
                output.committed[:12] or "-",
                output.now[:12] or "-",
                "same" if output.same else "DIFFERS",
            )
            for output in outputs
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if result["failed"]:
        lines.append("a stage failed: see its line above")
    lines += [f"stage {stage} did not run" for stage in result["skipped"]]
    lines += [f"git status: {line}" for line in result["changed_files"]]
    lines += [
        f"other version than requirements.lock: {name} {change}" for name, change in result["other_versions"].items()
    ]
    first = next((output for output in outputs if not output.same), None)
    if first:
        lines.append(f"the first stage whose output differs: {first.stage} ({first.path})")
    verdict = "every output is the same, bit for bit" if result["same"] else "NOT the same"
    return "\n".join([*lines, f"{result['rev'][:12]} {result['study']}: {verdict}"])


def _lock(study: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((study / "dvc.lock").read_text())["stages"])


def _hashes(stage: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in stage.get("outs", [])}


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, text=True, capture_output=True)
    return done.stdout.strip()


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
