"""Small sources for the tests: the same files as a folder, zip or tar, and every way to spoil one."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

from stages.fetch.schema import LimitParams

LIMITS = LimitParams(members=1000, total_bytes=10_000_000, file_bytes=1_000_000, ratio=100)
FILES = {
    f"{split}/{label}/{number}.jpg": f"{split} {label} {number}".encode() * 40
    for split in ("Training", "Testing")
    for label in ("cat", "dog")
    for number in range(3)
}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zipped(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # duplicate names
        for name, data in files.items() if isinstance(files, dict) else files:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method  # not through the constructor, which tidies names
            archive.writestr(info, data)
    return path


def tarred(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special_tar(path: Path, kind: bytes, name: str = "Training/cat/x.jpg", target: str = "/etc/passwd") -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def special_zip(path: Path, kind: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("Training/cat/x.jpg")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return path


def many(path: Path, count: int, form: str) -> Path:
    """Write a zip or tar of so many files of one byte, by hand: a library takes ten times as long."""
    name = "Training/cat/{:06d}.jpg"
    if form == "tar":
        header = tarfile.TarInfo(name.format(0))
        header.size = 1
        blank = bytearray(header.tobuf(tarfile.USTAR_FORMAT))
        at, rest = name.index("{"), b"x".ljust(512, b"\0")
        total = int(blank[148:154], 8) - 6 * ord("0")
        with path.open("wb") as file:
            for number in range(count):
                digits = b"%06d" % number
                blank[at : at + 6] = digits
                blank[148:156] = b"%06o\0 " % (total + sum(digits))
                file.write(blank + rest)
            file.write(bytes(1024))
        return path
    fields = (20, 0, 0, 0, 33, zlib.crc32(b"x"), 1, 1, len(name.format(0)), 0)  # both headers have these in a row
    local, central = struct.pack("<4s5H3L2H", b"PK\3\4", *fields), bytearray()
    with path.open("wb") as file:
        for number in range(count):
            data = name.format(number).encode()
            head = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *fields, 0, 0, 0, 0, number * (len(local) + len(data) + 1))
            central += head + data
            file.write(local + data + b"x")
        start, size = file.tell(), len(central)
        file.write(central)
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
        most = 0xFFFF, 0xFFFF, size, start, 0
        file.write(end + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *most))
    return path
