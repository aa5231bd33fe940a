"""A temporary folder that is removed also where its maker was killed: by the next command that makes one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".scratch"


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Yield a new folder among the system's temporary ones; it goes with the block.

    It is locked for as long, and the kernel drops that lock with its holder, however that ends: so those that killed
    commands left are told from those in use, and are removed first.
    """
    remove_abandoned()
    folder, lock = _locked(name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned() -> None:
    """Remove what killed commands of this user left on this machine."""
    for left in Path(tempfile.gettempdir()).glob(f"brainmri-*{SUFFIX}"):
        _remove(left)


def _locked(name: str) -> tuple[Path, int]:
    """Return a new folder and its lock; again where another command swept it before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"brainmri-{name}-", suffix=SUFFIX))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder of this user's that nobody holds."""
    with contextlib.suppress(OSError):  # in use, another user's, a link, or gone meanwhile
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
