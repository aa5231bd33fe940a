"""`brainmri replay`: make a commit's study again from nothing, and hold every output against what was committed.

Exit status: 0 if all is the same, bit for bit; 1 if outputs differ; 2 if they cannot be compared: a stage failed or did
not run, or its code, parameters or command were changed without running it again, or there is no such commit or study.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commands import cause, locked, low_bits, spot
from commands.clone import checkout, lock_of, needed, repro, status, study_in
from commands.ending import unwind_when_ended
from commands.outputs import Output, compare, first_differing, scores, table, verdict
from commands.repository import find_root, git, here
from commands.retrain import Rows
from commands.scratch import scratch
from stages.shell import provenance
from stages.shell.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "replay", help="re-make a commit from raw bytes and compare every output's hash", description=__doc__
    )
    parser.add_argument(
        "rev", nargs="?", default="HEAD", metavar="REV", help="branch, tag, commit or experiment (default: HEAD)"
    )
    parser.add_argument(
        "--study", metavar="DIR", help="the study, from the repository's root (default: the one you stand in)"
    )
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="these and what they need (default: all)")
    spot.add_arguments(parser, None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run, failed=2)  # 1, which CI may forgive, must mean only `differs`


def run(args: argparse.Namespace) -> int:
    """Replay, print, and return the exit status."""
    unwind_when_ended()
    if args.spot and args.stages:
        raise InputError("--spot and --stages: give one of them; --spot trains again, and runs no stage whole")
    root = find_root()
    name = args.study or here(root)
    with scratch("replay") as folder:
        clone = folder / "clone"
        rev = checkout(root, args.rev, clone)
        if args.spot:
            return _spot(root, clone, args, {"rev": rev, "study": name})
        result, outputs = replayed(clone, name, args.stages, sys.stderr if args.json else sys.stdout)
        differing = [o for o in outputs if low_bits.weights(o.path) and o.committed and o.now and not o.same]
        apart = [low_bits.difference(root / name, clone / name, o.path, o.committed) for o in differing]
        if known := [each for each in apart if each is not None]:
            result["weights_differ_by"] = max(known)
        result = {"rev": rev, "study": name} | result
    print(json.dumps(result, indent=2) if args.json else table(result, outputs))
    return exit_status(result, outputs)


def _spot(root: Path, clone: Path, args: argparse.Namespace, about: dict[str, Any]) -> int:
    """Check the commit's trail, print, and return the exit status."""
    console = sys.stderr if args.json else sys.stdout
    result = about | spot.replayed(root, clone, about["study"], args.spot, args.seed, console)
    lines = [*spot.said(result), verdict(result, "what was checked is the same, bit for bit")]
    print(json.dumps(result, indent=2) if args.json else "\n".join(lines))
    return spot.exit_status(result)


def exit_status(result: dict[str, Any], outputs: list[Output]) -> int:
    """Return 0 for the same, 1 for other bits, as another CPU may give them, and 2 for what no hardware explains."""
    if result["failed"] or result["skipped"] or result["changed_code"]:
        return 2
    if not all(output.committed and output.now for output in outputs):  # dvc.yaml declares others than dvc.lock has
        return 2
    return 0 if result["same"] else 1


def replayed(clone: Path, name: str, stages: list[str] | None, console: Any) -> tuple[dict[str, Any], list[Output]]:
    """Run a study of the clone by force; return what is to be said of it, and every output's hashes."""
    study = study_in(clone, name)
    lock = lock_of(study)
    cause.recorded(study)  # where it is damaged, that is said now and not after the run
    asked = [stage for stage in lock if {stage, stage.partition("@")[0]} & set(stages or lock)]
    if unknown := sorted(set(stages or []) - {name for stage in lock for name in (stage, stage.partition("@")[0])}):
        raise InputError(f"--stages {unknown[0]}: no such stage; expected some of {', '.join(lock)}")
    committed = needed(lock, asked)
    before = scores(study, {output.path for output in compare(committed, {})})
    changed = {s: what for s, what in cause.changed_code(status(study)).items() if s in committed or not stages}
    trails = {stage: (fold, spot.trail_of(study, fold)) for stage, fold in locked.trainings(committed).items()}
    ran = repro(study, stages or [], console)
    # of a stage that did not finish, dvc.lock still has the committed hashes
    now = {stage: entry for stage, entry in needed(lock_of(study), list(committed)).items() if stage in ran.finished}
    outputs = compare(committed, now)
    dirty = [] if stages else git(clone, "status", "--porcelain").splitlines()
    versions = provenance.other_versions(clone / "requirements.lock")
    skipped = [stage for stage in committed if stage not in ran.began]
    result = {
        "same": not (ran.failed or skipped or dirty or changed) and all(output.same for output in outputs),
        "failed": ran.failed,
        "skipped": skipped,
        "changed_code": changed,
        "changed_files": dirty,
        "outputs": [asdict(output) | {"same": output.same} for output in outputs],
        "other_versions": versions,
        "other_environment": sorted({line for stage in now for line in cause.environment_changes(study, stage)}),
        "committed": before,
        "now": scores(study, {output.path for output in outputs if output.now}),
    }
    if parted := next(filter(None, (_parting(study, *trails[s]) for s in trails if s in ran.finished)), None):
        result["trainings_part_at"] = parted
    if first := first_differing(outputs):
        environment = cause.environment_changes(study, first.stage)
        result["cause"] = cause.cause(first.stage, changed, versions, environment)
    return result, outputs


def _parting(study: Path, fold: str, before: Rows) -> dict[str, Any] | None:
    """Return where a training parts from the committed one, and of which fold, where there are several."""
    parted = spot.parting(before, spot.trail_of(study, fold))
    return parted and (parted | ({"fold": locked.fold(fold)} if fold else {}))
