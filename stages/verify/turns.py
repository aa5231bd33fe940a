"""The eight flips and quarter turns of a square: how to apply them, and what they are called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

# Each acts on the last two axes. The first is "same way up", the second is the mirror image.
TURNS: tuple[Callable[[Array], Array], ...] = (
    lambda a: a,
    lambda a: a[..., ::-1],
    lambda a: a[..., ::-1, :],
    lambda a: a[..., ::-1, ::-1],
    lambda a: a.swapaxes(-1, -2),
    lambda a: a.swapaxes(-1, -2)[..., ::-1],
    lambda a: a.swapaxes(-1, -2)[..., ::-1, :],
    lambda a: a.swapaxes(-1, -2)[..., ::-1, ::-1],
)
INVERSE = np.array([0, 1, 2, 3, 4, 6, 5, 7])  # which turn undoes each
KINDS = ("copy", "mirrored", *["rotated"] * 6)


def turned(squares: NDArray[np.int8], turn: int, side: int) -> NDArray[np.int8]:
    """Apply a turn to flat squares, [..., side * side]."""
    return np.ascontiguousarray(TURNS[turn](squares.reshape(*squares.shape[:-1], side, side)).reshape(squares.shape))
