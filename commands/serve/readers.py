"""Processes that decode what was uploaded: one that crashes or takes too long is replaced, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from commands.predict.inputs import File, Picture, Unreadable, read
from commands.serve.series import NOWHERE, Place, place
from stages import runtime
from stages.prepare.schema import Prepare
from stages.verify.picture import TAKEN, Axis

SECONDS = 120  # for one file
FILES = 200  # that one process decodes before it is replaced, with whatever memory decoders have kept
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


class Reader:
    """One process."""

    def __init__(self) -> None:
        """Start it."""
        self.files, self.pool = 0, runtime.Processes(1)
        self.process = self.pool.submit(os.getpid)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if self.process.done() and not self.process.exception():
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self.process.result(), signal.SIGKILL)
        self.pool.shutdown(wait=False, cancel_futures=True)


class Readers:
    """As many as there are workers; each reads one file at a time."""

    def __init__(self, size: int, prepare: Prepare, axis: Axis = TAKEN) -> None:
        """Start them, for pictures of `size` pixels a side."""
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
                found = await self._work(reader.pool, file)
            done = True
            return found
        except TimeoutError:
            return _unreadable(file, f"not decoded within {SECONDS} s")
        except BrokenProcessPool:
            return _unreadable(file, "its decoder crashed on it")
        finally:
            self.free.put_nowait(self._next(reader, done))

    async def _work(self, pool: ProcessPoolExecutor, file: File) -> Read:
        return await asyncio.get_running_loop().run_in_executor(pool, read_upload, file, *self.asked)

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
