"""Which pictures may be a part of another, or turned a little: frames of each head against the plain views of all.

Looked for upright and mirrored only. The rest of a pair's finding is as in search.py: integers below 2**24, so the
float32 products are exact on any machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.describe import CELLS, UNIT
from stages.verify.frames import FRAMES
from stages.verify.search import HALF, nearest_k

STARTS = 2  # frames and views, of each way round, from which a pair is aligned
CROWD = 8  # times as many as are wanted of the nearest are asked which group they are of
EITHER = 0.2  # two cosines this near say nothing about which way round a head is
ALIKE = 0.97  # cosine of two heads from which on one stands for both
BLOCK = 32  # framed pictures at a time: what fits the cache

Ints = NDArray[np.int64]
Sides = NDArray[np.float32]  # [2, N, CELLS * HALF]: the parts that mirroring keeps, and those whose sign it changes


class Settled(NamedTuple):
    """What needs no looking at, because the plain search has found it."""

    group: Ints  # [N]: pictures that a chain of copies joins have one number
    direct: NDArray[np.bool_]  # [splits, N]: the picture has a direct copy in each
    inside: NDArray[np.bool_]  # [splits, N]: it lies in each itself

    def between(self, one: Ints, two: Ints) -> NDArray[np.bool_]:
        """Tell of pairs, [P], whether neither has anything to say about the other."""
        lacks = [(self.inside[:, a] & ~self.direct[:, b]).any(axis=0) for a, b in ((one, two), (two, one))]
        return np.asarray((self.group[one] == self.group[two]) & ~lacks[0] & ~lacks[1])


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
    settled: Settled,
    k: int,
    floor: float,
) -> Ints:
    """Return (framed picture, plain picture) of the k pictures in each split whose frames are most like a plain one.

    `framed` are those of the pictures `shown`, FRAMES each; `plain` those of the pictures `asked`, whose views begin at
    `first`.
    """
    best = np.empty((framed.shape[1] // len(FRAMES), len(asked)), np.float32)
    for start in range(0, len(best), BLOCK):
        rows = slice(start * len(FRAMES), (start + BLOCK) * len(FRAMES))
        products, odd = framed[0, rows] @ plain[0].T, framed[1, rows] @ plain[1].T
        products += np.abs(odd, out=odd)
        of_frames = products.reshape(-1, len(FRAMES), products.shape[1]).max(axis=1)
        best[start : start + BLOCK] = np.maximum.reduceat(of_frames, first, axis=1)
    chosen = [np.zeros((0, 2), np.int64)]
    for present in settled.inside:
        there = np.nonzero(present[shown])[0]
        here = best[there]
        if len(here):
            last = max(0, len(here) - CROWD * k)
            least = np.maximum(np.partition(here, last, axis=0)[last], np.float32(2 * UNIT * UNIT * floor))
            one, at = np.nonzero(here >= least)
            product = here[one, at].astype(np.int64)
            chosen.append(nearest_open(shown[there[one]], asked[at], product, settled, k))
    return np.concatenate(chosen)


def stand_ins(heads: NDArray[np.int8], left: Ints, right: Ints, inside: NDArray[np.bool_]) -> Ints:
    """Return for each picture the one that is looked at in its place, int64 [N]: mostly itself.

    A copy is left out where its head, int8 [N, CELLS * CELLS], looks all but the same as an earlier picture's, upright
    or mirrored, and that lies in the same splits. `left` and `right` are pairs of copies, sorted.
    """
    one, two = (heads[side].reshape(-1, CELLS, CELLS).astype(np.float32) for side in (left, right))
    product = np.maximum((one * two).sum(axis=(1, 2)), (one[..., ::-1] * two).sum(axis=(1, 2)))
    same = (product >= ALIKE * UNIT * UNIT) & ~(inside[:, right] & ~inside[:, left]).any(axis=0)
    found = np.arange(len(heads))
    for first, second in zip(left[same].tolist(), right[same].tolist(), strict=True):
        if found[first] == first and found[second] == second:
            found[second] = first
    return found


def of_those_left_out(left: Ints, right: Ints, place: Ints, settled: Settled) -> Ints:
    """Return pairs (framed, plain), [P, 2], of pictures that were left out, with what was found beside their stand-ins.

    `left` and `right` are pairs found, `place` is what `stand_ins` gives. Only pairs of which one is not settled.
    """
    out = np.nonzero(place != np.arange(len(place)))[0]
    found = [np.zeros((0, 2), np.int64)]
    for one, other in ((left, right), (right, left)):
        order = np.argsort(one, kind="stable")
        start, end = (np.searchsorted(one[order], place[out], side) for side in ("left", "right"))
        beside = [order[begin:stop] for begin, stop in zip(start.tolist(), end.tolist(), strict=True)]
        pair = np.stack([np.repeat(out, end - start), other[np.concatenate([np.zeros(0, np.int64), *beside])]], axis=1)
        pair = pair[(pair[:, 0] != pair[:, 1]) & ~settled.between(*pair.T)]
        found += [pair, pair[:, ::-1]]
    return np.unique(np.concatenate(found), axis=0)


def nearest_open(framed: Ints, plain: Ints, product: Ints, settled: Settled, k: int) -> Ints:
    """Return (framed, plain) of each plain picture's k best that are not settled, int64 [P, 2].

    One of each group: a head that was published many times would take all k places.
    """
    found = np.stack([framed, plain, product], axis=1)[(framed != plain) & ~settled.between(framed, plain)]
    found = found[np.lexsort((found[:, 0], -found[:, 2]))]
    _, first = np.unique(found[:, 1] * len(settled.group) + settled.group[found[:, 0]], return_index=True)
    found = found[first]
    return found[nearest_k(found[:, 1], found[:, 0], found[:, 2], k), :2]


def best_starts(framed: NDArray[np.int8], plain: NDArray[np.int8]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return pair, frame, view and turn (0 upright, 1 mirrored) that fit best, [Q] each, sorted by pair.

    From int8 [P, FRAMES, CELLS * CELLS] and [P, VIEWS, CELLS * CELLS]. Up to STARTS of each way round, the other way
    only where it fits about as well: a head is nearly its own mirror image, the more so when it is turned.
    """
    cells = plain.reshape(*plain.shape[:2], CELLS, CELLS)
    both_ways = np.stack([cells, cells[..., ::-1]], axis=1).reshape(len(plain), -1, CELLS * CELLS).astype(np.float32)
    products = framed.astype(np.float32) @ both_ways.swapaxes(1, 2)
    flat = products.reshape(len(framed), framed.shape[1], 2, -1).swapaxes(1, 2).reshape(len(plain), 2, -1)
    order, best = _highest(flat, STARTS)
    near = best[:, :, :1] >= best[:, :, 0].max(axis=1)[:, None, None] - EITHER * UNIT * UNIT
    pair, turn, rank = np.nonzero(near & ((best > 0) | (np.arange(order.shape[2]) == 0)))
    frame, view = np.divmod(order[pair, turn, rank], plain.shape[1])
    return pair, frame, view, turn


def _highest(values: NDArray[np.float32], count: int) -> tuple[Ints, NDArray[np.float32]]:
    """Return places and values of the `count` highest along the last axis, the first of equals first."""
    left, places, found = values.copy(), [], []
    for _ in range(count):
        places.append(left.argmax(axis=-1)[..., None])
        found.append(np.take_along_axis(left, places[-1], axis=-1))
        np.put_along_axis(left, places[-1], -np.inf, axis=-1)
    return np.concatenate(places, axis=-1), np.concatenate(found, axis=-1)
