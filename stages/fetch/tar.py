"""A tar, plain or compressed, as one stream of members, in memory that no header can inflate."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from stages.fetch.budget import CHUNK, Broken, Budget, Readable, chunks, reading
from stages.fetch.names import Parts, safe_parts, shown
from stages.shell.errors import InputError

COMPRESSIONS: dict[bytes, Callable[..., object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
XZ_MEMORY = 256 << 20  # bytes; xz -9 asks for 65 MiB
BLOCK = 512


class Forward:
    """A stream that only moves forward and hands out no more than CHUNK bytes at a time.

    tarfile reads an extended header in one piece, whatever size it declares: that must not become memory.
    """

    def __init__(self, source: Readable, budget: Budget) -> None:
        self._source, self._budget = source, budget
        self._position = 0
        self.last = b""  # what the last read gave

    def tell(self) -> int:
        """Return the position in unpacked bytes."""
        return self._position

    def seek(self, position: int) -> None:
        """Read on to a position."""
        if position < self._position:
            raise Broken("a member begins inside another")
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or what there is until the end."""
        if not 0 <= size <= CHUNK:
            raise Broken(f"a header of {size:,} bytes")
        self.last = self._source.read(size)
        while 0 < len(self.last) < size and (more := self._source.read(size - len(self.last))):
            self.last += more
        self._position += len(self.last)
        self._budget.unpacked(self._position)
        return self.last


def read_tar(path: Path, budget: Budget, head: bytes, folders: set[Parts]) -> Iterator[tuple[Parts, Iterator[bytes]]]:
    """Yield every file of a tar; `head` is its first bytes, by which its compression is known.

    `folders` is filled with the paths of folders.

    Raises
    ------
    InputError
        For links, devices, sparse files, unsafe names, damage, a missing end, or a limit passed.
    """
    with ExitStack() as opened:
        with reading(budget.where):
            stream = Forward(opened.enter_context(_unpacked(path, head)), budget)
            archive = opened.enter_context(tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:"))
        while True:
            with reading(budget.where):
                info = archive.next()
            if info is None:
                break
            budget.member()
            yield from _read_member(archive, info, budget, folders)
        # tarfile takes a damaged header, or the end of the file, for the end of the archive
        if stream.last != bytes(BLOCK):
            raise InputError(
                f"{budget.where}: it ends too early or is damaged near byte {stream.tell():,}; get it again"
            )


def _read_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget, folders: set[Parts]
) -> Iterator[tuple[Parts, Iterator[bytes]]]:
    parts, name = safe_parts(info.name, budget.where), shown(info.name)
    if info.isdir():
        folders.add(parts)
        return
    if not info.isreg() or info.issparse():
        raise InputError(f"{budget.where}: member {name} is {_kind(info)}; expected files and folders only")
    budget.reserve(name, info.size)
    with reading(budget.where, name):
        handle = archive.extractfile(info)
    if parts and handle is not None:
        with handle:
            yield parts, _read_whole(handle, info.size, name, budget)


def _read_whole(handle: Readable, expected: int, name: str, budget: Budget) -> Iterator[bytes]:
    size = 0
    for data in chunks(handle, name, budget):
        size += len(data)
        yield data
    if size != expected:
        raise InputError(f"{budget.where}: {name} has {size:,} bytes instead of {expected:,}; get the archive again")


def _unpacked(path: Path, head: bytes) -> IO[bytes]:
    """Open the file, decompressing; an xz that asks for gigabytes of memory is refused."""
    if head.startswith(b"\xfd7zXZ\x00"):
        lzma.LZMADecompressor(memlimit=XZ_MEMORY).decompress(head, max_length=1)
    for magic, opener in COMPRESSIONS.items():
        if head.startswith(magic):
            return cast(IO[bytes], opener(path, "rb"))
    return path.open("rb")


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym():
        return "a symbolic link"
    if info.islnk():
        return "a hard link"
    return "sparse" if info.issparse() else "a device or pipe" if info.isdev() else f"of unknown type {info.type!r}"
