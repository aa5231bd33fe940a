"""A zip or a folder, or by magic a tar (in tar.py), as one stream of members: name, then bytes.

Nothing here writes, and nothing here believes what an archive says of itself: names, kinds, sizes and checksums are
checked member by member. zipfile's and tarfile's own extraction is never called.
"""

from __future__ import annotations

import mmap
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from stages.fetch.budget import Budget, reading
from stages.fetch.budget import chunks as read_chunks
from stages.fetch.folder import Folder, special
from stages.fetch.names import Names, Parts, safe_parts, shown
from stages.fetch.schema import LimitParams
from stages.fetch.tar import COMPRESSIONS, read_tar
from stages.shell.errors import InputError

Member = tuple[Parts, Iterator[bytes]]  # a file's path in the source and its bytes, to be read before the next member


def members(
    path: Path, limits: LimitParams, where: str, links: bool = False, folders: set[Parts] | None = None
) -> Iterator[Member]:
    """Yield every file of an archive or folder, in the source's own order.

    Parameters
    ----------
    path
        A folder, zip, or tar (plain, gz, bz2, xz), told apart by content, not by name.
    limits
        What it may cost.
    where
        The source, as messages name it.
    links
        Whether symbolic links in a folder are followed, wherever they lead; else they are refused, as in any archive.
    folders
        Is filled with the paths of all folders, for those that are empty.

    Raises
    ------
    InputError
        As soon as something is unsafe, broken or over a limit; what was yielded until then is to be thrown away.
    """
    names = Names(where)
    folders = set() if folders is None else folders
    for parts, data in _read(path, limits, where, links, folders):
        names.add(parts)
        yield parts, data


def _read(path: Path, limits: LimitParams, where: str, links: bool, folders: set[Parts]) -> Iterator[Member]:
    if path.is_dir():
        yield from Folder(Budget(limits, where), links, folders).read(path)
        return
    with reading(where), path.open("rb") as handle:
        head, packed = handle.read(512), path.stat().st_size
    budget = Budget(limits, where, packed)
    if head[:2] == b"PK":
        yield from _read_zip(path, budget, folders)
    elif head[257:262] == b"ustar" or any(head.startswith(magic) for magic in COMPRESSIONS):
        yield from read_tar(path, budget, head, folders)
    else:
        raise InputError(f"{where}: {_guess(head)}; expected a zip, a tar (.gz, .bz2, .xz) or a folder")


def _guess(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.lstrip()[:1] == b"<":
        return "it is a web page (perhaps one that asks to log in)"
    return f"it begins with {head[:8]!r}, which is no archive"


def _read_zip(path: Path, budget: Budget, folders: set[Parts]) -> Iterator[Member]:
    _count_zip(path, budget)
    with reading(budget.where):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in archive.infolist():
            budget.member()
            parts = safe_parts(info.orig_filename, budget.where)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise special(budget.where, info.orig_filename, kind)
            if info.is_dir() or kind == stat.S_IFDIR:
                folders.add(parts)
            elif parts:
                yield parts, _read_zipped(archive, info, budget)


def _count_zip(path: Path, budget: Budget) -> None:
    """Refuse a directory of millions of members before zipfile builds an object for each of them."""
    with (
        reading(budget.where),
        path.open("rb") as handle,
        mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for number, _ in enumerate(re.finditer(b"PK\x01\x02", data), start=1):
            if number > budget.limits.members:
                raise budget.refusal(f"more than {budget.limits.members:,} members", "members")


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[bytes]:
    name = shown(info.orig_filename)
    if info.flag_bits & 0x1:
        raise InputError(f"{budget.where}: {name} is encrypted; unpack it with its password and give the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks the others without a bound on memory
        raise InputError(
            f"{budget.where}: {name} has compression method {info.compress_type}; expected stored or deflated: "
            "unpack it and give the folder"
        )
    budget.reserve(name, info.file_size)
    with reading(budget.where, name):
        handle = archive.open(info)
    size = 0
    with handle:
        for data in read_chunks(handle, name, budget):
            size += len(data)
            yield data
    if size != info.file_size:
        raise InputError(
            f"{budget.where}: {name} has {size:,} bytes instead of {info.file_size:,}; get the archive again"
        )
