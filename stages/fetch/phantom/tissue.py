"""What fills a head's outlines where there is no tumour: scalp, bone, folded cortex, ventricles, vessels.

Some of it looks like a tumour on purpose: vessels and choroid plexus that take up contrast medium, lopsided ventricles,
a healthy pituitary that is bright.
"""

from __future__ import annotations

import numpy as np

from stages.fetch.phantom.anatomy import Head
from stages.fetch.phantom.contrast import Contrast
from stages.fetch.phantom.draws import Draws, Floats
from stages.fetch.phantom.shapes import Brush, Grid, Spot, inside, smooth


def paint(draws: Draws, grid: Grid, head: Head, contrast: Contrast) -> Brush:
    """Draw a slice without a tumour; return the brush, which holds the image."""
    brush = Brush(np.zeros(grid.shape, np.float32), grid)
    _soft_tissue(draws, brush, head, contrast)
    _cortex(draws, brush, head, contrast)
    fill = {"axial": _axial_inside, "coronal": _coronal_inside, "sagittal": _sagittal_inside}[head.plane]
    fill(draws, brush, head, contrast)
    if head.sella is not None:
        _sella(draws, brush, head.sella, contrast)
    _vessels(draws, brush, head, contrast)
    return brush


def _soft_tissue(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    """Fill the head: scalp, then bone round the brain, then muscle, fat and air below."""
    grid, scale = brush.grid, brush.grid.scale
    cells = draws.integer(18, 26)
    texture = smooth(draws.lattice(cells, cells), *grid.shape)
    fatty = inside(np.float32(0.1) - texture, 3) * np.float32(draws.uniform(0.2, 0.55))
    airy = inside(texture + np.float32(0.35), 4) * np.float32(0.8)
    flesh = (contrast.muscle + fatty * np.float32(contrast.fat - contrast.muscle)) * (1 - airy)
    brush.cover(head.head, contrast.fat)
    brush.cover(head.head + np.float32(head.scalp), flesh, soft=2.0)
    reach = np.float32(draws.uniform(0.05, 0.075) + head.scalp * 0.3)
    bone = np.maximum(head.brain - reach, head.head + np.float32(head.scalp))
    brush.cover(bone, contrast.bone, soft=1.5)
    marrow = np.abs(head.brain - reach * np.float32(0.6)) - np.float32(0.012)
    brush.image += inside(np.maximum(marrow, bone), scale, 3) * np.float32(contrast.fat * draws.uniform(0, 0.35))
    # The coil's reach ends below the brain.
    beyond = np.maximum(grid.y - np.float32(0.35), 0) * np.float32(draws.uniform(0.1, 1))
    brush.image *= 1 - np.minimum(beyond, np.float32(0.9))


def _cortex(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    """Fill the brain with fluid, folded grey matter and white matter; the cerebellum with finer folds."""
    cells = draws.integer(24, 34)
    folds = np.abs(smooth(draws.lattice(cells, cells), *brush.grid.shape))
    deep, width = np.float32(draws.uniform(0.15, 0.32)), np.float32(draws.uniform(0.14, 0.24))
    depth = -head.cerebrum
    # Distance to the nearest fluid: that outside of the brain, or that in a fold, and folds end at `deep`.
    ridge = folds * width + np.maximum(depth - deep, 0) * np.float32(0.35)
    if head.plane != "sagittal":
        ridge = np.minimum(ridge, _fissure(brush.grid, head))
    to_fluid = np.minimum(depth, ridge)
    sulcus, ribbon = draws.uniform(0.004, 0.018), draws.uniform(0.035, 0.055)
    brush.cover(head.cerebrum, contrast.fluid)
    brush.cover(np.maximum(np.float32(sulcus) - to_fluid, head.cerebrum), contrast.grey, soft=1.5)
    brush.cover(np.maximum(np.float32(sulcus + ribbon) - to_fluid, head.cerebrum), contrast.white, soft=2.5)
    if head.hindbrain is not None:
        mean, swing = contrast.grey * 0.4 + contrast.white * 0.6, 0.3 * (contrast.grey - contrast.white)
        level = np.float32(mean) + (folds * 3 - np.float32(0.5)) * np.float32(swing)
        brush.cover(head.hindbrain - np.float32(0.02), contrast.fluid)
        brush.cover(head.hindbrain, level, soft=1.5)


def _fissure(grid: Grid, head: Head) -> Floats:
    """Return the distance to the fluid between the hemispheres; the middle is bridged by the corpus callosum."""
    aside = np.abs(grid.x)
    if head.plane == "coronal":
        return aside + np.maximum(grid.y + np.float32(0.38), 0)
    return aside + np.maximum(np.float32(0.42) - np.abs(grid.y), 0) if head.level == "ventricles" else aside


def _axial_inside(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    if head.level == "ventricles":
        _basal_ganglia(draws, brush, contrast)
        size = draws.uniform(0.6, 1.5)
        for side in (-1, 1):
            own = size * draws.uniform(0.75, 1.25)
            horn = Spot(side * 0.1, -0.27, 0.05 * own, 0.14 * own, side * -0.12)
            brush.spot(horn, contrast.fluid)
            brush.spot(Spot(side * 0.13, 0.02, 0.025 * own, 0.22, side * 0.03), contrast.fluid)
            back = Spot(side * 0.22, 0.3, 0.055 * own, 0.15 * own, side * -0.14)
            brush.spot(back, contrast.fluid)
            if draws.chance(0.6):
                brush.spot(Spot(back.x, back.y - 0.05, 0.03, 0.05), contrast.plexus)
        brush.spot(Spot(0, 0.03, 0.018 * size, 0.11), contrast.fluid)
    if head.level == "base":
        brush.spot(Spot(0, 0.29, 0.06, 0.045), contrast.fluid)
        for side in (-1, 1):
            eye = Spot(side * draws.uniform(0.27, 0.33), -0.76, 0.13, 0.13)
            brush.spot(eye._replace(rx=0.17, ry=0.2, y=-0.7), contrast.fat, within=head.head)
            brush.spot(eye, contrast.fluid * 0.9 + 0.03, within=head.head)


def _basal_ganglia(draws: Draws, brush: Brush, contrast: Contrast) -> None:
    for side in (-1, 1):
        wide = draws.uniform(0.85, 1.15)
        brush.spot(Spot(side * 0.12, 0.06, 0.09 * wide, 0.13), contrast.grey * 1.03, soft=4)
        brush.spot(Spot(side * 0.17, -0.22, 0.06, 0.1 * wide, side * -0.12), contrast.grey, soft=3)
        brush.spot(Spot(side * 0.31, -0.06, 0.07 * wide, 0.17, side * -0.1), contrast.grey, soft=3)
        brush.spot(Spot(side * 0.46, -0.04, 0.02, 0.12, side * 0.1), contrast.fluid, soft=2)


def _coronal_inside(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    size = draws.uniform(0.6, 1.5)
    if head.level == "middle":
        for side in (-1, 1):
            brush.spot(Spot(side * 0.12, -0.1, 0.09, 0.1), contrast.grey, soft=4)
            brush.spot(Spot(side * 0.3, -0.14, 0.08, 0.13), contrast.grey, soft=4)
            brush.spot(Spot(side * 0.5, -0.1, 0.12, 0.02, side * -0.1), contrast.fluid, soft=2)
        brush.spot(Spot(0, -0.1, 0.018 * size, 0.1), contrast.fluid)
    for side in (-1, 1):
        own = size * draws.uniform(0.75, 1.25)
        out = 0.22 if head.level == "back" else 0.1
        brush.spot(Spot(side * out, -0.26, 0.1 * own, 0.05 * own, side * 0.2), contrast.fluid)
        if draws.chance(0.5):
            brush.spot(Spot(side * out, -0.25, 0.03, 0.02), contrast.plexus)
        if head.level == "front":
            eye = Spot(side * draws.uniform(0.26, 0.31), draws.uniform(0.18, 0.24), 0.12, 0.115)
            brush.spot(eye._replace(rx=0.17, ry=0.16), contrast.fat * 0.75, soft=3)
            brush.spot(eye, contrast.fluid * 0.9 + 0.03)
    if head.level != "back":
        brush.spot(Spot(0, 0.45, draws.uniform(0.08, 0.2), draws.uniform(0.12, 0.2)), 0.03, soft=3)


def _sagittal_inside(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    size = draws.uniform(0.7, 1.4)
    if head.level == "side":
        brush.spot(Spot(0.1, -0.2, 0.24, 0.05 * size, draws.uniform(-0.15, 0.1)), contrast.fluid)
        brush.spot(Spot(0.3, -0.08, 0.04 * size, 0.14, -0.3), contrast.fluid)
        brush.spot(Spot(0.33, -0.06, 0.03, 0.05), contrast.plexus)
        brush.spot(Spot(-0.02, -0.13, 0.13, 0.06), contrast.grey, soft=4)
        eye = Spot(-0.68, 0.12, 0.12, 0.12)
        brush.spot(eye._replace(x=-0.6, rx=0.19, ry=0.15), contrast.fat, within=head.head)
        brush.spot(eye, contrast.fluid * 0.9 + 0.03, within=head.head)
        return
    reach = draws.uniform(0.3, 0.36)
    brush.spot(Spot(0.06, -0.22, reach, 0.2, 0.03), contrast.white * 1.12)
    brush.spot(Spot(0.07, -0.17, reach - 0.07, 0.14, 0.03), contrast.fluid)
    brush.spot(Spot(0.08, -0.1, reach - 0.08, 0.12, 0.03), contrast.white, soft=2)
    brush.spot(Spot(0.1, -0.06, 0.14, 0.09), contrast.grey, soft=3)
    brush.spot(Spot(0.3, 0.14, 0.03 * size, 0.07, -0.2), contrast.fluid)
    brush.spot(Spot(0.02, 0.18, 0.045, 0.15), contrast.fluid)
    brush.spot(Spot(-0.3, 0.22, draws.uniform(0.09, 0.14), draws.uniform(0.07, 0.12)), 0.03, soft=2)
    brush.spot(Spot(-0.3, 0.5, draws.uniform(0.2, 0.3), 0.04), 0.04, soft=3)


def _sella(draws: Draws, brush: Brush, sella: tuple[float, float], contrast: Contrast) -> None:
    """Draw the cistern over the sella, and the healthy gland in it, which may be bright and somewhat large."""
    x, y = sella
    brush.spot(Spot(x, y - 0.04, 0.13, 0.07), contrast.fluid, soft=2)
    brush.spot(Spot(x, y + 0.02, draws.uniform(0.03, 0.055), draws.uniform(0.02, 0.035)), contrast.gland)


def _vessels(draws: Draws, brush: Brush, head: Head, contrast: Contrast) -> None:
    """Draw vessels cut across, and the venous sinus: as bright as a tumour in T1, but small."""
    for _ in range(draws.integer(2, 7)):
        x, y, radius = draws.uniform(-0.5, 0.5), draws.uniform(-0.7, 0.4), draws.uniform(0.012, 0.03)
        cut = Spot(x, y, radius, radius * draws.uniform(1, 2), draws.uniform(-0.5, 0.5))
        brush.spot(cut, contrast.vessel, head.cerebrum)
    if head.plane == "axial":
        brush.spot(Spot(0, 0.84, 0.04, 0.03), contrast.vessel)
