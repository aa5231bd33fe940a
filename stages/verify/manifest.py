"""From verdicts on pictures to what is written down for files: groups, kinds, nearest twins, pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from stages.verify.audit import Pairs
from stages.verify.scan import Row, splits_of
from stages.verify.turns import KINDS

COLUMNS = [
    *("path", "split", "label", "sha256", "pixel_sha256", "width", "height", "mode", "format", "status"),
    *("group", "twin_kind", "twin_of", "similarity", "twin_in_training", "twin_in_testing", "twin_in_validation"),
]
PAIR_COLUMNS = ["path", "twin", "split", "twin_split", "label", "twin_label", "kind", "similarity"]
ORDER = ("byte", "pixel", *dict.fromkeys(KINDS))  # kinds of twins, the plainest first


class Link(NamedTuple):
    """What one file has to do with another."""

    kind: str
    similarity: float
    file: int  # the other's place in the rows
    same: bool  # a confirmed copy, not merely the nearest

    def rank(self) -> tuple[bool, int, float, int]:
        """Sort key, best first: equal bytes, equal pixels, then by similarity, then by path."""
        return not self.same, min(ORDER.index(self.kind), 2), -self.similarity, self.file


class Links:
    """The direct links of every file: to files of equal pixels, and to those that a search found.

    Of many files with equal pixels only the first of each split is linked to, so that n equal files make n links.
    """

    def __init__(self, rows: list[Row], members: list[list[int]], pairs: Pairs) -> None:
        self.rows, self.members = rows, members
        self.picture = {file: number for number, files in enumerate(members) for file in files}
        self._near: dict[int, list[tuple[int, str, float, bool]]] = defaultdict(list)
        for left, right, turn, similarity, _, same in zip(*(field.tolist() for field in pairs), strict=True):
            self._near[left].append((right, KINDS[turn], similarity, same))
            self._near[right].append((left, KINDS[turn], similarity, same))
        self._firsts = [self._first_of_each_split(files) for files in members]

    def _first_of_each_split(self, files: list[int]) -> list[int]:
        firsts: dict[str, int] = {}
        for file in files:
            firsts.setdefault(self.rows[file]["split"], file)
        return sorted(firsts.values())

    def of(self, file: int) -> Iterator[Link]:
        """Yield the links of a file, which is no end of a quarantined one."""
        if file not in self.picture:
            return
        number = self.picture[file]
        for other in self._equals(file, self.members[number]):
            kind = "byte" if self.rows[file]["sha256"] == self.rows[other]["sha256"] else "pixel"
            yield Link(kind, 1.0, other, True)
        for picture, kind, similarity, same in self._near[number]:
            for other in self._firsts[picture]:
                yield Link(kind, similarity, other, same)

    def _equals(self, file: int, files: list[int]) -> list[int]:
        """Return the first other file of each split, and of each split the first with the same bytes."""
        chosen: dict[tuple[str, bool], int] = {}
        for other in files:
            if other != file:
                alike = self.rows[file]["sha256"] == self.rows[other]["sha256"]
                chosen.setdefault((self.rows[other]["split"], alike), other)
        return sorted(set(chosen.values()))


def manifest(rows: list[Row], links: Links, groups: list[int]) -> pd.DataFrame:
    """Return data/manifest.csv: one line a file, with its group and its nearest twin.

    For a test or validation file the twin is sought in Training, and the nearest is named even if it is no copy
    (`twin_kind` is then `none`). For a training file it is sought everywhere, and only copies are named.
    `twin_in_validation` is there where the study has a Validation.
    """
    lines, known = [], splits_of(rows)
    for file, row in enumerate(rows):
        found = sorted(links.of(file), key=Link.rank)
        splits = {rows[link.file]["split"] for link in found if link.same}
        lines.append(
            {
                **row,
                "group": groups[file],
                **_nearest(rows, row["split"], found),
                **{f"twin_in_{split.lower()}": int(split in splits) for split in known},
            }
        )
    return pd.DataFrame(lines, columns=COLUMNS[: len(COLUMNS) - (len(known) < 3)])


def _nearest(rows: list[Row], split: str, found: list[Link]) -> dict[str, Any]:
    if split != "Training":
        named = [link for link in found if rows[link.file]["split"] == "Training"]
    else:
        named = [link for link in found if link.same]
    if not named:
        return {"twin_kind": "none", "twin_of": "", "similarity": ""}
    best = named[0]
    return {
        "twin_kind": best.kind if best.same else "none",
        "twin_of": rows[best.file]["path"],
        "similarity": f"{best.similarity:.4f}",
    }


def pair_table(rows: list[Row], links: Links) -> pd.DataFrame:
    """Return data/pairs.csv: every confirmed pair, the smaller path first; of equal files the first of each split."""
    found: dict[tuple[int, int], Link] = {}
    for file in range(len(rows)):
        equal = file in links.picture and file not in links._firsts[links.picture[file]]
        for link in links.of(file):
            if link.same and not (equal and link.kind not in ("byte", "pixel")):
                found.setdefault((min(file, link.file), max(file, link.file)), link)
    lines = []
    for (one, two), link in sorted(found.items()):
        a, b = rows[one], rows[two]
        names = [row[key] for key in ("path", "split", "label") for row in (a, b)]
        lines.append((*names, link.kind, f"{link.similarity:.4f}"))
    return pd.DataFrame(lines, columns=PAIR_COLUMNS)


def group_files(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return each file's group number, 0 on in the order of first files, joining all that a chain of pairs connects.

    Union-find (Tarjan 1975).

    Examples
    --------
    >>> group_files(5, [(0, 3), (3, 4)])
    [0, 1, 2, 0, 0]
    """
    parent = list(range(count))

    def root(file: int) -> int:
        while parent[file] != file:
            parent[file] = file = parent[parent[file]]
        return file

    for one, two in pairs:
        one, two = sorted((root(one), root(two)))
        parent[two] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(file), len(numbers)) for file in range(count)]
