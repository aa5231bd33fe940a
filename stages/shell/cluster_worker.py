"""What runs in a Dask worker: it keeps processes of the project's code and hands them tasks (see `cluster`).

Sent to the worker by value, so it uses nothing but Python and Dask.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

RETURNED, RAISED, REFUSED = b"=", b"!", b"?"  # the first byte of an answer: a result, an exception, a line
ENDED = "ended in the middle of a task"
# DVC's, of the stage that asks; and what Dask sets for its workers: freed memory given back at once doubles the time
DROPPED = ("DVC_ROOT", "MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Job(NamedTuple):
    """Where a task's code and data are, on every machine."""

    study: str  # the folder in which it runs
    folder: str  # in which the functions lie; it goes with the process that asks
    environment: tuple[tuple[str, str], ...]  # the pins, and where Python finds the code


def perform(about: tuple[Any, ...], function: str, item: bytes) -> bytes:
    """Return the answer of a process of the project to one task of a Job; OSError where that process ended over it.

    The job comes as a plain tuple: the scheduler, too, unpickles it.
    """
    from distributed import get_worker

    job = Job(*about)
    worker = get_worker()
    idle = vars(worker).setdefault("_brainmri_idle", [])  # processes that wait: of (job, process)
    try:
        process = _idle(idle, job) or _started(job)
    except OSError as error:
        return REFUSED + f"worker {worker.address} {error}".encode()
    try:
        send(process.stdin, function.encode())
        send(process.stdin, item)
        answer = receive(process.stdout)
    except OSError:
        process.kill()
        status = process.wait()
        raise OSError(f"a process of worker {worker.address} {ENDED} (status {status})") from None
    idle.append((job, process))
    return answer


def _idle(idle: list[Any], job: Job) -> Any:
    """Return a process that waits for this job's tasks; others, and those that have ended, are let go."""
    while idle:
        other, process = idle.pop()
        if other == job and process.poll() is None:
            return process
        process.stdin.close()
        process.stdout.close()
        process.wait()
    return None


def _started(job: Job) -> Any:
    """Start a process; OSError says why there can be none."""
    if not _seen(Path(job.folder)):
        raise OSError(f"does not see {job.folder}: the study's folder must be shared, at one path on all machines")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.shell.cluster_child", job.folder],
        cwd=job.study,
        env={name: value for name, value in os.environ.items() if name not in DROPPED} | dict(job.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        refusal = receive(process.stdout).decode()
    except OSError:
        process.wait()
        refusal = f"cannot start {sys.executable} -m stages.shell.cluster_child: its log says why"
    if refusal:
        process.kill()
        process.wait()
        raise OSError(refusal)
    return process


def _seen(folder: Path) -> bool:
    """Whether there is such a folder; NFS may show a new one some seconds late."""
    for _ in range(20):
        if folder.is_dir():
            return True
        time.sleep(0.25)
    return False


def send(pipe: Any, data: bytes) -> None:
    """Write a message: its length, and it."""
    pipe.write(struct.pack("<Q", len(data)))
    pipe.write(data)
    pipe.flush()


def receive(pipe: Any) -> bytes:
    """Return the next message; OSError where the pipe was closed before its end."""
    head = pipe.read(8)
    if len(head) < 8:
        raise OSError("the pipe was closed")
    (size,) = struct.unpack("<Q", head)
    data: bytes = pipe.read(size)
    if len(data) < size:
        raise OSError("the pipe was closed")
    return data
