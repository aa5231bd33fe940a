"""Is a candidate pair the same picture? Decided at higher resolution, after aligning the two views.

Neighbouring slices of one head agree in outline and in much of the anatomy, so a plain correlation near 0.9 proves
nothing. They do not agree in detail, and a copy does, whatever was done to its contrast. So views are aligned, all but
their finest detail is taken away, and what is left is correlated: over the whole, and over each of 16 blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.verify.describe import CELLS, SIDE

STEPS = {16: 4, 32: 3, 64: 2}  # Gauss-Newton steps of the alignment at each resolution, coarse to fine
BLOCKS = 4  # a view is judged by 4 x 4 blocks
CHUNK = 32  # pairs at a time: what fits the processor's cache
LIMITS = np.array([[-0.25, 0.8, -0.25, 0.8], [0.25, 1.25, 0.25, 1.25]], np.float32)  # see `align`

Images = NDArray[np.float32]  # [N, side, side]
Views = NDArray[np.int8]  # [N, SIDE, SIDE]
Floats = NDArray[np.float64]


def similarities(fixed: Views, moving: Views, coarse_fixed: Views, coarse_moving: Views) -> tuple[Floats, Floats]:
    """Return how alike pairs of views are, given also their descriptors, int8 [N, CELLS, CELLS].

    Returns
    -------
    whole, worst : float64 [N]
        Correlation of the detail of aligned views, and that of their third-worst block with detail in it; rounded to 4
        decimals, so that the last bits of a sum decide nothing.
    """
    found = []
    for start in range(0, len(fixed), CHUNK):
        part = slice(start, start + CHUNK)
        pair = [_pyramid(fixed[part], coarse_fixed[part]), _pyramid(moving[part], coarse_moving[part])]
        found.append(agreement(pair[0][SIDE], *align(*pair)))
    whole, worst = (np.concatenate([pair[k] for pair in found]) if found else np.zeros(0) for k in (0, 1))
    return whole, worst


def _pyramid(views: Views, coarse: Views) -> dict[int, Images]:
    """Return the same pictures at all resolutions of STEPS; the coarsest is the descriptor, which knows broad shapes."""
    full = views.astype(np.float32) / 40
    half = full.reshape(len(full), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    return {CELLS: coarse.astype(np.float32) / 40, SIDE // 2: half, SIDE: full}


def align(fixed: dict[int, Images], moving: dict[int, Images]) -> tuple[Images, NDArray[np.bool_]]:
    """Return `moving` shifted and stretched, by axis, to fit `fixed`, and which pixels lay inside it.

    Gauss-Newton on the squared difference, coarse to fine (Lucas and Kanade 1981). Four unknowns, with positions from -1
    to 1 across a view: shift and stretch along y, shift and stretch along x.
    """
    fit = np.tile(np.array([0, 1, 0, 1], np.float32), (len(fixed[SIDE]), 1))
    for side, steps in STEPS.items():
        for _ in range(steps):
            fit = np.clip(fit + _step(fixed[side], moving[side], fit), LIMITS[0], LIMITS[1])
    return _resample(moving[SIDE], fit)


def _step(fixed: Images, moving: Images, fit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the change of `fit`, float32 [N, 4], that best explains the difference that is left."""
    side = fixed.shape[1]
    moved, inside = _resample(moving, fit)
    slope_y, slope_x = (_slopes(moved, axis) * (inside * np.float32(side / 2)) for axis in (1, 2))
    rates = np.stack([slope_y, slope_y * _places(side)[:, None], slope_x, slope_x * _places(side)], axis=1)
    rates = rates.reshape(len(fixed), 4, -1)
    error = (fixed - moved).reshape(len(fixed), -1, 1)
    square = rates @ rates.transpose(0, 2, 1)
    damping = 0.01 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(4, dtype=np.float32)
    change = np.linalg.solve(square + damping + np.eye(4, dtype=np.float32), rates @ error)
    return np.asarray(change[..., 0], np.float32)


def _slopes(images: Images, axis: int) -> Images:
    """Return central differences along an axis, zero at its ends."""
    slopes = np.zeros_like(images)
    if axis == 1:
        slopes[:, 1:-1] = (images[:, 2:] - images[:, :-2]) / 2
    else:
        slopes[:, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) / 2
    return slopes


def _places(side: int) -> NDArray[np.float32]:
    """Return the positions of pixel centres, float32 [side], from -1 to 1."""
    return (np.arange(side, dtype=np.float32) * 2 + 1) / side - 1


def _resample(images: Images, fit: NDArray[np.float32]) -> tuple[Images, NDArray[np.bool_]]:
    """Return images read at shift + stretch * position, bilinear, and where that lay inside."""
    side = images.shape[1]
    ys, xs = (((fit[:, k, None] + fit[:, k + 1, None] * _places(side)) * side + (side - 1)) / 2 for k in (0, 2))
    inside = ((ys >= 0) & (ys <= side - 1))[:, :, None] & ((xs >= 0) & (xs <= side - 1))[:, None, :]
    return _weights(ys) @ images @ _weights(xs).transpose(0, 2, 1), inside


def _weights(at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bilinear weights, float32 [N, side, side]: how much of each line is read at each place `at`, [N, side]."""
    side = at.shape[1]
    apart = np.abs(np.clip(at, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    return np.maximum(1 - apart, 0).astype(np.float32)


def agreement(a: Images, b: Images, inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the correlation of two views' detail over the whole and of the third-worst block, within both."""
    a, b = _detail(a) * inside, _detail(b) * inside
    ab, aa, bb = _block_sums(a * b), _block_sums(a * a), _block_sums(b * b)
    whole = ab.sum(axis=1) / np.sqrt(np.maximum(aa.sum(axis=1) * bb.sum(axis=1), 1e-6))
    blocks = ab / np.sqrt(np.maximum(aa * bb, 1e-6))
    share = np.minimum(*(each / np.maximum(each.mean(axis=1, keepdims=True), 1e-6) for each in (aa, bb)))
    judged = np.where(share > 0.15, blocks, 1.0)  # a block without detail of its own proves nothing
    return np.round(whole, 4), np.round(np.sort(judged, axis=1)[:, 2], 4)


def _detail(images: Images) -> Images:
    """Take away what a blur by 1 4 6 4 1 (one pixel's deviation) keeps."""
    blurred = images
    for axis in (1, 2):
        padded = np.pad(blurred, [(0, 0), (2, 2), (0, 0)] if axis == 1 else [(0, 0), (0, 0), (2, 2)], mode="edge")
        side = images.shape[axis]
        lines = [padded[:, k : k + side] if axis == 1 else padded[:, :, k : k + side] for k in range(5)]
        blurred = (lines[0] + lines[4] + 4 * (lines[1] + lines[3]) + 6 * lines[2]) / 16
    return images - blurred


def _block_sums(values: Images) -> Floats:
    split = values.reshape(len(values), BLOCKS, SIDE // BLOCKS, BLOCKS, SIDE // BLOCKS)
    return split.sum(axis=(2, 4), dtype=np.float64).reshape(len(values), -1)
