"""Which files show the same picture: candidates by descriptor, verdicts by aligned views, in parallel.

Works on *pictures*: files with equal pixels are one picture, so nothing is compared twice. Pictures are numbered so that
those of Testing come first, those of both splits next, those of Training alone last.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.confirm import similarities
from stages.verify.describe import CELLS, SIDE, VIEWS
from stages.verify.scan import in_order
from stages.verify.schema import Twins
from stages.verify.search import best_turns, close, nearest_k, parts
from stages.verify.turns import INVERSE, TURNS

BLOCK = 1024  # descriptors by which as many others are compared at a time
Ints = NDArray[np.int64]


class Pictures(NamedTuple):
    """Where the pictures' arrays lie (workers map them), and which belong to which split."""

    descriptors: Path  # .npy, int8 [N, VIEWS, CELLS * CELLS]
    views: Path  # raw int8 [files, VIEWS, SIDE, SIDE]
    rows: Path  # .npy, int64 [N]: a picture's place in `views`
    testing: int  # pictures 0..testing are in Testing
    training: int  # pictures training..N are in Training
    count: int


class Pairs(NamedTuple):
    """Pairs of pictures that were looked at closely; every field is [P]."""

    left: Ints
    right: Ints  # more than left
    turn: Ints  # what must be done to `left` to see `right`
    similarity: NDArray[np.float64]  # correlation of the aligned views, 4 decimals
    worst: NDArray[np.float64]  # correlation of the second-worst of 16 blocks, 4 decimals
    same: NDArray[np.bool_]  # the verdict


def audit(pictures: Pictures, twins: Twins, pool: Executor) -> Pairs:
    """Return all pairs of pictures worth a closer look, with verdicts, sorted by (left, right)."""
    near = candidates(pictures, twins, pool)
    chunks = [near[start : start + 512] for start in range(0, len(near), 512)]
    found = list(in_order(pool, partial(_judged, pictures=pictures), chunks))
    if not found:
        return Pairs(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, float, float, bool)))
    left, right, turn, whole, worst = (np.concatenate([part[k] for part in found]) for k in range(5))
    return Pairs(left, right, turn, whole, worst, (whole >= twins.similarity) & (worst >= twins.block))


def candidates(pictures: Pictures, twins: Twins, pool: Executor) -> Ints:
    """Return the entries of pairs to be looked at, int64 [P, 2], sorted: each picture's nearest in either split.

    An entry is a picture's number times VIEWS, plus the view.
    """
    entries = _entries(pictures)[0]
    starts = range(0, len(entries), BLOCK)
    tiles = [(one, two) for one in starts for two in starts if one <= two]
    search = partial(_near_tile, pictures=pictures, twins=twins)
    found = np.concatenate([np.zeros((0, 3), np.int64), *in_order(pool, search, tiles)])
    best = found[np.lexsort((found[:, 1], found[:, 0], -found[:, 2]))]
    _, first = np.unique(best[:, 0] // VIEWS * pictures.count + best[:, 1] // VIEWS, return_index=True)
    return _nearest(best[first], pictures, twins.neighbours)[:, :2]


def _nearest(found: Ints, pictures: Pictures, k: int) -> Ints:
    """Keep, of int64 [P, 3] (entry, entry, product), those that are among the k nearest of either, in either split."""
    one, two = found[:, 0] // VIEWS, found[:, 1] // VIEWS
    keep = np.zeros(len(found), bool)
    for row, other in ((one, two), (two, one)):
        for inside in (other < pictures.testing, other >= pictures.training):
            at = np.nonzero(inside)[0]
            keep[at[nearest_k(row[at], other[at], found[at, 2], k)]] = True
    return found[keep]


@lru_cache(maxsize=1)
def _opened(pictures: Pictures) -> tuple[NDArray[np.int8], NDArray[np.int8], Ints]:
    """Map the arrays once in each worker."""
    descriptors = np.load(pictures.descriptors, mmap_mode="r")
    views = np.memmap(pictures.views, np.int8, "r").reshape(-1, VIEWS, SIDE, SIDE)
    return descriptors, views, np.load(pictures.rows)


@lru_cache(maxsize=1)
def _entries(pictures: Pictures) -> tuple[Ints, NDArray[np.float32]]:
    """Return the entries that are not empty, and the parts of their descriptors."""
    flat = np.asarray(_opened(pictures)[0]).reshape(-1, CELLS * CELLS)
    entries = np.nonzero(flat.any(axis=1))[0]
    return entries, parts(flat[entries])


def _near_tile(tile: tuple[int, int], pictures: Pictures, twins: Twins) -> Ints:
    """Return (entry, entry, product), the smaller picture first, of one tile of the table of all pairs."""
    entries, found = _entries(pictures)
    one, two = (slice(start, start + BLOCK) for start in tile)
    left, right, product = close(found[:, one], found[:, two], twins.candidate)
    left, right = entries[one][left], entries[two][right]
    later = left // VIEWS < right // VIEWS
    return _nearest(np.stack([left[later], right[later], product[later]], axis=1), pictures, 3 * twins.neighbours)


def _judged(pairs: Ints, pictures: Pictures) -> Sequence[NDArray[np.generic]]:
    """Return left, right, turn, similarity and worst block of pairs of entries."""
    descriptors, views, rows = _opened(pictures)
    (left, seen_left), (right, seen_right) = np.divmod(pairs[:, 0], VIEWS), np.divmod(pairs[:, 1], VIEWS)
    one, two = descriptors[left, seen_left], descriptors[right, seen_right]
    turn = best_turns(one, two)
    fine = _upright(views[rows[left], seen_left], views[rows[right], seen_right], turn)
    coarse = _upright(*(each.reshape(-1, CELLS, CELLS) for each in (one, two)), turn)
    return left, right, turn, *similarities(*fine, *coarse)


def _upright(left: NDArray[np.int8], right: NDArray[np.int8], turn: Ints) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return both, [P, side, side], with `right` turned back to how `left` is."""
    back = np.empty_like(right)
    for each in np.unique(turn):
        back[turn == each] = TURNS[INVERSE[each]](right[turn == each])
    return left, back
