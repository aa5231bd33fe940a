"""A process of the project on a machine of a cluster: computes one task after another for `cluster_worker`.

Run as `python -m stages.shell.cluster_child FOLDER` in a study's folder. It ends when its pipe is closed, or when the
folder is gone, which the process that asked for the tasks takes away with itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from stages.shell.cluster import identity
from stages.shell.cluster_worker import RAISED, RETURNED, receive, send


def main(folder: Path) -> None:
    """Answer tasks from standard input; what functions print goes to the worker's log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is asked to stop, and closes the pipe
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    tasks: BinaryIO = os.fdopen(os.dup(0), "rb")
    send(answers, differs(json.loads((folder / "identity.json").read_text()), identity()).encode())
    with contextlib.suppress(OSError):  # the pipe was closed
        while _another(tasks, folder):
            function, item = receive(tasks).decode(), receive(tasks)
            send(answers, _answer(function, item))


def differs(expected: dict[str, str], found: dict[str, str]) -> str:
    """Return the line about a machine that is not as the caller's; nothing where it is."""
    for name in expected | found:
        one, two = (each.get(name, "none") for each in (expected, found))
        if one != two:
            return f"has {name} {two}, this machine {one}: bring it to the same commit and requirements.lock"
    return ""


def _another(tasks: BinaryIO, folder: Path) -> bool:
    """Wait for a task; False where none will come."""
    while not select.select([tasks], [], [], 5)[0]:
        if not folder.exists():
            return False
    return True


def _answer(function: str, item: bytes) -> bytes:
    try:
        return RETURNED + pickle.dumps(_loaded(function)(pickle.loads(item)), 5)
    except Exception as error:
        return RAISED + _pickled(error)


@lru_cache(maxsize=1)
def _loaded(path: str) -> Any:
    return pickle.loads(Path(path).read_bytes())


def _pickled(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    except Exception:
        return pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
