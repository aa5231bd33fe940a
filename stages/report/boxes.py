"""Where the tumour is, by a table of boxes, in the square that the network sees; and whether heat lies there."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.prepare.image import head_box
from stages.prepare.schema import Prepare
from stages.report import page
from stages.report.gradcam import SIDE
from stages.report.schema import Boxes
from stages.shell.errors import InputError

COLUMNS = ("path", "left", "top", "right", "bottom")
SHOWN = 12  # pictures on the page
Looked = dict[str, tuple[np.ndarray, np.ndarray]]  # path -> image [S, S], overlay [H, W, 3]
LINE = (0, 255, 255)  # colour of a box, which no heat has


class Box(NamedTuple):
    """A bounding box: as fractions of a picture's width and height, or in pixels of a square."""

    left: float
    top: float
    right: float
    bottom: float


def read(settings: Boxes | None, folder: Path | str = ".") -> dict[str, Box]:
    """Return {path below data/raw: box, as fractions} of `report.boxes`; nothing where there is no table.

    Raises
    ------
    InputError
        Where the table is not there, has another SHA-256, or is no such CSV.
    """
    if settings is None:
        return {}
    try:
        data = (Path(folder) / settings.table).read_bytes()
    except OSError as error:
        raise InputError(
            f"{settings.table} cannot be read ({error.strerror}): report.boxes.table names a file by the study's folder"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != settings.sha256:
        raise InputError(
            f"{settings.table} has sha256 {found}, not that of report.boxes.sha256: if it is right, set that to it"
        )
    return parsed(data, settings.table)


def parsed(data: bytes, name: str) -> dict[str, Box]:
    """Return a table's boxes: CSV in UTF-8, columns path, left, top, right, bottom (others are not read).

    Edges are fractions of the picture as it lies in the file, mirrored where the file is: from 0 at the left and the
    top, left < right and top < bottom.
    """
    boxes: dict[str, Box] = {}
    try:
        lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        if missing := [column for column in COLUMNS if column not in (lines.fieldnames or [])]:
            raise InputError(f"{name} has no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
        for line in lines:
            box = Box(*(float(line[column]) for column in COLUMNS[1:]))
            if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
                raise InputError(
                    f"{name}, line {lines.line_num}: expected 0 <= left < right <= 1, and so top to bottom"
                )
            if line["path"] in boxes:
                raise InputError(f"{name}, line {lines.line_num}: {line['path']!r} stands there twice: one box a file")
            boxes[line["path"]] = box
    except (UnicodeDecodeError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{name} is no table of boxes ({error}): expected CSV with {', '.join(COLUMNS)}") from None
    return boxes


def of_images(boxes: dict[str, Box], paths: Iterable[str]) -> dict[str, Box]:
    """Return the boxes again; InputError where one is of no image."""
    known = set(paths)
    if others := [path for path in boxes if path not in known]:
        raise InputError(
            f"report.boxes.table has {len(others):,} paths that are no image, {others[0]!r} the first; expected "
            f"<split>/<class>/<file>, as {min(known)!r}"
        )
    return boxes


def in_square(box: Box, grey: NDArray[np.uint8], size: int, prepare: Prepare) -> Box | None:
    """Return a box of a picture, uint8 [H, W], in pixels of the square [size, size] that `prepare` makes of it.

    The picture is cut to the head, padded to a square and resized, and so is the box; None where nothing is left of it.
    """
    height, width = grey.shape
    rows, columns = head_box(grey, prepare.crop_threshold) if prepare.crop else (slice(None), slice(None))
    top, bottom, _ = rows.indices(height)
    left, right, _ = columns.indices(width)
    side = max(bottom - top, right - left)
    down, across = (side - (bottom - top)) // 2 - top, (side - (right - left)) // 2 - left
    scale = size / side
    found = Box(
        max((max(box.left * width, left) + across) * scale, 0.0),
        max((max(box.top * height, top) + down) * scale, 0.0),
        min((min(box.right * width, right) + across) * scale, float(size)),
        min((min(box.bottom * height, bottom) + down) * scale, float(size)),
    )
    return found if found.left < found.right and found.top < found.bottom else None


def coverage(box: Box, size: int) -> NDArray[np.float64]:
    """Return how much of each pixel of a square lies in a box, float64 [size, size] in 0..1."""
    edges = np.arange(size)
    down = np.clip(np.minimum(edges + 1, box.bottom) - np.maximum(edges, box.top), 0, 1)
    across = np.clip(np.minimum(edges + 1, box.right) - np.maximum(edges, box.left), 0, 1)
    return np.asarray(down[:, None] * across)


def hottest_in(heat: NDArray[np.float32], box: Box) -> bool:
    """Return whether the hottest point of a map [S, S], the middle of all that are as hot, lies in a box.

    A map of nothing points nowhere.
    """
    if not heat.any():
        return False
    row, column = np.argwhere(heat == heat.max()).mean(axis=0) + 0.5
    return bool(box.top <= row <= box.bottom and box.left <= column <= box.right)


def share_in(heat: NDArray[np.float32] | NDArray[np.bool_], box: Box) -> float:
    """Return the share of a map's heat [S, S] that lies in a box; 0 of a map of nothing."""
    total = float(heat.sum(dtype=np.float64))
    return float((heat * coverage(box, len(heat))).sum()) / total if total else 0.0


def chosen(
    predictions: pd.DataFrame, known: Iterable[str], classes: list[str], place: Callable[[str], Box | None]
) -> tuple[pd.DataFrame, dict[str, Box]]:
    """Return SHOWN rows of the predictions whose box is known, or as many as there are, and their boxes in the square.

    Classes take turns. Which of a class is by a digest of the path: neither the best ones nor all of one head. `place`
    returns a path's box in pixels of the square; where that is None, nothing is left of it, and another is taken.
    """
    rows = predictions[predictions["path"].isin(known)]
    key = [hashlib.sha256(path.encode()).hexdigest() for path in rows["path"]]
    rows = rows.assign(key=key, place=[classes.index(name) for name in rows["label"]]).sort_values("key")
    rows = rows.assign(turn=rows.groupby("label").cumcount()).sort_values(["turn", "place"])
    found: dict[str, Box] = {}
    for path in rows["path"]:
        if len(found) < SHOWN and (box := place(path)):
            found[path] = box
    rows = rows[rows["path"].isin(found)].sort_values(["place", "turn"])
    return rows.drop(columns=["key", "place", "turn"]), found


def framed(picture: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """Return a picture of a square of `size` pixels, uint8 [S, S] or [H, W, 3], at SIDE pixels with the box drawn."""
    image = Image.fromarray(picture).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    corners = [round(edge * SIDE / size) for edge in box]
    corners[2:] = [max(low, high - 1) for low, high in zip(corners[:2], corners[2:], strict=True)]
    ImageDraw.Draw(image).rectangle(corners, outline=LINE, width=2)
    return np.asarray(image)


def section(rows: pd.DataFrame, looked: Looked, in_square: dict[str, Box]) -> list[str]:
    """Return the section of test images whose tumour's box is known, beside where the network looked; if there are any.

    `looked` has each path's image [S, S] and overlay [H, W, 3], `in_square` its box in pixels of the image.
    """
    items = []
    for row in rows.itertuples():
        image, overlay = looked[row.path]
        plain, hot = (framed(picture, in_square[row.path], len(image)) for picture in (image, overlay))
        items.append(page.looked_card(plain, hot, f"{row.label}, taken for {row.predicted}", row.path))
    text = (
        "Test images, chosen by a digest of their names; the frame is the tumour's box, by the table of report.boxes."
    )
    return [page.section("Does it look at the tumour?", page.paragraph(text), page.cards(items))] if items else []
