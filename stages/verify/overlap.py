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

PLAIN = 2  # views of a picture, the first ones, that a frame is compared with: the head's box, and all within the rim
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
    inside: NDArray[np.bool_],
    settled: Settled,
    k: int,
    floor: float,
) -> Ints:
    """Return (framed picture, plain picture) of the k pictures in each split whose frames are most like a plain one.

    `framed` are those of the pictures `shown`, FRAMES each; `plain` those of the pictures `asked`: their first views,
    then their second ones and so on, zeros where there is none. `inside`, bool [splits, N], says in which splits a
    picture has a file.
    """
    count = len(asked)
    best = np.empty((framed.shape[1] // len(FRAMES), count), np.float32)
    for start in range(0, len(best), BLOCK):
        rows = slice(start * len(FRAMES), (start + BLOCK) * len(FRAMES))
        products, odd = framed[0, rows] @ plain[0].T, framed[1, rows] @ plain[1].T
        products += np.abs(odd, out=odd)
        best[start : start + BLOCK] = products.reshape(-1, len(FRAMES) * PLAIN, count).max(axis=1)
    chosen = []
    one, at = np.nonzero(best >= 2 * UNIT * UNIT * floor)
    product = best[one, at].astype(np.int64)
    one = shown[one]
    for split, present in enumerate(inside):
        kept = present[one]
        chosen.append(nearest_open(one[kept], asked[at[kept]], product[kept], split, settled, k))
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


def best_frames(framed: NDArray[np.int8], plain: NDArray[np.int8]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return pair, frame, view and turn (0 upright, 1 mirrored) that fit best, [Q] each, Q from P to 2 P.

    From int8 [P, FRAMES, CELLS * CELLS] and [P, PLAIN, CELLS * CELLS]. Each pair stands there once, and a second time
    where the other turn fits about as well: a head is nearly its own mirror image, the more so when it is turned.
    """
    one = framed.astype(np.float32)
    mirrored = one.reshape(*one.shape[:2], CELLS, CELLS)[..., ::-1].reshape(one.shape)
    products = np.stack([each @ plain.astype(np.float32).swapaxes(1, 2) for each in (one, mirrored)])
    flat = products.reshape(2, len(one), -1)
    best, at = flat.max(axis=2), flat.argmax(axis=2)
    turn, pair = np.nonzero(best >= best.max(axis=0) - EITHER * UNIT * UNIT)
    frame, view = np.divmod(at[turn, pair], PLAIN)
    return pair, frame, view, turn
