"""The one pass over all files: each is read, hashed, decoded and described once, in parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import runtime
from stages.shell.errors import InputError
from stages.verify import dicom, nifti, picture
from stages.verify.decode import Decoded, DecodeError
from stages.verify.describe import Described, describe
from stages.verify.schema import VerifyParams, Volumes

SPLITS = ("Testing", "Training", "Validation")  # in the order of their paths; the last need not be there
FOREGROUND = 25  # grey level: a tenth of white
SECONDS = 300  # for the pictures of one file
FILES, BYTES = 32, 4_000_000  # of a task: at most so many files, and no more after so many bytes
AHEAD = 8  # tasks a process that may be under way: they take unequally long
Row = dict[str, Any]


def files(root: Path, classes: Sequence[str]) -> list[str]:
    """Return the paths of all files, from `root`, sorted: <split>/<class>/<file>, series also in folders below that.

    Raises
    ------
    InputError
        Where a split or class folder is missing, unknown or empty, or holds something that is no file.
    """
    splits = SPLITS if (root / SPLITS[2]).exists() else SPLITS[:2]
    _expect(root, splits, "a split")
    found: list[str] = []
    for split in splits:
        _expect(root / split, classes, "a class (params.yaml: classes)")
        for label in sorted(classes):
            names = list(_below(root / split / label))
            if not names:
                raise InputError(f"{root / split / label} is empty: expected at least one image of this class")
            found += [f"{split}/{label}/{name}" for name in names]
    odd = next((path for path in found if not (root / path).is_file()), None)
    if odd:
        raise InputError(f"{root / odd} is not a file: expected {root}/<split>/<class>/ and files, or series of them")
    return sorted(found)


def _below(folder: Path) -> Iterator[str]:
    """Yield the paths in a folder, from it, of whatever is no folder, and of empty folders."""
    for entry in sorted(folder.iterdir()):
        inside = [f"{entry.name}/{name}" for name in _below(entry)] if entry.is_dir() else []
        yield from inside or [entry.name]


def _expect(folder: Path, names: Sequence[str], what: str) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}/ not found: expected <split>/<class>/<file> in data/raw")
    found = sorted(entry.name for entry in folder.iterdir())
    missing = sorted(set(names) - set(found))
    unknown = sorted(set(found) - set(names))
    if missing:
        raise InputError(f"{folder}/ has no folder {missing[0]!r}; found {', '.join(found[:8]) or 'nothing'}")
    if unknown:
        raise InputError(f"{folder / unknown[0]} is not {what}; expected {', '.join(names)} and nothing else")


def splits_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the splits that a study has, from its rows or manifest lines."""
    return SPLITS if any(row["split"] == SPLITS[2] for row in rows) else SPLITS[:2]


def same_bytes(row: Row) -> str:
    """Return what is equal of two pictures in equal files, at the same place there."""
    return f"{row['sha256']}{row['frame']}"


def examine(path: str, root: Path, verify: VerifyParams) -> list[tuple[Row, Described | None]]:
    """Return the manifest's row of each picture in a file, and its description where it has one.

    Beside the manifest's columns a row has `file`, the path of its file; `flat`; and `order`, by which rows are sorted:
    slices of a series by their place in it.
    """
    data = (root / path).read_bytes()
    split, label, _ = path.split("/", 2)
    common: Row = {
        "path": path,
        "frame": "",
        "split": split,
        "label": label,
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixel_sha256": "",
        "width": 0,
        "height": 0,
        "mode": "",
        "format": "",
        "status": "ok",
        "flat": False,
        "file": path,
        "order": (path,),
    }
    try:
        with runtime.limited(SECONDS, DecodeError(f"takes more than {SECONDS} s to decode")):
            found = _used(data, path, verify)
    except DecodeError as error:
        return [(common | {"status": str(error)}, None)]
    places = _orders(data, path, found)
    return [(common | row | {"order": place}, described) for (row, described), place in zip(found, places, strict=True)]


def _used(data: bytes, path: str, verify: VerifyParams) -> list[tuple[Row, Described | None]]:
    """Return what differs from row to row, of the pictures that the study uses; DecodeError where there is none."""
    volume = nifti.is_nifti(data, path)
    chosen = verify.volumes if volume else Volumes(foreground=0)
    axis, every, least = chosen.axis, chosen.every, chosen.foreground
    found, number = [], 0
    for number, decoded in enumerate(picture.pictures(data, path, verify.max_pixels, axis), 1):
        if (number - 1) % every == 0 and (not least or foreground(decoded.grey) >= least):
            found.append((_row(decoded, path, picture.frame(number, axis)), describe(decoded.compared)))
    if not found:
        raise DecodeError(f"none of its {number} slices has {least:g} of foreground (verify.volumes in params.yaml)")
    if number == 1 and axis == picture.TAKEN:
        found[0][0].update(path=path, frame="")
    return found


def _row(decoded: Decoded, path: str, frame: str) -> Row:
    grey = decoded.grey
    return {
        "path": picture.address(path, frame),
        "frame": frame,
        "pixel_sha256": _digest(grey),
        "width": grey.shape[1],
        "height": grey.shape[0],
        "mode": decoded.mode,
        "format": decoded.format,
        "flat": bool(grey.min() == grey.max()),
    }


def _digest(grey: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a picture's size and pixels, uint8 [H, W]."""
    digest = hashlib.sha256(b"%d %d " % grey.shape)
    digest.update(np.ascontiguousarray(grey).data)
    return digest.hexdigest()


def foreground(grey: NDArray[np.uint8]) -> float:
    """Return the share of a slice, uint8 [H, W], that is over a tenth of its volume's white."""
    return float((grey > FOREGROUND).mean())


def _orders(data: bytes, path: str, found: list[tuple[Row, Described | None]]) -> list[tuple[Any, ...]]:
    """Return the sort key of each row: folder, series, place along it; of what is no series, its path."""
    numbers = [picture.number(row["frame"]) for row, _ in found]
    if found[0][0]["format"] != "DICOM":
        return [(path, number) for number in numbers]
    stack = dicom.stack(data, max(numbers))
    if not stack.positions:
        return [(path, number) for number in numbers]
    folder = path.rpartition("/")[0]
    return [(f"{folder}/", stack.series, stack.positions[number - 1], path, number) for number in numbers]


def scan(
    paths: Sequence[str], root: Path, verify: VerifyParams, pool: Executor
) -> Iterator[tuple[Row, Described | None]]:
    """Yield row and description of each picture, in the order of `paths`."""
    work = partial(_examine_all, root=root, verify=verify)
    for rows in runtime.ordered(pool, work, _chunks(paths, root), AHEAD):
        yield from rows


def _chunks(paths: Sequence[str], root: Path) -> Iterator[list[str]]:
    """Yield files in runs that are one task each: few of them where they are large, for they may hold many pictures."""
    run: list[str] = []
    size = 0
    for path in paths:
        run, size = [*run, path], size + (root / path).stat().st_size
        if len(run) == FILES or size > BYTES:
            yield run
            run, size = [], 0
    if run:
        yield run


def _examine_all(paths: Sequence[str], root: Path, verify: VerifyParams) -> list[tuple[Row, Described | None]]:
    return [each for path in paths for each in examine(path, root, verify)]
