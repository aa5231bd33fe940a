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
Ints = NDArray[np.int64]
Parts = NDArray[np.float32]  # [4, N, PART]: even-even, even-odd, odd-even, odd-odd in (y, x)


def parts(descriptors: NDArray[np.int8]) -> Parts:
    """Return the even and odd parts of int8 [N, CELLS * CELLS] descriptors, times four."""
    cells = descriptors.reshape(-1, CELLS, CELLS).astype(np.float32)
    near, far = cells[:, :HALF], cells[:, : HALF - 1 : -1]
    found = []
    for lines in (near + far, near - far):
        one, other = lines[..., :HALF], lines[..., : HALF - 1 : -1]
        found += [one + other, one - other]
    return np.stack(found).reshape(4, -1, PART)


def best_products(left: Parts, right: Parts) -> NDArray[np.float32]:
    """Return the best product of each left with each right descriptor over all turns, float32 [L, R], times four."""
    best: NDArray[np.float32] | None = None
    for ee, eo, oe, oo in (left, _transposed(left)):
        even, odd = ee @ right[0].T, oo @ right[3].T
        across, along = eo @ right[1].T, oe @ right[2].T
        upright = np.maximum(even + odd + np.abs(across + along), even - odd + np.abs(across - along))
        best = upright if best is None else np.maximum(best, upright)
    assert best is not None
    return best


def _transposed(found: Parts) -> Parts:
    """Return the parts of the transposed squares: odd in y becomes odd in x."""
    turned_back = found.reshape(4, -1, HALF, HALF).swapaxes(2, 3).reshape(4, -1, PART)
    return np.ascontiguousarray(turned_back[[0, 2, 1, 3]])


def close(left: Parts, right: Parts, floor: float) -> tuple[Ints, Ints, Ints]:
    """Return (left, right, product) of all descriptors whose cosine is at least `floor`; products times four."""
    products = best_products(left, right)
    at_left, at_right = np.nonzero(products >= 4 * UNIT * UNIT * floor)
    return at_left, at_right, products[at_left, at_right].astype(np.int64)


def nearest_k(rows: Ints, others: Ints, products: Ints, k: int) -> NDArray[np.bool_]:
    """Mark, for each row, its k best; equals are told apart by the other's number, so that the choice is exact."""
    order = np.lexsort((others, -products, rows))
    starts = np.r_[True, rows[order][1:] != rows[order][:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))
    chosen = np.zeros(len(rows), bool)
    chosen[order] = np.arange(len(rows)) - first < k
    return chosen


def best_turns(left: NDArray[np.int8], right: NDArray[np.int8]) -> Ints:
    """Return the turn, [P], that makes `left` most like `right`, int8 [P, CELLS * CELLS] both.

    The first of equals wins, so "same way up" comes first.
    """
    whole = right.astype(np.float32)
    products = [(turned(left, turn, CELLS).astype(np.float32) * whole).sum(axis=1) for turn in range(len(TURNS))]
    return np.asarray(np.argmax(products, axis=0), np.int64)
