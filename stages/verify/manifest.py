"""From verdicts on pictures to what is written down for files: groups, kinds, nearest twins, pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from stages.verify.audit import Pairs
from stages.verify.scan import Row, same_bytes, splits_of
from stages.verify.turns import KINDS

FRAME = "frame"  # the column that is there where a file holds several pictures
COLUMNS = [
    *("path", FRAME, "split", "label", "sha256", "pixel_sha256", "width", "height", "mode", "format", "status"),
    *("patient", "group", "twin_kind", "twin_of", "similarity", "twin_in_training", "twin_in_testing"),
    *("neighbour_of", "neighbour_similarity", "twin_in_validation"),
]
PAIR_COLUMNS = ["path", "twin", "split", "twin_split", "label", "twin_label", "kind", "similarity"]
NEIGHBOUR = "neighbour"  # the kind of a pair that is no copy, but of one head
ORDER = ("byte", "pixel", *dict.fromkeys(KINDS))  # kinds of twins, the plainest first


class Link(NamedTuple):
    """What one file has to do with another."""

    kind: str
    similarity: float
    file: int  # the other's place in the rows
    same: bool  # a confirmed copy, not merely the nearest
    near: bool = False  # no copy, but of one head, about a slice apart

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
        self._near: dict[int, list[tuple[int, str, float, bool, bool]]] = defaultdict(list)
        for left, right, turn, similarity, *_, same, near in zip(*(field.tolist() for field in pairs), strict=True):
            self._near[left].append((right, KINDS[turn], similarity, same, near))
            self._near[right].append((left, KINDS[turn], similarity, same, near))
        self.firsts = [self._first_of_each_split(files) for files in members]

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
            kind = "byte" if same_bytes(self.rows[file]) == same_bytes(self.rows[other]) else "pixel"
            yield Link(kind, 1.0, other, True)
        for picture, kind, similarity, same, near in self._near[number]:
            for other in self.firsts[picture]:
                yield Link(kind, similarity, other, same, near)

    def _equals(self, file: int, files: list[int]) -> list[int]:
        """Return the first other file of each split, and of each split the first with the same bytes."""
        chosen: dict[tuple[str, bool], int] = {}
        for other in files:
            if other != file:
                alike = same_bytes(self.rows[file]) == same_bytes(self.rows[other])
                chosen.setdefault((self.rows[other]["split"], alike), other)
        return sorted(set(chosen.values()))


def manifest(rows: list[Row], links: Links, groups: list[int], patients: Mapping[str, str]) -> pd.DataFrame:
    """Return data/manifest.csv: one line a file, with its patient ("" where unknown), its group and its nearest twin.

    For a test or validation file the twin is sought in Training, and the nearest is named even if it is no copy
    (`twin_kind` is then `none`). For a training file it is sought everywhere, and only copies are named. The neighbour
    is the most similar file of another group that shows the same head: for a test or validation file in Training, for a
    training file anywhere. `twin_in_validation` is there where the study has a Validation, `frame` where a file holds
    several pictures. `patients` is by file; one of several pictures whose patient is unknown is a patient's own.
    """
    lines, known = [], splits_of(rows)
    absent = {*([] if any(row[FRAME] for row in rows) else [FRAME]), *([] if len(known) > 2 else COLUMNS[-1:])}
    for file, row in enumerate(rows):
        found = sorted(links.of(file), key=Link.rank)
        splits = {rows[link.file]["split"] for link in found if link.same}
        lines.append(
            {
                **row,
                "patient": patients.get(row["file"]) or (row["file"] if row[FRAME] else ""),
                "group": groups[file],
                **_nearest(rows, row["split"], found),
                **{f"twin_in_{split.lower()}": int(split in splits) for split in known},
                **_neighbour(rows, row["split"], [link for link in found if is_neighbour(file, link, groups)]),
            }
        )
    return pd.DataFrame(lines, columns=[column for column in COLUMNS if column not in absent])


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


def is_neighbour(file: int, link: Link, groups: list[int]) -> bool:
    """Tell whether a link is to another slice of the same head; in one group they are copies by way of others."""
    return link.near and groups[file] != groups[link.file]


def _neighbour(rows: list[Row], split: str, found: list[Link]) -> dict[str, Any]:
    named = [link for link in found if "Training" in (split, rows[link.file]["split"])]
    if not named:
        return {"neighbour_of": "", "neighbour_similarity": ""}
    best = max(named, key=lambda link: (link.similarity, -link.file))
    return {"neighbour_of": rows[best.file]["path"], "neighbour_similarity": f"{best.similarity:.4f}"}


def neighbour_table(rows: list[Row], links: Links, groups: list[int]) -> pd.DataFrame:
    """Return all pairs of neighbours, as `pair_table` does copies."""
    firsts = [file for files in links.firsts for file in files]
    found = {
        (min(file, link.file), max(file, link.file)): link._replace(kind=NEIGHBOUR)
        for file in firsts
        for link in links.of(file)
        if is_neighbour(file, link, groups)
    }
    return _table(rows, found)


def pair_table(rows: list[Row], links: Links) -> pd.DataFrame:
    """Return every confirmed pair of copies, the smaller path first; of equal files the first of each split."""
    found: dict[tuple[int, int], Link] = {}
    for file in range(len(rows)):
        equal = file in links.picture and file not in links.firsts[links.picture[file]]
        for link in links.of(file):
            if link.same and not (equal and link.kind not in ("byte", "pixel")):
                found.setdefault((min(file, link.file), max(file, link.file)), link)
    return _table(rows, found)


def _table(rows: list[Row], found: dict[tuple[int, int], Link]) -> pd.DataFrame:
    lines = []
    for (one, two), link in sorted(found.items()):
        a, b = rows[one], rows[two]
        names = [row[key] for key in ("path", "split", "label") for row in (a, b)]
        lines.append((*names, link.kind, f"{link.similarity:.4f}"))
    return pd.DataFrame(lines, columns=PAIR_COLUMNS)
