"""Which files are meant, and what pictures are in them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages import runtime
from stages.fetch.layout import is_directory
from stages.prepare.image import square
from stages.prepare.schema import Prepare
from stages.shell.errors import InputError
from stages.verify.decode import DecodeError
from stages.verify.describe import CELLS, VIEWS, Described, describe
from stages.verify.frames import FRAMES, SIDE
from stages.verify.picture import TAKEN, Axis, pictures

MAX_BYTES = 500_000_000  # of one file, which is read whole
SECONDS = 120  # for one file
QUALITY = 88  # of JPEGs for people


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
    shown: bytes = b""  # the same square as JPEG, where somebody wants to look at it


class Unreadable(NamedTuple):
    """A file that gives no picture, and why."""

    path: str
    reason: str


Work = Callable[[list[File]], list[list[Picture | Unreadable]]]  # picklable


def files(paths: list[Path]) -> list[File]:
    """Return the files meant by `paths`, folders walked in the order of their names.

    Hidden files in them are left out, and DICOM's tables of contents.
    """
    found: list[File] = []
    for path in paths:
        if _is_folder(path):
            found += [File(path / each, each.as_posix()) for each in _below(path) if not _passed_over(each)]
        else:
            found.append(File(path, path.name))
    if not found:
        raise InputError(f"no file in {', '.join(map(str, paths))}: expected an image, or a folder of images")
    return _told_apart(found)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:  # too long a name, or above it a folder that may not be looked into: `read` says so
        return False


def _below(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted, and the folders that may not be looked into, which `read` names.

    Links to folders are followed; a folder is looked into once, however many lead there.
    """
    found: list[Path] = []
    seen: set[str] = set()
    closed = lambda error: found.append(Path(error.filename))  # noqa: E731
    for where, inner, names in os.walk(folder, onerror=closed, followlinks=True):
        if (real := os.path.realpath(where)) in seen:
            inner.clear()
            continue
        seen.add(real)
        links = {name for name in inner if os.path.islink(Path(where, name))}  # noqa: PTH114  Path's raises
        inner.sort(key=lambda name: (name in links, name))  # which is to be reached by its own name goes first
        found += [Path(where, name) for name in names]
    return sorted(each.relative_to(folder) for each in found)


def _told_apart(found: list[File]) -> list[File]:
    """Return the files with names of which no two are equal: files of two folders may have one name."""
    taken: set[str] = set()
    again: dict[str, int] = {}  # the next number to try: of a thousand folders of one series, not from the first on
    for number, file in enumerate(found):
        name = file.name
        while name in taken:
            again[file.name] = again.get(file.name, 1) + 1
            name = str(Path(file.name).with_stem(f"{Path(file.name).stem}-{again[file.name]}"))
        taken.add(name)
        found[number] = file._replace(name=name)
    return found


def _passed_over(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or is_directory(path.parts)


def read_all(chunk: list[File], size: int, prepare: Prepare, axis: Axis = TAKEN) -> list[list[Picture | Unreadable]]:
    """Return what is in each of some files, one of which may take SECONDS; in a process's main thread only."""
    return [_in_time(file, size, prepare, axis) for file in chunk]


def _in_time(file: File, size: int, prepare: Prepare, axis: Axis) -> list[Picture | Unreadable]:
    late = DecodeError(f"takes more than {SECONDS} s to decode")
    try:
        with runtime.limited(SECONDS, late):
            return read(file, size, prepare, axis=axis)
    except DecodeError:  # where no decoder was at work
        return [Unreadable(str(file.path), str(late))]


def surviving(work: Work, chunks: Sequence[list[File]]) -> Iterator[list[Picture | Unreadable]]:
    """Yield what `work` finds in each file of each chunk, in order; one whose decoder ends its process is Unreadable.

    A chunk alone is read in this process, where such a file still ends the command.
    """
    left = list(chunks)
    while left:
        done = 0
        try:
            for found in runtime.in_order(work, left, here=True):
                done += 1
                yield from found
            return
        except BrokenExecutor:  # somebody ended: of the chunk that is due each file is read by a process of its own
            yield from (_alone(work, file) for file in left[done])
            left = left[done + 1 :]


def _alone(work: Work, file: File) -> list[Picture | Unreadable]:
    try:
        with runtime.Processes(1) as process:
            return process.submit(work, [file]).result()[0]
    except BrokenExecutor:
        return [Unreadable(str(file.path), "its decoder crashed on it, or memory was short")]


def read(file: File, size: int, prepare: Prepare, shown: int = 0, axis: Axis = TAKEN) -> list[Picture | Unreadable]:
    """Return the pictures of a file, each cut and resized as the prepare stage does it; or why there are none.

    With `shown` each has a JPEG of that many pixels a side for people too. `axis` is that of a volume's slices.
    """
    path = str(file.path)
    try:
        if not file.path.exists():
            raise DecodeError("no such file or folder")
        if file.path.is_dir():
            raise DecodeError("this folder may not be looked into")
        if not file.path.is_file():
            raise DecodeError("neither a file nor a folder")
        if file.path.stat().st_size > MAX_BYTES:
            raise DecodeError(f"larger than {MAX_BYTES:,} bytes")
        data = file.path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        found: list[Picture | Unreadable] = []
        for number, decoded in enumerate(pictures(data, file.name, prepare.max_pixels, axis), 1):
            grey = decoded.grey
            if max(grey.shape) ** 2 > 4 * prepare.max_pixels:
                raise DecodeError(f"{grey.shape[1]} x {grey.shape[0]} pixels are too long and thin")
            image = square(grey, size, prepare.crop, prepare.crop_threshold)
            look = jpeg(grey, shown, prepare) if shown else b""
            described = describe(decoded.compared) or _nothing()
            found.append(Picture(path, file.name, number, digest, image, described, look))
    except DecodeError as error:
        return [Unreadable(path, str(error))]
    except OSError as error:
        return [Unreadable(path, f"cannot be read: {error.strerror or error}")]
    return found if len(found) > 1 else [each._replace(frame=None) for each in found if isinstance(each, Picture)]


def jpeg(grey: NDArray[np.uint8], side: int, prepare: Prepare) -> bytes:
    """Return a picture, uint8 [H, W], cut as the network sees it, as JPEG of `side` pixels a side."""
    out = io.BytesIO()
    Image.fromarray(square(grey, side, prepare.crop, prepare.crop_threshold)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _nothing() -> Described:
    return Described(
        np.zeros((VIEWS, SIDE, SIDE), np.int8),
        np.zeros((VIEWS, CELLS * CELLS), np.int8),
        np.zeros((len(FRAMES), CELLS * CELLS), np.int8),
    )
