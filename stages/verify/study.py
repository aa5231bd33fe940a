"""The whole stage as one function: a folder of images -> manifest, pairs, descriptors, counts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages import runtime
from stages.shell.errors import InputError
from stages.verify.audit import Pairs, Pictures, audit
from stages.verify.describe import CELLS, VIEWS
from stages.verify.frames import FRAMES, SIDE
from stages.verify.groups import group_files
from stages.verify.integrity import integrity
from stages.verify.manifest import Links, manifest, neighbour_table, pair_table
from stages.verify.pictures import Gathered, gather
from stages.verify.scan import Row, files, scan
from stages.verify.schema import Params, VerifyParams


class Examined(NamedTuple):
    """What the stage found out."""

    manifest: pd.DataFrame
    pairs: pd.DataFrame  # copies
    neighbours: pd.DataFrame  # pairs of one head, about a slice apart
    integrity: dict[str, Any]
    descriptors: NDArray[np.int8]  # [files, VIEWS, CELLS * CELLS]; zeros where a file has none

    def save_descriptors(self, handle: BinaryIO) -> None:
        """Write the descriptors as .npy."""
        np.save(handle, self.descriptors)


def examine_study(
    root: Path, params: Params, workers: int, patients: Mapping[str, str] = MappingProxyType({})
) -> Examined:
    """Hash, decode, describe and compare all files under `root`; the same result for any number of workers.

    `patients` is {path below `root`: patient} of the files whose patient is known.

    Raises
    ------
    InputError
        For folders that are not as expected, and for more files that cannot be decoded than allowed.
    """
    paths = files(root, params.classes)
    check_counts(paths, params.verify)
    # fork: safe here, as no thread computes yet; and a worker starts in milliseconds.
    with _scratch(root.parent) as scratch, runtime.pool(workers, "fork") as pool:
        rows, descriptors, frames, order = _scan_to(scratch, paths, root, params.verify, pool)
        gathered = gather(rows, [bool(each.any()) for each in descriptors])
        pairs = audit(_pictures(scratch, gathered, descriptors, frames, order), params.verify.twins, pool)
    return _examined(rows, gathered, pairs, descriptors, patients)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """Yield a folder that is removed at the end, and where this process is killed by the next one that runs here."""
    for stale in beside.glob(".verify.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".verify.", suffix=".part") as folder:
        yield Path(folder)


def check_counts(paths: list[str], verify: VerifyParams) -> None:
    """Compare the number of files in each class with `verify.expected`, where that is given."""
    for split, classes in (verify.expected or {}).items():
        for label, count in classes.items():
            found = sum(path.startswith(f"{split}/{label}/") for path in paths)
            if found != count:
                where = f"data/raw/{split}/{label}"
                raise InputError(f"{where} has {found} files, expected {count} (verify.expected in params.yaml)")


def _scan_to(
    scratch: Path, paths: list[str], root: Path, verify: VerifyParams, pool: Executor
) -> tuple[list[Row], NDArray[np.int8], NDArray[np.int8], NDArray[np.int64]]:
    """Scan all files; their views go to a file in `scratch`, so that memory does not grow with them.

    Returns the rows in the manifest's order, descriptors and frames in that order, and of each row its place in the
    file of views.
    """
    descriptors, frames = bytearray(), bytearray()
    rows, bad = [], []
    blank = (bytes(VIEWS * SIDE * SIDE), bytes(VIEWS * CELLS * CELLS), bytes(len(FRAMES) * CELLS * CELLS))
    with (scratch / "views").open("wb") as views:
        for row, described in scan(paths, root, verify, pool):
            rows.append(row)
            view, each, parts = blank if described is None else (field.tobytes() for field in described)
            views.write(view)
            descriptors += each
            frames += parts
            if row["status"] != "ok":
                bad.append(row)
    if len(bad) > verify.max_quarantined:
        raise InputError(_too_many(bad, root, verify.max_quarantined))
    _no_two_of_one_name(rows)
    order = sorted(range(len(rows)), key=lambda number: rows[number]["order"])
    found = np.frombuffer(descriptors, np.int8).reshape(-1, VIEWS, CELLS * CELLS)
    framed = np.frombuffer(frames, np.int8).reshape(-1, len(FRAMES), CELLS * CELLS)
    if order != list(range(len(rows))):
        rows, found, framed = [rows[number] for number in order], found[order], framed[order]
    return rows, found, framed, np.array(order, np.int64)


def _no_two_of_one_name(rows: list[Row]) -> None:
    """Refuse a file that is called as another's picture is: `a#2` beside `a`, which holds several."""
    known: set[str] = set()
    for row in rows:
        if row["path"] in known:
            raise InputError(f"data/raw/{row['path']} is both a file and a picture in another: rename it in the source")
        known.add(row["path"])


def _too_many(bad: list[Row], root: Path, allowed: int) -> str:
    first = "; ".join(f"{root / row['path']}: {row['status']}" for row in bad[:3])
    return (
        f"{len(bad)} files cannot be used, at most {allowed} are allowed (verify.max_quarantined): {first}"
        f"{'; ...' if len(bad) > 3 else ''}"
    )


def _pictures(
    scratch: Path,
    gathered: Gathered,
    descriptors: NDArray[np.int8],
    frames: NDArray[np.int8],
    order: NDArray[np.int64],
) -> Pictures:
    rows = np.array([files[0] for files in gathered.members[: gathered.searched]], np.int64)
    pictures = Pictures(
        scratch / "descriptors.npy",
        scratch / "frames.npy",
        scratch / "views",
        scratch / "rows.npy",
        scratch / "inside.npy",
        gathered.searched,
    )
    np.save(pictures.descriptors, descriptors[rows])
    np.save(pictures.frames, frames[rows])
    np.save(pictures.rows, order[rows])
    np.save(pictures.inside, gathered.inside)
    return pictures


def _examined(
    rows: list[Row], gathered: Gathered, pairs: Pairs, descriptors: NDArray[np.int8], patients: Mapping[str, str]
) -> Examined:
    links = Links(rows, gathered.members, pairs)
    copies = pair_table(rows, links)
    place = {row["path"]: number for number, row in enumerate(rows)}
    joined = [(place[one], place[two]) for one, two in zip(copies.path, copies.twin, strict=True)]
    groups = group_files(len(rows), joined)
    listed = manifest(rows, links, groups, patients)
    neighbours = neighbour_table(rows, links, groups)
    return Examined(listed, copies, neighbours, integrity(listed, copies, neighbours), descriptors)
