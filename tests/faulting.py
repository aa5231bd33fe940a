"""Running things to break them: a process with its limits and its peak memory, and what it may not leave behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

LIMIT_S = 30  # no case may take longer
LIMIT_GIB = 2.0  # or more memory
# Root may write anywhere; without these it is bound by the permission bits as anyone is.
NO_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


class Done(NamedTuple):
    """What a process did."""

    status: int
    out: str
    err: str
    peak_gib: float  # of it and of the processes that it waited for


def run(
    words: list[str], folder: Path, prefix: tuple[str, ...] = (), file_bytes: int | None = None, **environment: str
) -> Done:
    """Run a command in `folder`; killed, and a failure, after LIMIT_S seconds.

    `file_bytes` limits the size of any file that it writes: what a full disk looks like from within.
    """

    def limit() -> None:
        if file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    settings = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "BRAINMRI_WORKERS": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            [*prefix, *words],
            cwd=folder,
            env=os.environ | settings | environment,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            preexec_fn=limit,
        )
        late = threading.Timer(LIMIT_S, child.kill)
        late.start()
        _, status, usage = os.wait4(child.pid, 0)
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Done(child.returncode, out.read(), err.read(), usage.ru_maxrss / 2**20)


def stage(name: str, folder: Path, **options: object) -> Done:
    """Run a stage in a study's folder."""
    return run([sys.executable, "-m", f"stages.{name}"], folder, **options)  # type: ignore[arg-type]


def refused(done: Done, *said: str) -> str:
    """Return the one line with which a process ended, having seen that it is one and all that is demanded of it."""
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert done.status == 1, f"status {done.status}: {done.err}"
    assert "Traceback" not in done.err and len(lines) == 1, done.err
    assert all(part in lines[0] for part in said), lines[0]
    assert done.peak_gib < LIMIT_GIB
    return lines[0]


def listing(folder: Path) -> dict[str, bytes | str]:
    """Return every file below a folder with its bytes, links with their target; logs and locks left out."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith("logs/") or ".checkpoints" in path.parts or name.endswith(".lock"):
            continue
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def differing(before: dict[str, bytes | str], after: dict[str, bytes | str]) -> list[str]:
    """Return the names of files that were added, lost or changed."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@contextmanager
def in_time(seconds: int = LIMIT_S) -> Iterator[None]:
    """Fail where the block takes longer."""

    def late(_signal: int, _frame: object) -> None:
        pytest.fail(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
