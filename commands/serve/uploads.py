"""What is dropped on the page, held in memory alone: nothing of it touches a disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from aiohttp import BodyPartReader, MultipartReader, web

from commands.predict.inputs import MAX_BYTES, File, Unreadable

FILES = 64  # in one request; the page sends more in several
NAMES = 1_000_000  # bytes of all their names
NAME = 2_000  # characters of one
SECONDS = 600  # for one request to arrive
HELD = 2 * MAX_BYTES  # bytes of all requests at a time
CHUNK = 1 << 16


class Upload(NamedTuple):
    """A file that has arrived."""

    name: str  # as its person calls it
    descriptor: int  # of memory

    def file(self) -> File:
        """Return the file as any process of this user can read it while it is held."""
        return File(Path(f"/proc/{os.getpid()}/fd/{self.descriptor}"), self.name)


class Uploads:
    """Receives files, and knows how much is held."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.held = 0

    @contextlib.asynccontextmanager
    async def received(self, request: web.Request) -> AsyncIterator[list[Upload | Unreadable]]:
        """Give a request's files, in their order, until they are no longer needed; 400 where it is none of ours."""
        found: list[Upload | Unreadable] = []
        try:
            async with asyncio.timeout(SECONDS):
                await self._receive(request, found)
            yield found
        except (ValueError, AssertionError, RecursionError) as error:  # aiohttp's reader of parts meets any bytes
            raise web.HTTPBadRequest(text=f"not a form as the page sends it: {_line(error)}\n") from None
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"not all arrived within {SECONDS} s\n") from None
        finally:
            for upload in found:
                if isinstance(upload, Upload):
                    self.held -= os.fstat(upload.descriptor).st_size
                    os.close(upload.descriptor)

    async def _receive(self, request: web.Request, found: list[Upload | Unreadable]) -> None:
        reader = await request.multipart()
        names = _names(await _text(await _part(reader)))
        for name in names:
            part = await _part(reader)
            descriptor = os.memfd_create("upload")
            upload = Upload(name, descriptor)
            found.append(upload)
            if refused := await self._fill(descriptor, part):
                self.held -= os.fstat(descriptor).st_size
                os.close(descriptor)
                found[-1] = Unreadable(name, refused)

    async def _fill(self, descriptor: int, part: BodyPartReader) -> str | None:
        """Take a part into memory; return why not, having read past it."""
        size, refused = 0, None
        while chunk := await part.read_chunk(CHUNK):
            size += len(chunk)
            if size > MAX_BYTES:
                refused = f"larger than {MAX_BYTES:,} bytes"
            elif self.held + len(chunk) > HELD:
                refused = refused or "others are asking with large files: try again in a moment"
            if not refused:
                os.write(descriptor, chunk)
                self.held += len(chunk)
        return refused


async def _part(reader: MultipartReader) -> BodyPartReader:
    part = await reader.next()
    if not isinstance(part, BodyPartReader):
        raise ValueError("expected names, then a part for each file")
    return part


async def _text(part: BodyPartReader) -> bytes:
    found = bytearray()
    while chunk := await part.read_chunk(CHUNK):
        found += chunk
        if len(found) > NAMES:
            raise ValueError(f"over {NAMES:,} bytes of names")
    return bytes(found)


def _names(text: bytes) -> list[str]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) and 0 < len(name) <= NAME for name in names):
        raise ValueError(f"expected a list of names of 1 to {NAME:,} characters first")
    if not 1 <= len(names) <= FILES:
        raise ValueError(f"{len(names)} files: expected 1 to {FILES} in a request")
    return names


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
