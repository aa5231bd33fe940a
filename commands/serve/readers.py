"""Processes that decode what was uploaded: one that crashes or takes too long is replaced, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from commands.predict.inputs import File, Picture, Unreadable, read
from commands.serve.series import NOWHERE, Place, place
from stages import runtime
from stages.prepare.schema import Prepare
from stages.shell.watch import end_with
from stages.verify.picture import TAKEN, Axis

SECONDS = 120  # for one file
FILES = 200  # that one process decodes before it is replaced, with whatever memory decoders have kept
PR_SET_DUMPABLE = 4  # of prctl(2)
SHOWN = 384  # pixels a side of a picture for people


class Read(NamedTuple):
    """What is in one file."""

    found: list[Picture | Unreadable]
    place: Place


def read_upload(file: File, size: int, prepare: Prepare, axis: Axis) -> Read:
    """Return what is in a file, and where its slices belong."""
    found = read(file, size, prepare, SHOWN, axis)
    if not isinstance(found[0], Picture):
        return Read(found, NOWHERE)
    return Read(found, place(file.path.read_bytes(), file.name, found[0].sha256, len(found)))


class Ended(Exception):
    """A process ended before it had answered."""


class Reader:
    """One process and a pipe to it.

    No pool of `concurrent.futures`: where its process is killed while it writes an answer, it waits for the rest for
    ever, and so does the end of the server.
    """

    def __init__(self) -> None:
        """Start it."""
        context = multiprocessing.get_context("forkserver")
        self.files = 0
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_read_on, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()

    def work(self, *asked: Any) -> Read:
        """Return what `read_upload` does of this; Ended where the process ends meanwhile."""
        try:
            self.line.send((read_upload, *asked))
            found: Read | Exception = self.line.recv()
        except (EOFError, OSError):
            raise Ended from None
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()


def _read_on(line: Connection, owner: int) -> None:
    """Do what comes over a pipe until it is closed; in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who ends this
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # a decoder that crashes leaves no picture in a core dump
    end_with(owner)
    with contextlib.suppress(EOFError, OSError):
        while True:
            work, *asked = line.recv()
            try:
                found = work(*asked)
            except Exception as error:
                found = error
            line.send(found)


class Readers:
    """As many as there are workers; each reads one file at a time."""

    def __init__(self, size: int, prepare: Prepare, axis: Axis = TAKEN) -> None:
        """Start them, for pictures of `size` pixels a side."""
        runtime.Processes(1).shutdown()  # says in one line where their sockets cannot lie
        self.asked = size, prepare, axis
        self.free: asyncio.Queue[Reader] = asyncio.Queue()
        for _ in range(runtime.workers()):
            self.free.put_nowait(Reader())

    async def read(self, file: File) -> Read:
        """Return what is in a file; one line where its decoder crashes, or is too slow."""
        reader = await self.free.get()
        done = False
        try:
            async with asyncio.timeout(SECONDS):
                found = await asyncio.to_thread(reader.work, file, *self.asked)
            done = True
            return found
        except TimeoutError:
            return _unreadable(file, f"not decoded within {SECONDS} s")
        except Ended:
            return _unreadable(file, "its decoder crashed on it")
        finally:
            self.free.put_nowait(self._next(reader, done))

    def _next(self, reader: Reader, done: bool) -> Reader:
        """Return who reads next: the same process while it is well and young."""
        reader.files += 1
        if done and reader.files < FILES:
            return reader
        reader.kill()
        return Reader()

    def close(self) -> None:
        """End all."""
        while not self.free.empty():
            self.free.get_nowait().kill()


def _unreadable(file: File, reason: str) -> Read:
    return Read([Unreadable(str(file.path), reason)], NOWHERE)
