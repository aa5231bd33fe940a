"""A file's bytes -> all pictures in it: DICOM's frames, NIfTI's slices, TIFF's pages, or the one of another file.

A picture's address stands in the column `path` of every table: the path of a file with one picture, and of one with
several that path with `#` and the frame's number behind it, from 1: scan.nii.gz#12. Where slices of a volume are not
those that were taken, the axis stands before the number: scan.nii.gz#coronal12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from stages.scans import is_dicom
from stages.verify import dicom, nifti
from stages.verify.decode import Decoded, DecodeError, decode, pages

Axis = Literal["taken", "axial", "coronal", "sagittal"]
TAKEN: Axis = "taken"  # the direction in which a volume's slices were taken
PLANES: tuple[Axis, ...] = ("axial", "coronal", "sagittal")
TIFF = (b"II", b"MM")


def pictures(data: bytes, name: str, max_pixels: int, axis: Axis = TAKEN) -> Iterator[Decoded]:
    """Yield the pictures of a file's bytes, in the file's own order; `axis` is that of a volume's slices.

    Raises
    ------
    DecodeError
        The reason in one line, without the file's name, and without what its header says of a person.
    """
    if is_dicom(data, name):
        yield from (Decoded(grey, "L", "DICOM") for grey in dicom.frames(data, max_pixels))
    elif nifti.is_nifti(data, name):
        yield from (Decoded(grey, "L", "NIfTI") for grey in nifti.slices(data, max_pixels, axis))
    else:
        count = pages(data) if data.startswith(TIFF) else 1
        if count > dicom.MAX_FRAMES:
            raise DecodeError(f"{count} pages: expected 1 to {dicom.MAX_FRAMES}")
        yield from (decode(data, max_pixels, page) for page in range(count))


def frame(at: int, axis: Axis = TAKEN) -> str:
    """Return what stands behind the `#` of an address, and in the column `frame`.

    Examples
    --------
    >>> frame(12), frame(3, "axial")
    ('12', 'axial3')
    """
    return f"{'' if axis == TAKEN else axis}{at}"


def number(which: str) -> int:
    """Return the number in what `frame` returned; 1 of a file's only picture."""
    return int(which.lstrip("acdgilnorst") or 1)


def address(path: str, which: str) -> str:
    """Return the address of a file's picture; that of its only one where `which` is empty."""
    return f"{path}#{which}" if which else path


def located(root: Path, place: str) -> tuple[Path, Axis, int]:
    """Return the file below `root` that an address means, the axis, and the number of the picture from 1."""
    if (root / place).is_file():
        return root / place, TAKEN, 1
    file, _, which = place.rpartition("#")
    if not file or not re.fullmatch("(axial|coronal|sagittal)?[1-9][0-9]{0,4}", which):
        return root / place, TAKEN, 1
    axis = next((each for each in PLANES if which.startswith(each)), TAKEN)
    return root / file, axis, number(which)


def read(root: Path, place: str, max_pixels: int) -> Decoded:
    """Return the picture at an address below `root`.

    Raises
    ------
    DecodeError
        Where the file gives no such picture.
    OSError
        Where it cannot be read.
    """
    return next(read_all(root, [place], max_pixels))


def read_all(root: Path, places: Sequence[str], max_pixels: int) -> Iterator[Decoded]:
    """Yield the pictures at addresses, as `read` does; a file is decoded once for all of it that follow each other."""
    known = ((located(root, place), place) for place in places)
    for (file, axis), group in groupby(known, key=lambda each: each[0][:2]):
        yield from _chosen(pictures(file.read_bytes(), file.name, max_pixels, axis), [at[2] for at, _ in group])


def _chosen(found: Iterable[Decoded], numbers: Sequence[int]) -> Iterator[Decoded]:
    """Yield those of a file's pictures, in the order of `numbers`; a later one is kept until then."""
    kept: dict[int, Decoded] = {}
    all_of_it, wanted = enumerate(found, 1), set(numbers)
    for each in numbers:
        while each not in kept:
            at, picture = next(all_of_it, (0, None))
            if picture is None:
                raise DecodeError(f"it has no picture number {each}")
            if at in wanted:
                kept[at] = picture
        yield kept[each]


def whole_files(places: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield addresses in runs of `size`, longer where a file's pictures would fall into two: it is decoded once.

    Examples
    --------
    >>> list(whole_files(["a", "b#1", "b#2", "b#3", "c"], 2))
    [['a', 'b#1', 'b#2', 'b#3'], ['c']]
    """
    run: list[str] = []
    for _, group in groupby(places, key=lambda place: place.rpartition("#")[0] or place):
        run += group
        if len(run) >= size:
            yield run
            run = []
    if run:
        yield run
