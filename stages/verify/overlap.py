"""Which pictures may be a part of another, or turned a little: frames of each head against the plain views of all.

Looked for upright and mirrored only. The rest of a pair's finding is as in search.py: integers below 2**24, so the
float32 products are exact on any machine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.describe import CELLS, UNIT
from stages.verify.frames import FRAMES
from stages.verify.search import HALF, nearest_k

STARTS = 2  # frames and views, of each way round, from which a pair is aligned
CROWD = 8  # times as many as are wanted of the nearest are asked which group they are of
EITHER = 0.2  # two cosines this near say nothing about which way round a head is
ALIKE = 0.97  # cosine of two heads from which on the frames of one do for both
BLOCK = 64  # framed pictures at a time: what fits the cache

Ints = NDArray[np.int64]
Sides = NDArray[np.float32]  # [2, N, CELLS * HALF]: the parts that mirroring keeps, and those whose sign it changes


class Settled(NamedTuple):
    """What needs no looking at, because the plain search has found it."""

    group: Ints  # [N]: pictures that a chain of copies joins have one number
    splits: NDArray[np.bool_]  # [N, splits]: the picture has a direct copy in each

    def between(self, one: Any, two: Any, split: int) -> NDArray[np.bool_]:
        """Tell of pictures `one` in a split whether they have nothing to say about pictures `two`; shapes broadcast."""
        return np.asarray((self.group[one] == self.group[two]) & self.splits[two, split])


def sides(descriptors: NDArray[np.int8]) -> Sides:
    """Return what mirroring keeps and what it turns over, of int8 [N, CELLS * CELLS] descriptors, times two."""
    cells = descriptors.reshape(-1, CELLS, CELLS).astype(np.float32)
    left, right = cells[..., :HALF], cells[..., : HALF - 1 : -1]
    return np.stack([left + right, left - right]).reshape(2, len(cells), -1)


def nearest_frames(
    framed: Sides,
    shown: Ints,
    plain: Sides,
    asked: Ints,
    first: Ints,
    inside: NDArray[np.bool_],
    settled: Settled,
    k: int,
    floor: float,
) -> Ints:
    """Return (framed picture, plain picture) of the k pictures in each split whose frames are most like a plain one.

    `framed` are those of the pictures `shown`, FRAMES each; `plain` those of the pictures `asked`, whose views begin at
    `first`. `inside`, bool [splits, N], says in which splits a picture has a file.
    """
    best = np.empty((framed.shape[1] // len(FRAMES), len(asked)), np.float32)
    for start in range(0, len(best), BLOCK):
        rows = slice(start * len(FRAMES), (start + BLOCK) * len(FRAMES))
        products, odd = framed[0, rows] @ plain[0].T, framed[1, rows] @ plain[1].T
        products += np.abs(odd, out=odd)
        of_frames = products.reshape(-1, len(FRAMES), products.shape[1]).max(axis=1)
        best[start : start + BLOCK] = np.maximum.reduceat(of_frames, first, axis=1)
    chosen = [np.zeros((0, 2), np.int64)]
    for split, present in enumerate(inside):
        there = np.nonzero(present[shown])[0]
        here = best[there]
        if len(here):
            last = max(0, len(here) - CROWD * k)
            least = np.maximum(np.partition(here, last, axis=0)[last], np.float32(2 * UNIT * UNIT * floor))
            one, at = np.nonzero(here >= least)
            product = here[one, at].astype(np.int64)
            chosen.append(nearest_open(shown[there[one]], asked[at], product, split, settled, k))
    return np.concatenate(chosen)


def one_of_alike(heads: NDArray[np.int8], left: Ints, right: Ints, inside: NDArray[np.bool_]) -> Ints:
    """Return the pictures whose frames say something that no earlier picture's say, int64 [M], sorted.

    A copy's frames are left out where its head, int8 [N, CELLS * CELLS], looks all but the same, upright or mirrored,
    and its original lies in the same splits. `left` and `right` are pairs of copies, sorted.
    """
    one, two = (heads[side].reshape(-1, CELLS, CELLS).astype(np.float32) for side in (left, right))
    product = np.maximum((one * two).sum(axis=(1, 2)), (one[..., ::-1] * two).sum(axis=(1, 2)))
    same = (product >= ALIKE * UNIT * UNIT) & ~(inside[:, right] & ~inside[:, left]).any(axis=0)
    kept = np.ones(len(heads), bool)
    for first, second in zip(left[same].tolist(), right[same].tolist(), strict=True):
        kept[second] &= not kept[first]
    return np.nonzero(kept)[0]


def nearest_open(framed: Ints, plain: Ints, product: Ints, split: int, settled: Settled, k: int) -> Ints:
    """Return (framed, plain) of each plain picture's k best in a split that are not settled, int64 [P, 2].

    One of each group: a head that was published many times would take all k places.
    """
    found = np.stack([framed, plain, product], axis=1)[(framed != plain) & ~settled.between(framed, plain, split)]
    found = found[np.lexsort((found[:, 0], -found[:, 2]))]
    _, first = np.unique(found[:, 1] * len(settled.group) + settled.group[found[:, 0]], return_index=True)
    found = found[first]
    return found[nearest_k(found[:, 1], found[:, 0], found[:, 2], k), :2]


def best_starts(framed: NDArray[np.int8], plain: NDArray[np.int8]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return pair, frame, view and turn (0 upright, 1 mirrored) that fit best, [Q] each, sorted by pair.

    From int8 [P, FRAMES, CELLS * CELLS] and [P, VIEWS, CELLS * CELLS]. Up to STARTS of each way round, the other way
    only where it fits about as well: a head is nearly its own mirror image, the more so when it is turned.
    """
    one = framed.astype(np.float32)
    mirrored = one.reshape(*one.shape[:2], CELLS, CELLS)[..., ::-1].reshape(one.shape)
    products = np.stack([each @ plain.astype(np.float32).swapaxes(1, 2) for each in (one, mirrored)], axis=1)
    flat = products.reshape(len(one), 2, -1)
    order = np.argsort(-flat, axis=2, kind="stable")[:, :, :STARTS]
    best = np.take_along_axis(flat, order, axis=2)
    near = best[:, :, :1] >= best[:, :, 0].max(axis=1)[:, None, None] - EITHER * UNIT * UNIT
    pair, turn, rank = np.nonzero(near & ((best > 0) | (np.arange(order.shape[2]) == 0)))
    frame, view = np.divmod(order[pair, turn, rank], plain.shape[1])
    return pair, frame, view, turn
