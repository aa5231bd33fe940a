"""`brainmri replay`: make a commit's study again from nothing, and hold every output against what was committed.

Exit status: 0 if all is the same, bit for bit; 1 if outputs differ; 2 if they cannot be compared: a stage failed or did
not run, or its code, parameters or command were changed without running it again, or there is no such commit or study.
"""

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from commands import cause, low_bits, reading
from commands.outputs import Output, compare, first_differing, scores, table
from commands.repository import commit, find_root, git, here
from stages.shell import provenance
from stages.shell.errors import InputError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run, failed=2)  # 1, which CI may forgive, must mean only `differs`


def run(args: argparse.Namespace) -> int:
    """Replay, print, and return the exit status."""
    _unwind_when_ended()
    root = find_root()
    name = args.study or here(root)
    with tempfile.TemporaryDirectory(prefix="brainmri-replay-") as folder:
        clone = Path(folder) / "clone"
        rev = checkout(root, args.rev, clone)
        result, outputs = replayed(clone, name, args.stages, sys.stderr if args.json else sys.stdout)
        differing = next((o for o in outputs if o.path == low_bits.WEIGHTS and o.now and not o.same), None)
        if differing and (found := low_bits.difference(root / name, clone / name, differing.committed)) is not None:
            result["weights_differ_by"] = found
        result = {"rev": rev, "study": name} | result
    print(json.dumps(result, indent=2) if args.json else table(result, outputs))
    return exit_status(result, outputs)


def exit_status(result: dict[str, Any], outputs: list[Output]) -> int:
    """Return 0 for the same, 1 for other bits, as another CPU may give them, and 2 for what no hardware explains."""
    if result["failed"] or result["skipped"] or result["changed_code"]:
        return 2
    if not all(output.committed and output.now for output in outputs):  # dvc.yaml declares others than dvc.lock has
        return 2
    return 0 if result["same"] else 1


def replayed(clone: Path, name: str, stages: list[str] | None, console: Any) -> tuple[dict[str, Any], list[Output]]:
    """Run a study of the clone by force; return what is to be said of it, and every output's hashes."""
    study = _study(clone, name)
    lock = _lock(study)
    cause.recorded(study)  # where it is damaged, that is said now and not after the run
    if unknown := sorted(set(stages or []) - set(lock)):
        raise InputError(f"--stages {unknown[0]}: no such stage; expected some of {', '.join(lock)}")
    committed = needed(lock, stages or list(lock))
    before = scores(study, {output.path for output in compare(committed, {})})
    changed = {s: what for s, what in cause.changed_code(status(study)).items() if s in committed or not stages}
    ran = repro(study, stages or [], console)
    # of a stage that did not finish, dvc.lock still has the committed hashes
    now = {stage: entry for stage, entry in needed(_lock(study), list(committed)).items() if stage in ran.finished}
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
    if first := first_differing(outputs):
        environment = cause.environment_changes(study, first.stage)
        result["cause"] = cause.cause(first.stage, changed, versions, environment)
    return result, outputs


def _study(clone: Path, name: str) -> Path:
    """Return the study's folder in the clone; refuse one that is elsewhere or was never run."""
    study = (clone / name).resolve()
    if not study.is_relative_to(clone.resolve()):
        raise InputError(
            f"--study {name}: expected a folder inside the repository, from its root, such as studies/mine"
        )
    if not (study / "dvc.lock").is_file():
        raise InputError(f"{name}/dvc.lock is not in the commit: expected the folder of a study that was run")
    return study


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
    name = commit(root, rev)
    git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone))
    git(clone, "checkout", "--quiet", "--detach", name)
    return name


@dataclass(frozen=True)
class Ran:
    """What a forced run did: the stages that began, those that finished, and whether DVC failed."""

    began: list[str]
    finished: list[str]
    failed: bool


def repro(study: Path, stages: list[str], console: Any) -> Ran:
    """Run stages of `study` by force, with no cache and nobody's settings."""
    began: list[str] = []
    broken: list[str] = []
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", *stages]
    with _nobodys_settings() as environment:
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
                began += re.findall(r"^Running stage '(?:.*:)?([^']+)'", line)
                broken += re.findall(r"failed to reproduce '(?:.*:)?([^']+)'", line)
            failed = process.wait() != 0
        finally:
            _end(process)
    unfinished = (broken or began[-1:]) if failed else []
    return Ran(began, [stage for stage in began if stage not in unfinished], failed)


def status(study: Path) -> dict[str, Any]:
    """Return what `dvc status` says of the study's stages: {stage: what is not as dvc.lock has it}."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    with _nobodys_settings() as environment:
        done = subprocess.run(command, cwd=study, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise InputError(f"DVC cannot read the commit's dvc.yaml: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def _nobodys_settings() -> Iterator[dict[str, str]]:
    """Yield an environment in which DVC finds no settings and no cache of this machine, and stages find this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="brainmri-settings-") as empty:
        names = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        yield os.environ | {"PATH": path} | dict.fromkeys(names, empty)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session; nothing may write into a folder that is being removed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _lock(study: Path) -> dict[str, Any]:
    return reading.stages((study / "dvc.lock").read_bytes(), "the commit's dvc.lock")


def _unwind_when_ended() -> None:
    """Let Ctrl-C, `kill` and a closed terminal unwind, so that the temporary folders go, and DVC with them."""
    for each in ENDING:
        if signal.getsignal(each) != signal.SIG_IGN:  # `nohup` stays in force
            signal.signal(each, _ended)


def _ended(signum: int, frame: FrameType | None) -> None:
    for each in ENDING:  # a closed terminal may tell twice, which must not cut the removing short
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
