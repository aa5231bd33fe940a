"""One image: from any grey picture to a square of S by S grey levels. Predict uses these same lines."""

from __future__ import annotations

import numpy as np
from PIL import Image


def square(grey: np.ndarray, size: int, crop: bool, threshold: float) -> np.ndarray:
    """Return a grey image uint8 [H, W] as uint8 [size, size]: cut to the head, padded to a square, resized.

    Resizing is Pillow's antialiased bilinear filter, whose 8-bit arithmetic is in integers and so the same everywhere.
    """
    if crop:
        grey = grey[head_box(grey, threshold)]
    return np.asarray(Image.fromarray(pad(grey)).resize((size, size), Image.Resampling.BILINEAR))


def head_box(grey: np.ndarray, threshold: float) -> tuple[slice, slice]:
    """Return (rows, columns) of the smallest box that holds the head in uint8 [H, W]; everything if nothing stands out.

    A row or column belongs to the head if over 2 % of its pixels are brighter than `threshold` times the image's 99th
    percentile: single bright specks (noise, letters in a corner) do not widen the box.
    """
    bright = grey > threshold * int(np.percentile(grey, 99, method="lower"))
    rows = np.flatnonzero(bright.sum(axis=1) > 0.02 * grey.shape[1])
    columns = np.flatnonzero(bright.sum(axis=0) > 0.02 * grey.shape[0])
    if len(rows) < 2 or len(columns) < 2:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def pad(grey: np.ndarray) -> np.ndarray:
    """Return [H, W] centred on black in a square whose side is the longer of the two."""
    height, width = grey.shape
    side = max(height, width)
    out = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = grey
    return out
