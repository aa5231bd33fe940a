"""One step of Gauss-Newton towards the map by which one view fits another (Lucas and Kanade 1981)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[Any]  # float32 [N, side, side]

POWERS = np.array([(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)])  # of y and x, in the products of two rates
_PLACE = np.zeros((3, 3), np.intp)
_PLACE[POWERS[:, 0], POWERS[:, 1]] = np.arange(len(POWERS))


def change(
    fixed: Images, moved: Images, inside: NDArray[np.bool_], unknowns: NDArray[np.intp], damping: float
) -> NDArray[np.float32]:
    """Return the change of a map's unknowns that best explains the difference that is left, float32 [N, K].

    Parameters
    ----------
    fixed, moved
        The views, the second as the map of now shows it.
    inside
        Which pixels of `moved` count; a shape that broadcasts will do.
    unknowns
        [K, 3], at most linear: what each moves, y (0) or x (1), and by which powers of the place's y and x.
    damping
        What the diagonal of the normal equations grows by, as a fraction of its sum.
    """
    count, side = len(fixed), fixed.shape[1]
    slopes = np.zeros((2, *moved.shape), np.float32)
    np.subtract(moved[:, 2:], moved[:, :-2], out=slopes[0, :, 1:-1])
    np.subtract(moved[:, :, 2:], moved[:, :, :-2], out=slopes[1, :, :, 1:-1])
    slopes *= inside * np.float32(side / 4)
    along, across = slopes
    error = fixed - moved
    products = np.empty((5, *moved.shape), np.float32)
    factors = [(along, along), (along, across), (across, across), (along, error), (across, error)]
    for out, (one, two) in zip(products, factors, strict=True):
        np.multiply(one, two, out=out)
    # a rate is a slope times powers of the place, so all sums of two of them, and of one and the error, are moments
    moments = (products.reshape(5 * count, side * side) @ powers(side)).reshape(5, count, len(POWERS))
    what, y, x = unknowns.T
    square = moments[what[:, None] + what, :, _PLACE[y[:, None] + y, x[:, None] + x]].transpose(2, 0, 1)
    right = moments[3 + what, :, _PLACE[y, x]].T
    diagonal = damping * np.trace(square, axis1=1, axis2=2)[:, None, None] + 1
    found = np.linalg.solve(square + diagonal * np.eye(len(unknowns), dtype=np.float32), right[..., None])
    return np.asarray(found[..., 0], np.float32)


def places(side: int) -> NDArray[np.float32]:
    """Return the positions of pixel centres, float32 [side], from -1 to 1."""
    return np.asarray((np.arange(side) * 2 + 1) / side - 1, np.float32)


@lru_cache(maxsize=4)
def powers(side: int) -> NDArray[np.float32]:
    """Return POWERS of the place of every pixel, float32 [side * side, 6]."""
    y, x = np.meshgrid(places(side), places(side), indexing="ij")
    return np.stack([y**up * x**right for up, right in POWERS], axis=-1).reshape(-1, len(POWERS))
