"""`brainmri replay`: make a commit's study again from nothing, and hold every output against what was committed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import yaml

from commands import cause, low_bits
from commands.outputs import Output, compare, table
from stages import provenance
from stages.files import InputError


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "replay", help="re-make a commit from raw bytes and compare every output's hash", description=__doc__
    )
    parser.add_argument("rev", nargs="?", default="HEAD", metavar="REV", help="what to re-make (default: HEAD)")
    parser.add_argument(
        "--study", default=".", metavar="DIR", help="the study, from the repository's root (default: .)"
    )
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="these and what they need (default: all)")
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
        result, outputs = replayed(clone, args.study, args.stages, sys.stderr if args.json else sys.stdout)
        differing = next((each for each in outputs if each.path == low_bits.WEIGHTS and not each.same), None)
        if differing and (found := low_bits.difference(root, clone / args.study, differing.committed)) is not None:
            result["weights_differ_by"] = found
        result = {"rev": rev, "study": args.study} | result
    print(json.dumps(result, indent=2) if args.json else table(result, outputs))
    return 0 if result["same"] else 1


def replayed(clone: Path, name: str, stages: list[str] | None, console: Any) -> tuple[dict[str, Any], list[Output]]:
    """Run a study of the clone by force; return what is to be said of it, and every output's hashes."""
    study = (clone / name).resolve()
    if not study.is_relative_to(clone.resolve()):
        raise InputError(
            f"--study {name}: expected a folder inside the repository, from its root, such as studies/mine"
        )
    if not (study / "dvc.lock").is_file():
        raise InputError(f"{name}/dvc.lock is not in the commit: expected the folder of a study that was run")
    lock = _lock(study)
    if unknown := sorted(set(stages or []) - set(lock)):
        raise InputError(f"--stages {unknown[0]}: no such stage; expected some of {', '.join(lock)}")
    committed = needed(lock, stages or list(lock))
    before, changed = _scores(study), cause.changed_code(study, committed)
    failed, skipped = repro(study, committed, stages or [], console)
    outputs = compare(committed, needed(_lock(study), list(committed)))
    dirty = [] if stages else _git(clone, "status", "--porcelain").splitlines()
    versions = provenance.other_versions(clone / "requirements.lock")
    result = {
        "same": not (failed or skipped or dirty or changed) and all(output.same for output in outputs),
        "failed": failed,
        "skipped": skipped,
        "changed_code": changed,
        "changed_files": dirty,
        "outputs": [asdict(output) | {"same": output.same} for output in outputs],
        "other_versions": versions,
        "other_environment": sorted({line for s in committed for line in cause.environment_changes(study, s)}),
        "committed": before,
        "now": _scores(study),
    }
    first = next((output.stage for output in outputs if not output.same), None)
    if first:
        result["cause"] = cause.cause(first, changed, versions, cause.environment_changes(study, first))
    return result, outputs


def needed(lock: dict[str, Any], stages: list[str]) -> dict[str, Any]:
    """Return the entries of `stages` and of all stages whose outputs they need, in the lock file's order."""
    makers = {out["path"]: stage for stage, entry in lock.items() for out in entry.get("outs", [])}
    found, waiting = set(), list(stages)
    while waiting:
        stage = waiting.pop()
        if stage in lock and stage not in found:
            found.add(stage)
            waiting += [makers[dep["path"]] for dep in lock[stage].get("deps", []) if dep["path"] in makers]
    return {stage: entry for stage, entry in lock.items() if stage in found}


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


def repro(study: Path, committed: dict[str, Any], stages: list[str], console: Any) -> tuple[bool, list[str]]:
    """Run stages of `study` by force, with no cache and nobody's settings; return (did one fail, which did not run)."""
    ran: list[str] = []
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", *stages]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory(prefix="brainmri-settings-") as empty:
        environment |= {f"DVC_{name}": empty for name in ("GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR", "SITE_CACHE_DIR")}
        process = subprocess.Popen(
            command,
            cwd=study,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all it starts can be ended with it
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                console.write(line)
                ran += re.findall(r"^Running stage '([^']+)'", line)
            failed = process.wait() != 0
        finally:
            _end(process)
    return failed, [stage for stage in committed if stage not in [name.rpartition(":")[2] for name in ran]]


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session; nothing may write into a folder that is being removed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _scores(study: Path) -> dict[str, Any]:
    """Return accuracy on all test images and the confusion matrix, {class: counts by prediction}, as the files say."""
    try:
        accuracy = json.loads((study / "metrics/test.json").read_text(encoding="utf-8"))["all"]["accuracy"]
        table = pd.read_csv(study / "plots/confusion.csv", dtype=str, keep_default_na=False)
    except (OSError, KeyError):
        return {}
    counts = pd.crosstab(table["actual"], table["predicted"])
    counts = counts.reindex(columns=counts.index.union(counts.columns), fill_value=0)
    return {"accuracy": accuracy, "confusion": {str(name): [int(n) for n in row] for name, row in counts.iterrows()}}


def _lock(study: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((study / "dvc.lock").read_text())["stages"])


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, text=True, capture_output=True)
    return done.stdout.strip()


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
