"""Alignment of two views by any affine map: for pictures that were turned a little, or show a part of the other.

Gauss-Newton on the squared difference, coarse to fine (descent.py), with six unknowns. A map is float32 [2, 3]: a place
(y, x) of the fixed view, each from -1 to 1, lies at (a + b y + c x, d + e y + f x) of the moving one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.verify.descent import Images, change, places

UNKNOWNS = np.array([(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 0, 1)])  # of a map, see `change`
Maps = NDArray[np.float32]  # [N, 2, 3]


def composed(outer: NDArray[np.floating[Any]], inner: NDArray[np.floating[Any]]) -> Maps:
    """Return the maps that apply `inner` first, [N, 2, 3] both."""
    turned = outer[:, :, 1:] @ inner
    turned[:, :, 0] += outer[:, :, 0]
    return np.asarray(turned, np.float32)


def inverse(maps: NDArray[np.floating[Any]]) -> Maps:
    """Return the maps that undo these, [N, 2, 3]."""
    (a, b), (c, d) = maps[:, :, 1:].transpose(1, 2, 0)
    back = np.stack([np.stack([d, -b], axis=-1), np.stack([-c, a], axis=-1)], axis=1) / (a * d - b * c)[:, None, None]
    return np.concatenate([-back @ maps[:, :, :1], back], axis=2).astype(np.float32)


def refined(fixed: Images, moving: Images, maps: Maps, steps: int) -> Maps:
    """Return maps that fit better after so many steps."""
    for _ in range(steps):
        maps = np.asarray(maps + _step(fixed, moving, maps), np.float32)
    return maps


def _step(fixed: Images, moving: Images, maps: Maps) -> Maps:
    # what moves the picture's rim by more than a twentieth of it is no small step
    found = change(fixed, *resampled(moving, maps), UNKNOWNS, 0.005)
    return np.asarray(np.clip(found, -0.1, 0.1).reshape(-1, 2, 3), np.float32)


def resampled(images: Images, maps: Maps) -> tuple[Images, NDArray[np.bool_]]:
    """Return images read where the maps say, bilinear, and which places lay inside them."""
    count, side = len(images), images.shape[1]
    # in pixels; by lines and by columns first, since memory is what takes the time
    constant, by_y, by_x = (maps * np.float32(side / 2)).transpose(2, 0, 1)[..., None]
    lines = constant + np.float32((side - 1) / 2) + by_y * places(side)
    at = lines[..., None] + (by_x * places(side))[:, :, None]
    inside = ((at >= 0) & (at <= side - 1)).all(axis=1)
    at = np.clip(at, 0, np.float32(side - 1.001))
    low = np.floor(at)
    part_y, part_x = (at - low).swapaxes(0, 1)
    first = (low[:, 0] * np.float32(side) + low[:, 1]).astype(np.intp)
    first += np.arange(0, images.size, side * side)[:count, None, None]
    flat = images.ravel()
    # none is outside; "clip" only spares the search for one
    near, next_x, next_y, both = (flat[shift:].take(first, mode="clip") for shift in (0, 1, side, side + 1))
    upper, lower = near + (next_x - near) * part_x, next_y + (both - next_y) * part_x
    return upper + (lower - upper) * part_y, inside
