"""How alike two aligned views are, told from their finest detail.

Neighbouring slices of one head agree in outline and in much of the anatomy, so a plain correlation near 0.9 proves
nothing. They do not agree in detail, and a copy does, whatever was done to its contrast. So all but the finest detail
is taken away, and what is left is correlated: over the whole, and over each of 16 blocks. A text all over a picture
disturbs both, but it is written in lines, and leaves those between as they were.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.frames import SIDE
from stages.verify.schema import Twins

FAINTEST = 0.001  # mean square of the detail around a pixel, below which there is none
BLOCKS = 4  # a view is judged by 4 x 4 blocks
DRAWN = 0.2  # of what differs, as squares: the share that the mean of each line holds, from which on it is a text's
CLEAR = 30  # per cent of the lines: as many as a text tiled over a picture leaves between its own
FEWEST_LINES = 16  # with detail in them, for that to say something

Images = NDArray[Any]  # float32 [N, side, side]
Floats = NDArray[np.float64]


class Agreement(NamedTuple):
    """How alike aligned views are, [N] each."""

    whole: Floats  # correlation of their detail, 4 decimals: last bits decide nothing; -1 where outlines already differ
    same: NDArray[np.bool_]  # the verdict: they show one picture

    @classmethod
    def none(cls, count: int) -> Agreement:
        """Return that of so many pairs that are not alike."""
        return cls(np.full(count, -1.0), np.zeros(count, bool))

    def put(self, at: NDArray[np.intp], found: Agreement) -> None:
        """Set those of the pairs `at`."""
        self.whole[at], self.same[at] = found


def agreement(fixed: Images, moved: Images, inside: NDArray[np.bool_], twins: Twins) -> Agreement:
    """Return how the detail of two views agrees within both: all over, or else between the lines of a text."""
    (a, has_a), (b, has_b) = _detail(fixed), _detail(moved)
    # What is clipped to white or black in one of the two has no detail left there to agree with.
    both = inside & has_a & has_b
    a, b = a * both, b * both
    products = np.stack([a * b, a * a, b * b])
    ab, aa, bb = sums = _block_sums(products)
    whole = np.round(ab.sum(axis=1) / np.sqrt(np.maximum(aa.sum(axis=1) * bb.sum(axis=1), 1e-6)), 4)
    blocks, judged = _correlations(sums)
    worst = np.sort(np.where(judged, blocks, 1.0), axis=1)[:, 2]
    same = (whole >= twins.similarity) & (np.round(worst, 4) >= twins.block)
    asked = np.nonzero(~same & (whole >= twins.neighbour))[0]
    difference = _difference(fixed[asked], moved[asked], both[asked])
    same[asked] = _clear_lines(difference, both[asked], products[:, asked]) >= twins.lines
    return Agreement(whole, same)


def _clear_lines(difference: Images, both: NDArray[np.bool_], products: Images) -> Floats:
    """Return the correlation that CLEAR per cent of the lines reach, [N]; -1 where what differs is not drawn in lines.

    Lines are rows, or after a quarter turn columns. Measured on text tiled over pictures, and on neighbouring slices,
    whose difference follows no lines: docs/audit.md.
    """
    found = np.full(len(both), -1.0)
    total = (difference * difference).sum(axis=(1, 2))
    for axis in (2, 1):
        held = difference.sum(axis=axis) ** 2 / np.maximum(both.sum(axis=axis), 1)
        drawn = np.round(held.sum(axis=1) / np.maximum(total, 1e-6), 4) >= DRAWN
        lines, judged = _correlations(products.sum(axis=axis + 1).astype(np.float64))
        count = judged.sum(axis=1)
        highest = np.sort(np.where(judged, lines, -1.0), axis=1)[:, ::-1]
        clear = np.round(highest[np.arange(len(count)), count * CLEAR // 100], 4)
        found = np.maximum(found, np.where(drawn & (count >= FEWEST_LINES), clear, -1.0))
    return found


def _difference(one: Images, two: Images, both: NDArray[np.bool_]) -> Images:
    """Return what is left of `one` when the best multiple of `two` and the mean are taken away, where both show."""
    one, two = one * both, two * both
    times = (one * two).sum(axis=(1, 2)) / np.maximum((two * two).sum(axis=(1, 2)), 1e-6)
    left = one - two * times[:, None, None]
    mean = left.sum(axis=(1, 2)) / np.maximum(both.sum(axis=(1, 2)), 1)
    return np.asarray((left - mean[:, None, None]) * both, np.float32)


def _correlations(sums: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the correlation of every part, [N, parts], and which have detail: others prove nothing.

    `sums`, [3, N, parts], are those of the product of two images' detail, and of the square of each.
    """
    ab, aa, bb = sums
    share = np.minimum(*(each / np.maximum(each.mean(axis=1, keepdims=True), 1e-6) for each in (aa, bb)))
    return ab / np.sqrt(np.maximum(aa * bb, 1e-6)), share > 0.15


def _detail(images: Images) -> tuple[Images, NDArray[np.bool_]]:
    """Return how each pixel stands out from its four neighbours, and where anything does.

    It is divided by how much its surroundings do, so that sharpening and softening change it little.
    """
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1)], mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    detail = images - around / 4
    energy = _blurred(detail * detail)
    return detail / (np.sqrt(energy) + np.float32(0.05)), energy > FAINTEST


def _blurred(images: Images) -> Images:
    """Return images blurred by 1 4 6 4 1 both ways: about a Gaussian of one pixel."""
    lines = np.pad(images, [(0, 0), (2, 2), (2, 2)], mode="edge")
    lines = _weighed(lines[:, :-4], lines[:, 1:-3], lines[:, 2:-2], lines[:, 3:-1], lines[:, 4:])
    return _weighed(lines[..., :-4], lines[..., 1:-3], lines[..., 2:-2], lines[..., 3:-1], lines[..., 4:])


def _weighed(far: Images, near: Images, middle: Images, after: Images, beyond: Images) -> Images:
    """Return these weighed by 1 4 6 4 1; in place, since memory is what takes the time."""
    total, sides, centre = near + after, far + beyond, 6 * middle
    total *= 4
    total += sides
    total += centre
    total /= 16
    return total


_MEMBER = np.repeat(np.eye(BLOCKS, dtype=np.float32), SIDE // BLOCKS, axis=0)  # [SIDE, BLOCKS]


def _block_sums(values: Images) -> Floats:
    return (_MEMBER.T @ (values @ _MEMBER)).reshape(*values.shape[:-2], -1).astype(np.float64)
