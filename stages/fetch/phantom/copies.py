"""What people do to images before they publish them twice."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.fetch.phantom.draws import Draws

Grey = NDArray[np.uint8]
KINDS = ("byte", "recoded", "contrast", "mirrored")


def copied(grey: Grey, kind: str, draws: Draws) -> Grey:
    """Return a copy of grey levels uint8 [H, W], of one of KINDS."""
    if kind == "recoded":
        factor = draws.uniform(0.5, 1.8)
        size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
        rescaled = Image.fromarray(through_jpeg(grey, draws.integer(30, 85))).resize(size, Image.Resampling.BICUBIC)
        return np.asarray(rescaled)
    if kind == "contrast":
        return recontrasted(grey, draws)
    if kind == "mirrored":
        flipped = np.ascontiguousarray(grey[:, ::-1])
        return through_jpeg(flipped, draws.integer(70, 95)) if draws.chance(0.5) else flipped
    return grey


def through_jpeg(grey: Grey, quality: int) -> Grey:
    """Return grey levels after JPEG at a quality of 1 to 95.

    Grey only: libjpeg's integer transform gives the same levels with and without SIMD.
    """
    encoded = io.BytesIO()
    Image.fromarray(grey).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


def recontrasted(grey: Grey, draws: Draws) -> Grey:
    """Return grey levels under a rising tone curve (a parabola, as gamma's bits depend on libm), gain and offset."""
    level = np.arange(256) / 255
    bend = draws.uniform(0.15, 0.5) * draws.sign()
    curve = level + bend * level * (1 - level)
    toned = curve * draws.uniform(0.65, 1.15) + draws.uniform(0, 0.08)
    return np.minimum(np.floor(toned * 255 + 0.5), 255).astype(np.uint8)[grey]
