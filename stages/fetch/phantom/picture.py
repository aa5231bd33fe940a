"""One picture from its key: head, tumour, scanner."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.fetch.phantom import anatomy, contrast, tissue, tumour
from stages.fetch.phantom.draws import Draws, Floats
from stages.fetch.phantom.schema import PhantomParams
from stages.fetch.phantom.shapes import Brush, Grid, posed, smooth

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")  # a class's place here is part of its pictures' keys
SEEN = 0.05  # change of level, of about 1, from which on a pixel is the tumour's
TILT = 0.09  # tangent of half the largest angle a head is turned by: 10 degrees


class Box(NamedTuple):
    """A tumour's bounding box, as fractions of the picture's width and height; empty where nothing of it is seen."""

    left: float
    top: float
    right: float
    bottom: float


class Picture(NamedTuple):
    """A picture, uint8 [H, W], and where its tumour is."""

    grey: NDArray[np.uint8]
    box: Box | None


def picture(seed: int, test: bool, label: str, number: int, params: PhantomParams) -> NDArray[np.uint8]:
    """Return grey levels uint8 [H, W]: a function of the arguments alone, the same bytes on any x86 machine."""
    return pictured(seed, test, label, number, params).grey


def pictured(seed: int, test: bool, label: str, number: int, params: PhantomParams) -> Picture:
    """Return the same with the tumour's box."""
    key = (seed, int(test), CLASSES.index(label), number)
    draws = Draws(*key, 0)
    plane = draws.choice(anatomy.PLANES)
    level = anatomy.SELLAR[plane] if label == "pituitary" else draws.choice(anatomy.LEVELS[plane])
    grid = grid_of(draws, plane, params)
    head = anatomy.outlines(draws, grid, plane, level)
    levels = contrast.drawn(draws, params.visibility)
    mass = None if label == "notumor" else tumour.placed(Draws(*key, 1), grid, head, label)
    if mass is not None:
        grid.push(mass.x, mass.y, mass.radius, 0.06)
    brush = tissue.paint(draws, grid, head, levels)
    box = None
    if mass is not None:
        box = painted(Draws(*key, 1, 1), brush, head, mass, label, levels)
    return Picture(scan(Draws(*key, 2), brush.image, params.noise), box)


def painted(
    draws: Draws, brush: Brush, head: anatomy.Head, mass: tumour.Mass, label: str, levels: contrast.Contrast
) -> Box:
    """Draw the tumour; return the box of the pixels that it changed by over SEEN."""
    before = brush.image.copy()
    tumour.paint(draws, brush, head, mass, label, levels)
    changed = np.abs(brush.image - before) > SEEN
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return Box(0.0, 0.0, 0.0, 0.0)
    height, width = changed.shape
    return Box(columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def grid_of(draws: Draws, plane: str, params: PhantomParams) -> Grid:
    """Return a grid of random size; heads in the sagittal plane face left or right."""
    side = draws.integer(params.min_side, params.max_side)
    height, width = side, side
    if draws.chance(0.5):
        width = max(params.min_side, int(side * draws.uniform(0.8, 1)))
    if plane == "axial":
        scale = min(height, width / 0.86) * draws.uniform(0.39, 0.5)
    else:  # the neck leaves the picture
        scale = min(height, width / 0.9) * draws.uniform(0.45, 0.54)
    middle = 0.5 if plane == "axial" else draws.uniform(0.52, 0.58)
    return posed(draws, (height, width), middle, scale, TILT, plane == "sagittal" and draws.chance(0.5))


def scan(draws: Draws, image: Floats, noisiest: float) -> NDArray[np.uint8]:
    """Return what a scanner makes of the tissue: coil shading, blur, Rician noise, a window of grey levels."""
    height, width = image.shape
    shading = 1 + np.float32(draws.uniform(0.15, 0.5)) * smooth(draws.lattice(5, 5), height, width)
    signal = _blurred(image * shading) if draws.chance(0.7) else image * shading
    real, imaginary = draws.gaussian_pair(height, width)
    noise = np.float32(draws.uniform(0.15, 1) * noisiest)
    real = signal + noise * real
    imaginary = noise * imaginary
    magnitude = np.sqrt(real * real + imaginary * imaginary)  # Rice: Gudbjartsson and Patz 1995
    bend, gain = np.float32(draws.uniform(-0.2, 0.2)), np.float32(draws.uniform(165, 240))
    toned = magnitude * (1 + bend * (1 - magnitude))
    return np.minimum(np.maximum(toned * gain + np.float32(0.5), 0), 255).astype(np.uint8)


def _blurred(image: Floats) -> Floats:
    """Return the image under a 3 x 3 binomial filter; its outermost pixels as they were."""
    out = image.copy()
    out[1:-1] = image[1:-1] * np.float32(0.5) + (image[:-2] + image[2:]) * np.float32(0.25)
    rows = out.copy()
    out[:, 1:-1] = rows[:, 1:-1] * np.float32(0.5) + (rows[:, :-2] + rows[:, 2:]) * np.float32(0.25)
    return out
