"""The one pass over all files: each is read, hashed, decoded and described once, in parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from stages.runtime import ordered
from stages.shell.errors import InputError
from stages.verify.decode import DecodeError, decode
from stages.verify.describe import Described, describe

SPLITS = ("Testing", "Training", "Validation")  # in the order of their paths; the last need not be there
AHEAD = 8  # tasks a process that may be under way: they take unequally long
Row = dict[str, Any]


def files(root: Path, classes: Sequence[str]) -> list[str]:
    """Return the paths of all files, from `root`, sorted: <split>/<class>/<file>.

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
            names = sorted(entry.name for entry in (root / split / label).iterdir())
            if not names:
                raise InputError(f"{root / split / label} is empty: expected at least one image of this class")
            found += [f"{split}/{label}/{name}" for name in names]
    odd = next((path for path in found if not (root / path).is_file()), None)
    if odd:
        raise InputError(f"{root / odd} is not a file: expected {root}/<split>/<class>/<file>, and nothing deeper")
    return sorted(found)


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


def examine(path: str, root: Path, max_pixels: int) -> tuple[Row, Described | None]:
    """Return a file's row of the manifest, and its description where it has one."""
    data = (root / path).read_bytes()
    split, label, _ = path.split("/", 2)
    row: Row = {
        "path": path,
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
    }
    try:
        grey, row["mode"], row["format"] = decode(data, max_pixels)
    except DecodeError as error:
        row["status"] = str(error)
        return row, None
    row["height"], row["width"] = grey.shape
    row["pixel_sha256"] = hashlib.sha256(b"%d %d " % grey.shape + grey.tobytes()).hexdigest()
    row["flat"] = bool(grey.min() == grey.max())
    return row, describe(grey)


def scan(paths: Sequence[str], root: Path, max_pixels: int, pool: Executor) -> Iterator[tuple[Row, Described | None]]:
    """Yield row and description of each file, in the order of `paths`."""
    chunks = [paths[start : start + 32] for start in range(0, len(paths), 32)]
    for rows in ordered(pool, partial(_examine_all, root=root, max_pixels=max_pixels), chunks, AHEAD):
        yield from rows


def _examine_all(paths: Sequence[str], root: Path, max_pixels: int) -> list[tuple[Row, Described | None]]:
    return [examine(path, root, max_pixels) for path in paths]
