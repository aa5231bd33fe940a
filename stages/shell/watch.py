"""Ending with the process that started this one: a stage with its `dvc`, a worker with its stage."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

SHELLS = ("sh", "dash", "bash", "zsh", "fish", "ksh", "ash", "busybox")


def end_with_dvc() -> None:
    """End this process when the `dvc` that started it is gone.

    DVC runs a stage through a shell; killing `dvc` alone would leave the stage running, to overwrite outputs later.
    So the parent is watched, and where it is a shell its parent too. Some shells (bash) become the command that they
    are given: then the parent is DVC, and what started DVC may end, as a terminal does under `nohup dvc repro &`.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: where the parent itself is killed
    family = _ancestors()
    if _orphaned(family):
        os.kill(os.getpid(), signal.SIGKILL)
    _end_without(family[: 2 if _name(family[0]) in SHELLS else 1])


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    _end_without(_ancestors()[:1])


def _end_without(family: list[int]) -> None:
    def watch() -> None:
        while _ancestors()[: len(family)] == family:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def end_with(owner: int) -> None:
    """In a worker: end when the process that owns the pool is gone; one that was killed cannot tell its workers."""
    if not sys.platform.startswith("linux"):
        return

    def watch() -> None:
        while Path(f"/proc/{owner}").exists():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _name(process: int) -> str:
    """Return a process's short name; empty where it has ended, which its death signal tells as well."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _ancestors() -> list[int]:
    """Return the process ids of the parent, of its parent, and so on."""
    found = [os.getppid()]
    try:
        while found[-1] > 1:
            found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    except (OSError, ValueError):  # it ended while we looked
        pass
    return found


def _orphaned(family: list[int]) -> bool:
    """Whether `dvc` was gone before we could watch it: while a stage runs, DVC's lock file names DVC's process."""
    try:
        held = json.loads((Path(os.environ["DVC_ROOT"]) / ".dvc/tmp/rwlock").read_text())
        holders = {each["pid"] for each in held["write"].values()}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(holders) and not holders & set(family)
