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
from stages.verify.describe import CELLS, SIDE, UNIT, VIEWS
from stages.verify.scan import in_order
from stages.verify.schema import Twins
from stages.verify.search import best_turns, nearest, parts
from stages.verify.turns import INVERSE, TURNS

BLOCK = 256  # pictures whose neighbours are sought at a time
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
    if pictures.count < 2:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, none, np.zeros(0), np.zeros(0), np.zeros(0, bool))
    starts = range(0, pictures.count, BLOCK)
    near = list(in_order(pool, partial(_neighbours, pictures=pictures, k=twins.neighbours), starts))
    pairs = np.unique(np.concatenate(near), axis=0)
    judge = partial(_judged, pictures=pictures, floor=twins.candidate)
    chunks = [pairs[start : start + 512] for start in range(0, len(pairs), 512)]
    found = list(in_order(pool, judge, chunks))
    left, right, turn, whole, worst = (np.concatenate([part[k] for part in found]) for k in range(5))
    return Pairs(left, right, turn, whole, worst, (whole >= twins.similarity) & (worst >= twins.block))


@lru_cache(maxsize=1)
def _opened(pictures: Pictures) -> tuple[NDArray[np.int8], NDArray[np.int8], Ints]:
    """Map the arrays once in each worker."""
    descriptors = np.load(pictures.descriptors, mmap_mode="r")
    views = np.memmap(pictures.views, np.int8, "r").reshape(-1, VIEWS, SIDE, SIDE)
    return descriptors, views, np.load(pictures.rows)


@lru_cache(maxsize=1)
def _stored(pictures: Pictures) -> list[NDArray[np.float32]]:
    descriptors = np.asarray(_opened(pictures)[0])
    return [parts(descriptors[:, view]) for view in range(VIEWS)]


def _neighbours(start: int, pictures: Pictures, k: int) -> Ints:
    """Return pairs, int64 [P, 2], of some pictures with their nearest in each split, the smaller number first."""
    rows = np.arange(start, min(start + BLOCK, pictures.count))
    pools = [slice(0, pictures.testing), slice(pictures.training, pictures.count)]
    found = nearest(rows, _opened(pictures)[0], _stored(pictures), pools, k)
    pairs = np.concatenate([np.stack(pair, axis=1) for pair in found])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _judged(pairs: Ints, pictures: Pictures, floor: float) -> Sequence[NDArray[np.generic]]:
    """Return left, right, turn, similarity and worst block of those pairs whose descriptors agree."""
    descriptors, views, rows = _opened(pictures)
    left, right = pairs.T
    view, turn, product = best_turns(descriptors[left], descriptors[right])
    squares = descriptors.reshape(-1, VIEWS, CELLS, CELLS)
    keep = product >= floor * UNIT * UNIT
    left, right, view, turn = left[keep], right[keep], view[keep], turn[keep]
    fine = _upright(views[rows[left], view], views[rows[right], view], turn)
    coarse = _upright(squares[left, view], squares[right, view], turn)
    return left, right, turn, *similarities(*fine, *coarse)


def _upright(left: NDArray[np.int8], right: NDArray[np.int8], turn: Ints) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return both, [P, side, side], with `right` turned back to how `left` is."""
    back = np.empty_like(right)
    for each in np.unique(turn):
        back[turn == each] = TURNS[INVERSE[each]](right[turn == each])
    return left, back
