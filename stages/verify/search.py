"""Which pairs of pictures are worth a closer look: nearest neighbours of descriptors under all flips and turns.

Descriptors are split into the parts that are even or odd under the two mirrorings. A mirroring only changes the sign of
the odd parts, so the products of four parts give the similarity under four turns at the price of one; transposing one
side gives the other four. All numbers are integers below 2**24: the float32 products are exact on any machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.verify.describe import CELLS, UNIT
from stages.verify.turns import TURNS, turned

HALF = CELLS // 2
PART = HALF * HALF
Parts = NDArray[np.float32]  # [4, N, PART]: even-even, even-odd, odd-even, odd-odd in (y, x)


def parts(descriptors: NDArray[np.int8]) -> Parts:
    """Return the even and odd parts of int8 [N, CELLS * CELLS] descriptors, times four."""
    cells = descriptors.reshape(-1, CELLS, CELLS).astype(np.float32)
    near, far = cells[:, :HALF], cells[:, :HALF - 1:-1]
    found = []
    for lines in (near + far, near - far):
        one, other = lines[..., :HALF], lines[..., :HALF - 1:-1]
        found += [one + other, one - other]
    return np.stack(found).reshape(4, -1, PART)


def best_products(queries: NDArray[np.int8], stored: list[Parts]) -> NDArray[np.float32]:
    """Return each query's best product with each stored row over all views and turns, float32 [Q, N].

    `queries` is int8 [Q, VIEWS, CELLS * CELLS]; `stored` holds the parts of each view. Products are four times the dot product.
    """
    best = np.full((len(queries), stored[0].shape[1]), -4 * UNIT * UNIT, np.float32)
    for view, (ee, eo, oe, oo) in enumerate(stored):
        for turn in (0, 4):
            a = parts(turned(queries[:, view], turn, CELLS))
            even, odd = a[0] @ ee.T, a[3] @ oo.T
            across, along = a[1] @ eo.T, a[2] @ oe.T
            np.maximum(best, even + odd + np.abs(across + along), out=best)
            np.maximum(best, even - odd + np.abs(across - along), out=best)
    return best


def nearest(rows: NDArray[np.int64], descriptors: NDArray[np.int8], stored: list[Parts],
            pools: list[slice], k: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return, for each pool of columns, (rows, columns) of each row's k nearest in it, ties with the k-th included."""
    products = best_products(descriptors[rows], stored)
    products[np.arange(len(rows)), rows] = -np.inf
    found = []
    for pool in pools:
        part = products[:, pool]
        least = np.partition(part, -min(k, part.shape[1]), axis=1)[:, -min(k, part.shape[1])] if part.shape[1] else 0
        at, column = np.nonzero((part >= np.reshape(least, (-1, 1))) & np.isfinite(part))
        found.append((rows[at], column + pool.start))
    return found


def best_turns(left: NDArray[np.int8], right: NDArray[np.int8]) -> tuple[NDArray[np.int64], ...]:
    """Return view, turn and product of the best match of pairs of int8 [P, VIEWS, CELLS * CELLS] descriptors.

    `turn` is what must be done to `left` to see `right`. The first of equals wins, so "same way up" comes first.
    """
    products = np.stack([np.einsum("pvc,pvc->pv", turned(left, turn, CELLS).astype(np.float32), right.astype(np.float32))
                         for turn in range(len(TURNS))], axis=1)
    flat = products.reshape(len(left), -1)
    best = flat.argmax(axis=1)
    turn, view = np.divmod(best, products.shape[2])
    return view, turn, np.take_along_axis(flat, best[:, None], 1)[:, 0].astype(np.int64)
