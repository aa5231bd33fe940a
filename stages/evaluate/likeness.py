"""How like its nearest training image a picture is, by the audit's descriptors: small means that it is of another kind.

The distance to the nearest neighbour is a plain and strong out-of-distribution score (Sun et al. 2022, Out-of-
Distribution Detection with Deep Nearest Neighbors), here on descriptors that no training has bent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.verify.describe import UNIT
from stages.verify.search import Parts, best_products, parts

BLOCK = 256  # descriptors compared with all stored ones at a time
QUANTILE = 0.01  # of the validation images' likeness: what lies below is said to be unlike the training images

Descriptors = NDArray[np.int8]  # [N, views, 256]


class Stored(NamedTuple):
    """Descriptors to be compared with."""

    parts: Parts  # of those views that are not empty
    rows: NDArray[np.int64]  # which picture each belongs to


class Nearest(NamedTuple):
    """For each picture asked about, [N]: the one most like it; -1 and 0.0 for a picture without a descriptor."""

    row: NDArray[np.int64]
    cosine: NDArray[np.float64]  # 4 decimals


def store(described: Descriptors) -> Stored:
    """Return descriptors, int8 [N, views, 256], ready to be compared with."""
    rows, views = np.nonzero(described.any(axis=2))
    return Stored(parts(described[rows, views]), rows.astype(np.int64))


def nearest(described: Descriptors, stored: Stored) -> Nearest:
    """Return the stored picture nearest to each of int8 [N, views, 256], over all views, turns and mirrorings.

    Products of integers, so the choice is exact; the first of equals wins.
    """
    row, product = np.full(len(described), -1, np.int64), np.zeros(len(described))
    which, views = np.nonzero(described.any(axis=2))
    for start in range(0, len(which) if len(stored.rows) else 0, BLOCK):
        at = which[start : start + BLOCK]
        products = best_products(parts(described[at, views[start : start + BLOCK]]), stored.parts)
        best = products.argmax(axis=1)
        for picture, place, value in zip(at, best, products[np.arange(len(at)), best], strict=True):
            if row[picture] < 0 or value > product[picture]:
                row[picture], product[picture] = stored.rows[place], value
    return Nearest(row, np.round(product / (4 * UNIT * UNIT), 4))


def lowest_usual(described: Descriptors, stored: Stored) -> float | None:
    """Return the likeness that all but QUANTILE of pictures reach, given the validation images; None without any."""
    if not len(described) or not len(stored.rows):
        return None
    return round(float(np.quantile(nearest(described, stored).cosine, QUANTILE)), 4)


def descriptors(root: Path) -> Callable[[Iterable[str]], Descriptors]:
    """Return a function from paths below data/raw to their descriptors, whose rows are those of the manifest."""
    manifest = pd.read_csv(root / "manifest.csv", usecols=["path"], keep_default_na=False)
    places = {path: row for row, path in enumerate(manifest["path"])}
    stored = np.load(root / "descriptors.npy", mmap_mode="r")
    return lambda paths: np.asarray(stored[[places[path] for path in paths]])
