"""Parts and slight turns of a head, described too: what a picture that was cropped or turned shows of its original.

A cropped picture's own box is a part of its original's, and 16 x 16 cells forgive a misfit of a few per cent only. So
each head is described again within a few FRAMES of its box, the first the box itself. The search compares these with
the plain views of all other pictures, and the one that fits is where the alignment starts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # side of a view; the smallest true copy (a 200 px image at scale 0.4) still has this many pixels
SINE, COSINE = 0.121869, 0.992546  # of 7 degrees: turns of 4 to 10 are then within 3


def _centre(share: float) -> list[list[float]]:
    return [[0, share, 0], [0, 0, share]]


def _top(share: float) -> list[list[float]]:
    return [[share - 1, share, 0], [0, 0, 1]]


_OF_HEAD = [
    *(_centre(share) for share in (1, 0.92, 0.84, 0.76)),
    *(_top(share) for share in (0.9, 0.8, 0.7)),
    [[0, COSINE, SINE], [0, -SINE, COSINE]],
    [[0, COSINE, -SINE], [0, SINE, COSINE]],
]
_OF_WHOLE = [_centre(0.8), *(_top(share) for share in (0.9, 0.8))]
# Of the last view that a picture has: mostly the head again, as another scale of tones shows it.
_OF_LAST = [_centre(0.9)]

# Where a place (y, x) of a frame lies in its view, both from -1 to 1: y' = a + b y + c x, x' = d + e y + f x.
FRAMES = np.array(_OF_HEAD + _OF_WHOLE + _OF_LAST)
_VIEWS = np.repeat([0, 1, -1], [len(_OF_HEAD), len(_OF_WHOLE), len(_OF_LAST)])


def view_of(frame: NDArray[np.intp], views: NDArray[np.intp] | int) -> NDArray[np.intp]:
    """Return which view each frame is of, by place in FRAMES, of pictures that have so many views; shapes broadcast.

    Examples
    --------
    >>> view_of(np.array([0, 9, 12]), 3).tolist(), view_of(np.array([0, 9, 12]), 1).tolist()
    ([0, 1, 2], [0, 1, 0])
    """
    return np.where(_VIEWS[frame] < 0, np.asarray(views) - 1, _VIEWS[frame])


def views_in(descriptors: NDArray[np.int8]) -> NDArray[np.intp]:
    """Return how many views pictures have, up to the last that is not empty, by descriptors [..., VIEWS, cells]."""
    there = np.asarray(descriptors.any(axis=-1))
    return np.asarray(there.shape[-1] - there[..., ::-1].argmax(axis=-1))


@lru_cache
def _sources(views: int) -> NDArray[np.intp]:
    """Return which pixel of so many views, as a flat index, each pixel of each frame shows: [FRAMES, SIDE, SIDE]."""
    places = (np.arange(SIDE) * 2 + 1) / SIDE - 1
    y, x = (each.ravel() for each in np.meshgrid(places, places, indexing="ij"))
    at = FRAMES @ np.stack([np.ones_like(y), y, x])
    row, column = np.clip(np.floor((at + 1) * SIDE / 2), 0, SIDE - 1).astype(np.intp).swapaxes(0, 1)
    view = np.minimum(view_of(np.arange(len(FRAMES)), views), views - 1)  # any will do for one that is not there
    return np.asarray((view[:, None] * SIDE + row) * SIDE + column).reshape(-1, SIDE, SIDE)


def framed(thumbs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return views, uint8 [V, SIDE, SIDE], as FRAMES show them, [FRAMES, SIDE, SIDE]; zeros of a view not there."""
    found = thumbs.ravel().take(_sources(len(thumbs)))
    found[view_of(np.arange(len(FRAMES)), len(thumbs)) >= len(thumbs)] = 0
    return found
