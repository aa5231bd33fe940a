"""Files with equal pixels show one picture: which files those are, and in what order pictures are searched."""

from __future__ import annotations

from typing import NamedTuple

from stages.verify.scan import SPLITS, Row


class Gathered(NamedTuple):
    """Pictures and their files."""

    members: list[list[int]]  # files (places in the rows) of each picture, those that can be searched first
    searched: int  # so many pictures have a description
    testing: int  # of the searched, 0..testing have a file in Testing
    training: int  # and training..searched have one in Training


def gather(rows: list[Row], described: list[bool]) -> Gathered:
    """Put files of equal pixels together.

    Pictures of one single grey level are put together only where the files are equal: they show nothing, so two of
    them are not copies of each other by having the same size.
    """
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row["status"] == "ok":
            found.setdefault(row["sha256"] if row["flat"] else row["pixel_sha256"], []).append(number)
    order = sorted(found.values(), key=lambda files: (not described[files[0]], _splits(rows, files), files[0]))
    ranks = [_splits(rows, files) for files in order if described[files[0]]]
    return Gathered(order, len(ranks), sum(rank < 2 for rank in ranks), sum(rank < 1 for rank in ranks))


def _splits(rows: list[Row], files: list[int]) -> int:
    """0: in Testing alone, 1: in both, 2: in Training alone."""
    present = {rows[number]["split"] for number in files}
    return 1 if len(present) == 2 else 2 * SPLITS.index(present.pop())
