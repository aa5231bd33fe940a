"""Which files are meant, and what pictures are in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from commands.predict import dicom
from stages.files import InputError
from stages.prepare.image import square
from stages.verify.decode import DecodeError, decode_grey, pages
from stages.verify.describe import CELLS, SIDE, VIEWS, Described, describe

MAX_BYTES = 500_000_000  # of one file, which is read whole


class File(NamedTuple):
    """A file to be read, and its name below the folder that was asked for."""

    path: Path
    name: str


class Picture(NamedTuple):
    """One picture, as the network and the audit see it."""

    path: str
    name: str  # below the folder that was asked for
    frame: int | None  # from 1; None in a file with one picture
    sha256: str  # of the file
    image: NDArray[np.uint8]  # [S, S]
    described: Described


class Unreadable(NamedTuple):
    """A file that gives no picture, and why."""

    path: str
    reason: str


def files(paths: list[Path]) -> list[File]:
    """Return the files meant by `paths`, folders walked in the order of their names; hidden files are left out."""
    found: list[File] = []
    for path in paths:
        if path.is_dir():
            below = sorted(each.relative_to(path) for each in path.rglob("*") if each.is_file())
            found += [File(path / each, each.as_posix()) for each in below if not _hidden(each)]
        else:
            found.append(File(path, path.name))
    if not found:
        raise InputError(f"no file in {', '.join(map(str, paths))}: expected an image, or a folder of images")
    return _told_apart(found)


def _told_apart(found: list[File]) -> list[File]:
    """Return the files with names of which no two are equal: files of two folders may have one name."""
    taken: set[str] = set()
    for number, file in enumerate(found):
        name, again = file.name, 2
        while name in taken:
            name, again = str(Path(file.name).with_stem(f"{Path(file.name).stem}-{again}")), again + 1
        taken.add(name)
        found[number] = file._replace(name=name)
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_all(chunk: list[File], size: int, prepare: dict[str, Any]) -> list[list[Picture | Unreadable]]:
    """Return what is in each of some files."""
    return [read(file, size, prepare) for file in chunk]


def read(file: File, size: int, prepare: dict[str, Any]) -> list[Picture | Unreadable]:
    """Return the pictures of a file, each cut and resized as the prepare stage does it; or why there are none."""
    path = str(file.path)
    try:
        if not file.path.exists():
            raise DecodeError("no such file or folder")
        if not file.path.is_file():
            raise DecodeError("neither a file nor a folder")
        if file.path.stat().st_size > MAX_BYTES:
            raise DecodeError(f"larger than {MAX_BYTES:,} bytes")
        data = file.path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        found: list[Picture | Unreadable] = []
        for number, grey in enumerate(_levels(data, file.name, prepare["max_pixels"]), 1):
            if max(grey.shape) ** 2 > 4 * prepare["max_pixels"]:
                raise DecodeError(f"{grey.shape[1]} x {grey.shape[0]} pixels are too long and thin")
            image = square(grey, size, prepare["crop"], prepare["crop_threshold"])
            found.append(Picture(path, file.name, number, digest, image, describe(grey) or _nothing()))
    except DecodeError as error:
        return [Unreadable(path, str(error))]
    except OSError as error:
        return [Unreadable(path, f"cannot be read: {error.strerror or error}")]
    return found if len(found) > 1 else [each._replace(frame=None) for each in found if isinstance(each, Picture)]


def _levels(data: bytes, name: str, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the grey levels of each frame of a DICOM file, each page of a TIFF, or the one picture of another file."""
    if dicom.is_dicom(data, name):
        yield from dicom.frames(data, max_pixels)
    else:
        yield from (decode_grey(data, max_pixels, page) for page in range(pages(data)))


def _nothing() -> Described:
    return Described(np.zeros((VIEWS, SIDE, SIDE), np.int8), np.zeros((VIEWS, CELLS * CELLS), np.int8))
