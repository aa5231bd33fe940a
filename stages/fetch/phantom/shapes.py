"""The geometry that heads are drawn with: a posed grid, smooth fields, signed distances, and a brush.

All in float32 with + - * / sqrt, comparisons and gathers, which IEEE 754 rounds the same way everywhere. No sums over
pixels, no exp, power or sine: their bits depend on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.fetch.phantom.draws import Draws, Floats

WARP_MARGIN = 0.2  # head units: farther than any warp or push moves a point
Window = tuple[slice, slice]
EVERYWHERE: Window = (slice(None), slice(None))


class Spot(NamedTuple):
    """An ellipse in head units (1 is half the height of a head; x to the right, y down)."""

    x: float
    y: float
    rx: float
    ry: float
    lean: float = 0.0  # tangent of half the angle that it is turned by


def turn(lean: float) -> tuple[float, float]:
    """Return (cos, sin) of the angle whose half has the tangent `lean`; exact arithmetic, unlike cos and sin."""
    return (1 - lean * lean) / (1 + lean * lean), 2 * lean / (1 + lean * lean)


@dataclass
class Grid:
    """Head coordinates float32 [H, W] of every pixel, under a pose and a smooth warp."""

    x: Floats
    y: Floats
    scale: float  # pixels a head unit
    stretch: float  # of x against y; negative where left and right are exchanged
    centre: tuple[float, float]  # x, y in pixels
    cos: float
    sin: float

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.x.shape[0], self.x.shape[1]

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Return (row, column) of a point in head units, warp left aside; it may lie outside of the image."""
        across, down = x * self.stretch * self.scale, y * self.scale
        column = self.centre[0] + self.cos * across - self.sin * down
        row = self.centre[1] + self.sin * across + self.cos * down
        return int(np.floor(row)), int(np.floor(column))

    def window(self, x: float, y: float, reach: float) -> Window:
        """Return the part of the image that holds all points within `reach` head units of (x, y)."""
        row, column = self.pixel(x, y)
        margin = int((reach + WARP_MARGIN) * self.scale * max(1.0, abs(self.stretch))) + 2
        height, width = self.shape
        rows = slice(min(max(row - margin, 0), height), min(max(row + margin, 0), height))
        return rows, slice(min(max(column - margin, 0), width), min(max(column + margin, 0), width))

    def push(self, x: float, y: float, radius: float, strength: float) -> None:
        """Displace tissue away from a mass, most at its edge, by `strength` head units."""
        part = self.window(x, y, 3 * radius)
        dx, dy = self.x[part] - np.float32(x), self.y[part] - np.float32(y)
        near = (dx * dx + dy * dy) * np.float32(1 / (radius * radius))
        # 2t / (1 + t^2)^2 with t = distance / radius: nothing at the centre, nothing far away, no exp.
        fall = np.float32(2 * strength / radius) / ((1 + near) * (1 + near))
        self.x[part] -= dx * fall
        self.y[part] -= dy * fall


def posed(draws: Draws, shape: tuple[int, int], middle: float, scale: float, tilt: float, mirrored: bool) -> Grid:
    """Return the grid of a head that is turned, shifted, stretched and smoothly warped at random.

    `shape` is (H, W) in pixels, `scale` pixels a head unit, `middle` where the head's lies, as a fraction of the
    height, `tilt` the tangent of half the largest angle.
    """
    height, width = shape
    cos, sin = turn(draws.uniform(-tilt, tilt))
    stretch = draws.uniform(0.92, 1.08)
    centre = (width * draws.uniform(0.46, 0.54), height * (middle + draws.uniform(-0.03, 0.03)))
    columns = (np.arange(width, dtype=np.float32) + np.float32(0.5 - centre[0])) * np.float32(1 / scale)
    rows = (np.arange(height, dtype=np.float32) + np.float32(0.5 - centre[1]))[:, None] * np.float32(1 / scale)
    side = -stretch if mirrored else stretch
    x = (columns * np.float32(cos) + rows * np.float32(sin)) * np.float32(1 / side)
    y = rows * np.float32(cos) - columns * np.float32(sin)
    amount = np.float32(draws.uniform(0.05, 0.11))
    x += amount * smooth(draws.lattice(7, 7), height, width)
    y += amount * smooth(draws.lattice(7, 7), height, width)
    return Grid(x, y, scale, side, centre, cos, sin)


def smooth(lattice: Floats, height: int, width: int) -> Floats:
    """Return float32 [height, width]: a uniform cubic B-spline surface over the lattice [K, L], both at least 4."""
    across = _along(np.ascontiguousarray(lattice.T), width)
    return _along(np.ascontiguousarray(across.T), height)


def _along(points: Floats, count: int) -> Floats:
    """Interpolate [K, L] along its first axis to [count, L]; four gathers of whole rows, added in a fixed order."""
    place = np.arange(count, dtype=np.float32) * np.float32((len(points) - 3) / count)
    first = place.astype(np.intp)
    t = (place - first.astype(np.float32))[:, None]
    s = 1 - t
    sixth = np.float32(1 / 6)
    out = points[first] * (s * s * s * sixth)
    out += points[first + 1] * ((t * t * (3 * t - 6) + 4) * sixth)
    out += points[first + 2] * ((s * s * (3 * s - 6) + 4) * sixth)
    out += points[first + 3] * (t * t * t * sixth)
    return out


def ellipse(x: Floats, y: Floats, spot: Spot) -> Floats:
    """Return the distance to an ellipse in head units, negative inside; exact for circles, close near other edges."""
    cos, sin = turn(spot.lean)
    dx, dy = x - np.float32(spot.x), y - np.float32(spot.y)
    along = dx * np.float32(cos / spot.rx) + dy * np.float32(sin / spot.rx)
    across = dy * np.float32(cos / spot.ry) - dx * np.float32(sin / spot.ry)
    return (np.sqrt(along * along + across * across) - 1) * np.float32(min(spot.rx, spot.ry))


def union(a: Floats, b: Floats, blend: float) -> Floats:
    """Return the distance to both shapes together, the crease between them rounded over `blend` head units."""
    near = np.maximum(np.float32(blend) - np.abs(a - b), 0)
    return np.minimum(a, b) - near * near * np.float32(0.25 / blend)


def inside(distance: Floats, scale: float, soft: float = 1.0) -> Floats:
    """Return how much of each pixel is inside, 0..1; the edge is `soft` pixels wide."""
    return np.minimum(np.maximum(np.float32(0.5) - distance * np.float32(scale / soft), 0), 1)


@dataclass
class Brush:
    """Paints shapes on an image float32 [H, W], each over what is there."""

    image: Floats
    grid: Grid

    def cover(self, distance: Floats, level: float | Floats, part: Window = EVERYWHERE, soft: float = 1.0) -> None:
        """Paint `level` where `distance` (of the same window) is negative."""
        under = self.image[part]
        under += inside(distance, self.grid.scale, soft) * (level - under)

    def spot(self, spot: Spot, level: float, within: Floats | None = None, soft: float = 1.5) -> None:
        """Paint an ellipse; only inside of the distance `within` [H, W] where one is given."""
        part = self.grid.window(spot.x, spot.y, max(spot.rx, spot.ry))
        distance = ellipse(self.grid.x[part], self.grid.y[part], spot)
        if within is not None:
            distance = np.maximum(distance, within[part])
        self.cover(distance, level, part, soft)
