"""Running things to break them: a process with its limits and its peak memory, and what it may not leave behind."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import ROOT

from stages.dialect import parse
from stages.shell import running

LIMIT_S = 30  # no case may take longer
LIMIT_GIB = 2.0  # or more memory
# Root may write anywhere; without these it is bound by the permission bits as anyone is.
NO_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


class Done(NamedTuple):
    """What a process did."""

    status: int
    out: str
    err: str
    peak_gib: float  # of the largest among it and the processes that it waited for


def run(
    words: list[str], folder: Path, prefix: tuple[str, ...] = (), file_bytes: int | None = None, **environment: str
) -> Done:
    """Run a command in `folder`; a failure where it takes more than LIMIT_S seconds, when it is killed, or LIMIT_GIB.

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
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(LIMIT_S, lambda: (late.set(), end_all(child.pid)))
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            end_all(child.pid)
            raise
        finally:
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        # at fork a child has what this process had, so this is at least that: never less than the command's own peak
        done = Done(child.returncode, out.read(), err.read(), usage.ru_maxrss / 2**20)
    assert not late.is_set(), f"{' '.join(words)} took longer than {LIMIT_S} s: {done.out[-2000:]}{done.err[-2000:]}"
    assert done.peak_gib < LIMIT_GIB, f"{' '.join(words)} took {done.peak_gib:.2f} GiB"
    return done


def end_all(session: int) -> None:
    """Kill a process that leads a session, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def stage(name: str, folder: Path, **options: object) -> Done:
    """Run a stage in a study's folder."""
    return run([sys.executable, "-m", f"stages.{name}"], folder, **options)  # type: ignore[arg-type]


def stage_here(name: str, folder: Path) -> Done:
    """Run a stage as `stage` does, but in this process: for what ends early, without the seconds that loading takes."""
    main = importlib.import_module(f"stages.{name}.__main__").main
    out, err, status, threads = io.StringIO(), io.StringIO(), 0, torch.get_num_threads()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            running.run(name, main)
        except SystemExit as error:  # Python's own way to end with a line
            status = error.code if isinstance(error.code, int) else 1
            print(error.code, file=sys.stderr)
        finally:
            torch.set_num_threads(threads)
    return Done(status, out.getvalue(), err.getvalue(), peak_gib())


def locked(folder: Path) -> dict[str, list[tuple[str, str]]]:
    lock = parse((folder / "dvc.lock").read_text())["stages"]
    return {name: [(out["path"], out["md5"]) for out in entry["outs"]] for name, entry in lock.items()}


def refused(done: Done, *said: str) -> str:
    """Return the one line with which a process ended, having seen that it is one and all that is demanded of it."""
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert done.status == 1, f"status {done.status}: {done.err}"
    assert "Traceback" not in done.err and len(lines) == 1, done.err
    assert all(part in lines[0] for part in said), lines[0]
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
def in_time(seconds: float = LIMIT_S) -> Iterator[None]:
    """Fail where the block takes longer. Blocks may stand inside one another: each keeps its own limit."""

    def late(_signal: int, _frame: object) -> None:
        pytest.fail(f"took longer than {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, late)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    begun = time.monotonic()
    try:
        yield
    finally:
        left = outer - (time.monotonic() - begun)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))


@contextmanager
def in_memory(gib: float = LIMIT_GIB) -> Iterator[None]:
    """Fail where the block took more than `gib` of this process, or of one that ended meanwhile and was waited for.

    What the tests before it left in this process, over a gigabyte of libraries and studies, is not counted.
    """
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with contextlib.suppress(OSError):  # where it cannot be reset, only what goes beyond the peak so far is seen
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_gib()
    yield
    took = peak_gib() - before
    assert took < gib, f"took {took:.2f} GiB"
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all so far: it can only grow
    assert largest == others or largest / 2**20 < gib, f"a command took {largest / 2**20:.2f} GiB"


def peak_gib() -> float:
    """Return this process's peak of resident memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def limits(marker: pytest.Mark) -> contextlib.ExitStack:
    """Return a context with the limits of a case marked `fault(kind, commands=1)`: LIMIT_S a command, and LIMIT_GIB."""
    both = contextlib.ExitStack()
    both.enter_context(in_memory())
    both.enter_context(in_time(LIMIT_S * marker.kwargs.get("commands", 1)))
    return both
