"""Small sources for the tests: the same files as a folder, zip or tar, and every way to spoil one."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
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
