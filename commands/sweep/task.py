"""One experiment on a worker: clone, pull, `dvc exp run`, push. Sent by value, with `commands.scratch`.

What a killed worker left is removed by the next task on its machine; the processes that it started end with it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from commands.scratch import scratch
from stages.shell import cluster_worker

# what the caller's terminal and Dask set for their own processes; Dask's make training no other, but slower
DROPPED = (*cluster_worker.DROPPED, "PYTHONPATH", "BRAINMRI_CLUSTER", "OPENBLAS_NUM_THREADS")
# Ends with the thread that waits for it, also where that is killed (PR_SET_PDEATHSIG); a stage then ends with its dvc
LEASHED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
SAYS_OTHERS = """
from stages.shell.provenance import LOCK, other_versions
print(*(f"{name} {each}" for name, each in other_versions(LOCK).items()), sep=", ")
"""


class Task(NamedTuple):
    """One experiment, and where everything for it is."""

    name: str  # of the experiment
    overrides: tuple[str, ...]  # as `dvc exp run -S` takes them
    commit: str
    study: str  # its folder, from the repository's root
    git: str  # from where the repository is cloned, and to where the experiment is pushed
    cache: str  # a folder that caller and workers share as DVC's cache; "": outputs go through the DVC remote
    remote: str  # the DVC remote's name; "": the study's default
    author: tuple[str, str]  # name and address, of the experiment's commit


class Failed(Exception):
    """Why there is no experiment: one line."""


def perform(about: tuple[Any, ...]) -> tuple[str, str]:
    """Run one Task, given as a plain tuple; return why it failed, or nothing, and what there is to say of it.

    An experiment that lies at `git` already is not run again: its worker died after it had pushed.
    """
    task = Task(*about)
    try:
        if _there(task):
            return "", "made before"
        with scratch("sweep") as folder:
            return "", _experiment(task, folder / "repository")
    except Failed as error:
        return str(error), ""
    except OSError as error:
        return f"{error.filename or 'worker'}: {error.strerror}", ""


def _there(task: Task) -> bool:
    ref = f"refs/exps/{task.commit[:2]}/{task.commit[2:]}/{task.name}"
    return ref in _said(task, "git", "ls-remote", task.git, ref)


def _experiment(task: Task, clone: Path) -> str:
    """Make and push the experiment; return whether it went on from a checkpoint of a killed worker."""
    _said(task, "git", "clone", "--quiet", "--no-checkout", "--", task.git, str(clone))
    try:
        _said(task, "git", "checkout", "--quiet", "--detach", task.commit, cwd=clone)
    except Failed:
        raise Failed(f"commit {task.commit[:10]} is not in {task.git}: push it (git push), then run again") from None
    if others := _said(task, sys.executable, "-c", SAYS_OTHERS, cwd=clone).strip():
        raise Failed(f"this worker's packages are not those of requirements.lock ({others[:200]}): install them there")
    study = clone / task.study
    dvc = (sys.executable, "-m", "dvc")
    if task.cache:
        _said(task, *dvc, "config", "--local", "cache.dir", task.cache, cwd=study)
    pull = () if task.cache else ("--pull", "--allow-missing")
    if task.remote:
        _said(task, *dvc, "config", "--local", "core.remote", task.remote, cwd=study)
    settings = [word for each in task.overrides for word in ("-S", each)]
    ran = _said(task, *dvc, "exp", "run", "--name", task.name, *pull, *settings, cwd=study)
    shared = ("--no-cache",) if task.cache else ()
    _said(task, *dvc, "exp", "push", "--force", *shared, task.git, task.name, cwd=study)
    resumed = re.search(r"^going on from a checkpoint at .*$", ran, re.MULTILINE)
    return resumed[0].replace("going", "went") if resumed else ""


def _said(task: Task, *words: str, cwd: Path | None = None) -> str:
    """Return what a command prints; Failed with its own reason where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    for who in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{who}_NAME"], environment[f"GIT_{who}_EMAIL"] = task.author
    leash = (sys.executable, "-c", LEASHED, str(os.getpid()))
    done = subprocess.run(
        [*leash, *words],
        cwd=cwd,
        env=environment,
        text=True,
        errors="replace",
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise Failed(why(done.stdout, done.stderr) or f"{words[0]} ended with status {done.returncode}")
    return done.stdout


def why(stdout: str, stderr: str) -> str:
    """Return the line that says why a command failed: a stage's own, where DVC says that one failed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR: ", "fatal: ", "error: "))]
    if errors and (failed := re.search(r"failed to reproduce '(?:[^']*:)?([^'@]+)", errors[0])):
        own = [line for line in [*stdout.splitlines(), *lines] if line.startswith(f"{failed[1]}: ")]
        told = [line for line in own if "bits may differ" not in line]
        return told[-1] if told else errors[0]
    return errors[0] if errors else (lines[-1] if lines else "")
