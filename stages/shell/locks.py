"""Locks of whole runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stages.shell.errors import InputError


@contextlib.contextmanager
def only_one(path: Path | str) -> Iterator[None]:
    """Hold an exclusive lock for the block, so that two trainers never write one study.

    The kernel drops the lock when the process ends, however it ends.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another run holds {path}: wait for it to end, or stop it, then run again") from None
        yield
