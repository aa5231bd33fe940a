"""Tumours: where each kind may grow, how it pushes, and how it looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stages.fetch.phantom.anatomy import Head
from stages.fetch.phantom.contrast import Contrast
from stages.fetch.phantom.draws import Draws
from stages.fetch.phantom.shapes import Brush, Grid, Spot, ellipse, inside, smooth

TRIES = 60  # of finding a place that suits


@dataclass(frozen=True)
class Mass:
    """A tumour's place and size in head units."""

    x: float
    y: float
    radius: float


def placed(draws: Draws, grid: Grid, head: Head, kind: str) -> Mass:
    """Return where a tumour of this kind grows in this head."""
    if kind == "pituitary":
        assert head.sella is not None
        radius = draws.uniform(0.1, 0.18)
        return Mass(head.sella[0] + draws.uniform(-0.02, 0.02), head.sella[1] - radius * draws.uniform(0, 0.5), radius)
    if kind == "meningioma":
        radius = draws.uniform(0.19, 0.33)
        return _searched(draws, grid, head, radius, 0.35 * radius, 0.75 * radius)
    radius = draws.uniform(0.23, 0.38)
    return _searched(draws, grid, head, radius, 0.75 * radius, 2.0)


def _searched(draws: Draws, grid: Grid, head: Head, radius: float, shallow: float, deep: float) -> Mass:
    """Return a mass whose centre lies between two depths in the cerebrum, away from the sella, or nearly so."""
    best, miss = Mass(0.0, -0.3, radius), 9.0
    for _ in range(TRIES):
        x, y = draws.uniform(-0.75, 0.75), draws.uniform(-0.9, 0.6)
        row, column = grid.pixel(x, y)
        if not (0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]):
            continue
        depth = -float(head.cerebrum[row, column])
        off = max(shallow - depth, depth - deep, 0.0)
        if head.sella is not None:
            dx, dy = x - head.sella[0], y - head.sella[1]
            off += max(0.0, 0.1 + 0.7 * radius - math.sqrt(dx * dx + dy * dy))
        if off < miss:
            # Place by what the warped head has at that pixel, so that depth and place agree.
            best, miss = Mass(float(grid.x[row, column]), float(grid.y[row, column]), radius), off
        if off == 0:
            break
    return best


def paint(draws: Draws, brush: Brush, head: Head, mass: Mass, kind: str, contrast: Contrast) -> None:
    """Draw the tumour over a slice."""
    {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}[kind](draws, brush, head, mass, contrast)


def _glioma(draws: Draws, brush: Brush, head: Head, mass: Mass, contrast: Contrast) -> None:
    """Oedema that creeps along white matter, an irregular rim that takes up contrast medium, a dead core."""
    r = mass.radius
    part = brush.grid.window(mass.x, mass.y, 2 * r)
    x, y = brush.grid.x[part], brush.grid.y[part]
    lobes, rough, inner = (np.float32(r) * smooth(draws.lattice(cells, cells), *x.shape) for cells in (9, 15, 12))
    wide, high = r * draws.uniform(0.75, 1.15), r * draws.uniform(0.75, 1.15)
    outline = Spot(mass.x, mass.y, wide, high, draws.uniform(-0.5, 0.5))
    edge = ellipse(x, y, outline) + np.float32(0.8) * lobes + np.float32(0.35) * rough
    brain, under = head.brain[part], brush.image[part]
    # Oedema spares grey matter: it replaces white matter wholly, grey matter in part.
    spared = np.minimum(np.abs(under - np.float32(contrast.white)) * 3, np.float32(0.5))
    reach = np.maximum(edge + rough - np.float32(r * draws.uniform(0.15, 0.5)), brain)
    under += inside(reach, brush.grid.scale, 6) * (1 - spared) * (np.float32(contrast.oedema) - under)
    solid = np.maximum(edge + np.float32(0.25 * r), brain)
    brush.cover(solid, contrast.rim * (1 + np.float32(0.3 / r) * rough), part, soft=2.5)
    core = solid + np.float32(r * draws.uniform(0.15, 0.3)) + np.float32(0.5) * inner
    brush.cover(core, contrast.necrosis * (1 + np.float32(0.4 / r) * rough), part, soft=3)


def _meningioma(draws: Draws, brush: Brush, head: Head, mass: Mass, contrast: Contrast) -> None:
    """A round, even, sharply bounded mass on the dura, a cleft of fluid round it, and a tail along the dura."""
    part = brush.grid.window(mass.x, mass.y, 2.2 * mass.radius)
    x, y = brush.grid.x[part], brush.grid.y[part]
    spot = Spot(mass.x, mass.y, mass.radius, mass.radius * draws.uniform(0.85, 1.1), draws.uniform(-0.4, 0.4))
    ball = ellipse(x, y, spot)
    brain = head.brain[part]
    brush.cover(np.maximum(ball - np.float32(0.02), brain), contrast.fluid, part, soft=2)
    brush.cover(np.maximum(ball, brain), contrast.meningioma, part, soft=1.5)
    tail = np.maximum(np.abs(brain) - np.float32(0.014), ball - np.float32(mass.radius * draws.uniform(0.2, 0.6)))
    brush.cover(tail, contrast.meningioma, part, soft=1.5)


def _pituitary(draws: Draws, brush: Brush, head: Head, mass: Mass, contrast: Contrast) -> None:
    """A small, well-bounded mass that fills the sella and, where large, bulges up through it like a figure of eight."""
    low = Spot(mass.x, mass.y + 0.3 * mass.radius, mass.radius, mass.radius * draws.uniform(0.65, 0.9))
    brush.spot(low._replace(rx=low.rx + 0.03, ry=low.ry + 0.03), contrast.bone)
    brush.spot(low, contrast.adenoma)
    if draws.chance(0.6):
        wide = mass.radius * draws.uniform(0.6, 0.9)
        brush.spot(Spot(mass.x, mass.y - 0.4 * mass.radius, wide, wide * 0.9), contrast.adenoma)
