"""False colours -> the grey levels that they stand for.

Most maps of colours grow brighter all the way, so their grey picture keeps the order of levels, and of tones the audit
compares no more than that. The map `jet`, dark blue to dark red, is brightest in its middle. It is undone here: a
colour counts as the nearest place on the map's path.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATH = np.array([[0, 0, 128], [0, 0, 255], [0, 255, 255], [255, 255, 0], [255, 0, 0], [128, 0, 0]])  # R, G, B
AT = np.array([0, 32, 96, 160, 223, 255])  # the levels that these stand for
BITS = 5  # of each channel, by which colours are told apart
NEAR = 60  # levels between a colour and the path, beyond which it is none of the map's
SHARE = 0.9  # of a picture's pixels that must be near
APART = 64  # levels between a colour's channels; on the path they lie 127 or more apart
GLANCE = 0.5  # of a sample of one pixel in 64 that must be so, for all to be looked at


def undone(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the levels, uint8 [H, W], of an image of mode RGB in the colours of `jet`; None of any other."""
    sample = image.resize([-(-side // 8) for side in image.size], Image.Resampling.NEAREST)
    red, green, blue = np.asarray(sample).transpose(2, 0, 1)
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    if (highest - lowest >= APART).mean() < GLANCE:  # nearly free, and true of all that is grey
        return None
    levels, near = _places()
    red, green, blue = (np.asarray(image).astype(np.int32) >> (8 - BITS)).transpose(2, 0, 1)
    which = (red << 2 * BITS) + (green << BITS) + blue
    return levels[which] if near[which].mean() >= SHARE else None


@lru_cache(maxsize=1)
def _places() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return of each colour, by its highest bits, the level at the nearest place of the path, and if that is near."""
    path = np.stack([np.interp(np.arange(256), AT, channel) for channel in PATH.T], axis=1).round().astype(np.int64)
    side = np.arange(2**BITS) * 2 ** (8 - BITS) + 2 ** (7 - BITS)
    colours = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    # |c - p|^2 without |c|^2, which is the same for all p: integers, so that ties fall the same everywhere
    nearest = ((path * path).sum(axis=1) - 2 * colours @ path.T).argmin(axis=1)
    gap = colours - path[nearest]
    return nearest.astype(np.uint8), (gap * gap).sum(axis=1) <= NEAR * NEAR
