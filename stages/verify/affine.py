"""Alignment of two views by any affine map: for pictures that were turned a little, or show a part of the other.

Gauss-Newton on the squared difference, coarse to fine (Lucas and Kanade 1981), with six unknowns. A map is float32
[2, 3]: a place (y, x) of the fixed view, each from -1 to 1, lies at (a + b y + c x, d + e y + f x) of the moving one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[Any]  # float32 [N, side, side]
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
    side = fixed.shape[1]
    moved, inside = resampled(moving, maps)
    y, x = _places(side)
    slopes = np.zeros((2, *moved.shape), np.float32)
    slopes[0, :, 1:-1] = moved[:, 2:] - moved[:, :-2]
    slopes[1, :, :, 1:-1] = moved[:, :, 2:] - moved[:, :, :-2]
    slopes *= inside * np.float32(side / 4)
    rates = np.stack([part for slope in slopes for part in (slope, slope * y, slope * x)], axis=1)
    rates = rates.reshape(len(fixed), 6, -1)
    error = ((fixed - moved) * inside).reshape(len(fixed), -1, 1)
    square = rates @ rates.transpose(0, 2, 1)
    eye = np.eye(6, dtype=np.float32)
    damping = (0.005 * np.trace(square, axis1=1, axis2=2)[:, None, None] + 1) * eye
    change = np.linalg.solve(square + damping, rates @ error)
    # what moves the picture's rim by more than a twentieth of it is no small step
    return np.clip(change[..., 0], -0.1, 0.1).astype(np.float32).reshape(-1, 2, 3)


def _places(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    places = ((np.arange(side) * 2 + 1) / side - 1).astype(np.float32)
    return places[:, None], places[None]


def resampled(images: Images, maps: Maps) -> tuple[Images, NDArray[np.bool_]]:
    """Return images read where the maps say, bilinear, and which places lay inside them."""
    count, side = len(images), images.shape[1]
    y, x = _places(side)
    at = maps[:, :, 0, None, None] + maps[:, :, 1, None, None] * y + maps[:, :, 2, None, None] * x
    at = (at * np.float32(side) + np.float32(side - 1)) / 2
    inside = ((at >= 0) & (at <= side - 1)).all(axis=1)
    at = np.clip(at, 0, np.float32(side - 1.001))
    low = at.astype(np.int32)
    part_y, part_x = (at - low).swapaxes(0, 1)
    first = (np.arange(count, dtype=np.int32) * side * side)[:, None, None] + low[:, 0] * side + low[:, 1]
    flat = images.ravel()
    near, next_x, next_y, both = (flat[first + shift] for shift in (0, 1, side, side + 1))
    upper, lower = near + (next_x - near) * part_x, next_y + (both - next_y) * part_x
    return upper + (lower - upper) * part_y, inside
