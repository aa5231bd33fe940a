"""Files with equal pixels show one picture: which files those are, and in what order pictures are searched."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.scan import Row, same_bytes, splits_of


class Gathered(NamedTuple):
    """Pictures and their files."""

    members: list[list[int]]  # files (places in the rows) of each picture, those that can be searched first
    searched: int  # so many pictures have a description
    inside: NDArray[np.bool_]  # [splits, searched]: whether a picture has a file in each split


def gather(rows: list[Row], described: list[bool]) -> Gathered:
    """Put files of equal pixels together.

    Pictures of one single grey level are put together only where the files are equal: they show nothing, so two of
    them are not copies of each other by having the same size.
    """
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row["status"] == "ok":
            found.setdefault(same_bytes(row) if row["flat"] else row["pixel_sha256"], []).append(number)
    splits = splits_of(rows)
    order = sorted(found.values(), key=lambda files: (not described[files[0]], _rank(rows, files), files[0]))
    searched = [{rows[number]["split"] for number in files} for files in order if described[files[0]]]
    inside = np.array([[split in present for present in searched] for split in splits], np.bool_)
    return Gathered(order, len(searched), inside.reshape(len(splits), len(searched)))


def _rank(rows: list[Row], files: list[int]) -> int:
    """0: in Testing alone, 1: in Testing and elsewhere, 2: not in Testing."""
    present = {rows[number]["split"] for number in files}
    return 2 if "Testing" not in present else int(len(present) > 1)
