"""A commit in an empty folder: its study there, what its dvc.lock says, and its stages run with nobody's settings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import locked
from commands.repository import commit, git
from commands.scratch import scratch
from stages.shell.errors import InputError


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


def repro(study: Path, stages: list[str], console: Any, alone: bool = False) -> Ran:
    """Run stages of `study` by force, with no cache and nobody's settings; with those that they need, or `alone`."""
    began: list[str] = []
    broken: list[str] = []
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", *["--single-item"] * alone, *stages]
    with nobodys_settings() as environment:
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
            end(process)
    unfinished = (broken or began[-1:]) if failed else []
    return Ran(began, [stage for stage in began if stage not in unfinished], failed)


def status(study: Path) -> dict[str, Any]:
    """Return what `dvc status` says of the study's stages: {stage: what is not as dvc.lock has it}."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    with nobodys_settings() as environment:
        done = subprocess.run(command, cwd=study, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise InputError(f"DVC cannot read the commit's dvc.yaml: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def nobodys_settings() -> Iterator[dict[str, str]]:
    """Yield an environment in which DVC finds no settings and no cache of this machine, and stages find this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with scratch("settings") as empty:
        names = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        yield os.environ | {"PATH": path} | dict.fromkeys(names, str(empty))


def end(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session; nothing may write into a folder that is being removed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def study_in(clone: Path, name: str) -> Path:
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
    found, waiting = set(), list(stages)
    while waiting:
        stage = waiting.pop()
        if stage in lock and stage not in found:
            found.add(stage)
            waiting += [maker for dep in lock[stage].get("deps", []) for maker in locked.makers(lock, dep["path"])]
    return {stage: entry for stage, entry in lock.items() if stage in found}


def lock_of(study: Path) -> dict[str, Any]:
    """Return the stages that the study's dvc.lock has, of those that its dvc.yaml has."""
    return locked.stages(study, "the commit's dvc.lock")
