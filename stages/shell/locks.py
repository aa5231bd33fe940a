"""Locks of whole runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stages.shell.errors import InputError


@contextlib.contextmanager
def only_one(path: Path | str, seconds: float = 1) -> Iterator[None]:
    """Hold an exclusive lock for the block, so that two trainers never write one study; its file goes with the block.

    The kernel drops the lock when the process ends, however it ends; a file that a killed one left is taken over.
    Waits `seconds`, as who sweeps what killed runs left holds their locks for a moment; then raises InputError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    while True:
        with path.open("w") as handle:
            if _locked(handle, path):
                try:
                    yield
                finally:
                    if _lies_at(path, handle):
                        path.unlink()  # while it is held: who comes later makes a new one
                return
        if time.monotonic() >= until:
            raise InputError(f"another run holds {path}: wait for it to end, or stop it, then run again")
        time.sleep(0.05)


def _locked(handle: IO[str], path: Path) -> bool:
    """Lock an open file; False where another holds it or has removed it since it was opened (that locks nothing)."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _lies_at(path, handle)


def _lies_at(path: Path, handle: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
