"""Outlines of heads in three planes. What is inside is drawn later (tissue.py), when a tumour may have pushed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.fetch.phantom.draws import Draws, Floats
from stages.fetch.phantom.shapes import Grid, Spot, ellipse, union

LEVELS = {
    "axial": ("high", "ventricles", "base"),
    "coronal": ("front", "middle", "back"),
    "sagittal": ("middle", "side"),
}
PLANES = tuple(LEVELS)
SELLAR = {"axial": "base", "coronal": "middle", "sagittal": "middle"}  # the level that shows the pituitary


@dataclass
class Head:
    """Outlines as distances in head units, negative inside, float32 [H, W]; and where things are."""

    plane: str
    level: str  # which slice of the plane
    head: Floats
    cerebrum: Floats
    hindbrain: Floats | None  # cerebellum and stem, in slices that have them
    sella: tuple[float, float] | None  # where the pituitary sits, in slices that have it
    scalp: float  # thickness, head units

    @property
    def brain(self) -> Floats:
        """Distance to everything neural."""
        return self.cerebrum if self.hindbrain is None else np.minimum(self.cerebrum, self.hindbrain)


def outlines(draws: Draws, grid: Grid, plane: str, level: str) -> Head:
    """Return the outlines of one slice."""
    return {"axial": _axial, "coronal": _coronal, "sagittal": _sagittal}[plane](draws, grid, level)


def _axial(draws: Draws, grid: Grid, level: str) -> Head:
    egg = grid.x * (1 + np.float32(draws.uniform(-0.16, 0.05)) * grid.y)
    breadth = draws.uniform(0.7, 0.86)
    head = ellipse(egg, grid.y, Spot(0, 0, breadth, draws.uniform(0.94, 1)))
    scalp, bone = draws.uniform(0.035, 0.1), draws.uniform(0.05, 0.1)
    cerebrum = head + np.float32(scalp + bone)
    if level != "base":
        return Head("axial", level, head, cerebrum, None, None, scalp)
    temporal = _pair(grid, draws, Spot(0.4, -0.12, 0.25, 0.3, 0.1))
    frontal = _pair(grid, draws, Spot(0.15, -0.45, 0.16, 0.24))
    lobes = union(temporal, frontal, 0.1)
    stem = ellipse(grid.x, grid.y, Spot(0, 0.12, 0.15, 0.15))
    cerebellum = ellipse(grid.x, grid.y, Spot(0, draws.uniform(0.44, 0.52), draws.uniform(0.44, 0.54), 0.3))
    hindbrain = np.maximum(union(stem, cerebellum, 0.1), cerebrum)
    return Head("axial", level, head, np.maximum(lobes, cerebrum), hindbrain, (0.0, -0.18), scalp)


def _coronal(draws: Draws, grid: Grid, level: str) -> Head:
    cap = Spot(0, -0.3, draws.uniform(0.66, 0.76), draws.uniform(0.66, 0.72))
    jaw = Spot(0, 0.4, draws.uniform(0.52, 0.64), draws.uniform(0.5, 0.6))
    neck = Spot(0, 1.0, draws.uniform(0.4, 0.55), 0.7)
    face = union(ellipse(grid.x, grid.y, jaw), ellipse(grid.x, grid.y, neck), 0.2)
    head = union(ellipse(grid.x, grid.y, cap), face, 0.2)
    scalp, bone = draws.uniform(0.035, 0.09), draws.uniform(0.05, 0.09)
    vault = ellipse(grid.x, grid.y, cap) + np.float32(scalp + bone)
    base = grid.y - np.float32(draws.uniform(0.02, 0.1))
    cerebrum = np.maximum(vault, base)
    if level != "front":
        temporal = _pair(grid, draws, Spot(0.36, 0.03, 0.22, draws.uniform(0.18, 0.24)))
        cerebrum = union(cerebrum, np.maximum(temporal, vault), 0.06)
    hindbrain = None
    if level == "back":
        hindbrain = ellipse(grid.x, grid.y, Spot(0, 0.2, draws.uniform(0.4, 0.48), 0.19))
    if level == "middle":
        hindbrain = ellipse(grid.x, grid.y, Spot(0, 0.42, 0.1, 0.2))
    return Head("coronal", level, head, cerebrum, hindbrain, (0.0, 0.14) if level == "middle" else None, scalp)


def _sagittal(draws: Draws, grid: Grid, level: str) -> Head:
    cap = Spot(0.06, -0.3, draws.uniform(0.78, 0.86), draws.uniform(0.6, 0.68))
    face = union(
        ellipse(grid.x, grid.y, Spot(-0.45, 0.38, 0.33, draws.uniform(0.42, 0.55))),
        ellipse(grid.x, grid.y, Spot(-0.82, draws.uniform(0.22, 0.34), 0.12, 0.16, -0.3)),
        0.1,
    )
    neck = ellipse(grid.x, grid.y, Spot(0.2, 0.62, draws.uniform(0.38, 0.5), 0.75, 0.1))
    head = union(union(ellipse(grid.x, grid.y, cap), face, 0.2), neck, 0.25)
    scalp, bone = draws.uniform(0.035, 0.09), draws.uniform(0.045, 0.085)
    vault = ellipse(grid.x, grid.y, cap) + np.float32(scalp + bone)
    base = grid.y - np.float32(draws.uniform(0.0, 0.06)) - np.float32(0.08) * grid.x
    cerebrum = np.maximum(vault, base)
    cerebellum = ellipse(grid.x, grid.y, Spot(0.44, 0.17, draws.uniform(0.23, 0.29), draws.uniform(0.16, 0.2), 0.15))
    if level == "side":
        temporal = ellipse(grid.x, grid.y, Spot(-0.12, 0.08, 0.33, 0.18, -0.1))
        return Head("sagittal", level, head, union(cerebrum, temporal, 0.1), np.maximum(cerebellum, vault), None, scalp)
    pons, cord = Spot(0.15, 0.18, 0.11, 0.16), Spot(0.22, 0.5, 0.07, 0.5, -0.06)
    stem = union(ellipse(grid.x, grid.y, pons), ellipse(grid.x, grid.y, cord), 0.08)
    hindbrain = union(stem, np.maximum(cerebellum, vault), 0.03)
    return Head("sagittal", level, head, cerebrum, hindbrain, (-0.13, 0.13), scalp)


def _pair(grid: Grid, draws: Draws, spot: Spot) -> Floats:
    """Return the distance to an ellipse and its mirror image, which is not quite the same."""
    other = spot._replace(x=-spot.x * draws.uniform(0.95, 1.05), ry=spot.ry * draws.uniform(0.9, 1.1), lean=-spot.lean)
    return np.minimum(ellipse(grid.x, grid.y, spot), ellipse(grid.x, grid.y, other))
