"""Is a candidate pair the same picture? Decided at higher resolution, after aligning the two views.

What decides is how the detail of the aligned views agrees (agreement.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.verify import affine
from stages.verify.agreement import Agreement, Floats, Images, agreement
from stages.verify.descent import change, places
from stages.verify.frames import FRAMES
from stages.verify.schema import Twins

OUTLINE = 0.8  # correlation of aligned descriptors below which no two pictures are the same
HALFWAY = 0.6  # the same after half of the steps
FRAMED_HALFWAY = 0.5  # the same after one step where one of the two may be a part of the other
FRAMED_OUTLINE = 0.68  # the same where one of the two may be a part of the other
FRAMED_COARSE = (0.65, 0.75)  # and the correlation of their views at half the size, after one step and after two
OVERLAP = 0.4  # of a view that both must show, for what they show to say something
UNMOVED = np.array([0, 1, 0, 1], np.float32)  # see `align`
UNKNOWNS = np.array([(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1)])  # of it, see `change`
EVERYWHERE = np.ones((1, 1, 1), bool)
LIMITS = np.array([[-0.25, 0.8, -0.25, 0.8], [0.25, 1.25, 0.25, 1.25]], np.float32)  # see `align`

Views = NDArray[np.int8]  # [N, SIDE, SIDE]


def similarities(fixed: Views, moving: Views, coarse_fixed: Views, coarse_moving: Views, twins: Twins) -> Agreement:
    """Return how alike pairs of views are, given also their descriptors, int8 [N, CELLS, CELLS]."""
    found = Agreement.none(len(fixed))
    for wide in _chunks(np.arange(len(fixed)), 256):
        fit, alike = _alike(_levels(coarse_fixed[wide]), _levels(coarse_moving[wide]))
        for part in _chunks(alike, 32):
            at = wide[part]
            one, other = fixed[at], moving[at]
            found.put(at, agreement(_levels(one), *align(one, other, fit[part]), twins))
    return found


def framed_starts(
    coarse_fixed: Views, coarse_moving: Views, pair: NDArray[np.int64], turn: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the starts from which to go on, int64 [K], and the alignment of their descriptors, float32 [K, 4].

    Descriptors are int8 [Q, CELLS, CELLS]; of those of one pair and way round (`turn`: 0 upright, 1 mirrored) the best
    goes on, where outlines are alike.
    """
    way = 2 * pair + turn
    fit, outline = np.empty((len(way), 4), np.float32), np.empty(len(way))
    for at in _chunks(np.arange(len(way)), 256):
        fit[at], outline[at] = _fit_outlines(_levels(coarse_fixed[at]), _levels(coarse_moving[at]), None, 1)
    order = np.lexsort((-outline, way))
    best = order[np.unique(way[order], return_index=True)[1]]
    best = best[outline[best] >= FRAMED_HALFWAY]
    for at in _chunks(best, 256):
        fit[at], outline[at] = _fit_outlines(_levels(coarse_fixed[at]), _levels(coarse_moving[at]), fit[at], 1)
    best = best[outline[best] >= FRAMED_OUTLINE]
    return best, fit[best]


def framed_similarities(
    fixed: Views, moving: Views, fit: NDArray[np.float32], frame: NDArray[np.int64], twins: Twins
) -> Agreement:
    """Return the same of pairs in which `moving` may be no more than a part of `fixed`, or turned a little.

    `fit` is as `framed_starts` gives it, between `moving` and `fixed` within one of FRAMES each, [N].
    """
    found = Agreement.none(len(fixed))
    maps = affine.composed(_maps(fit), affine.inverse(FRAMES[frame]))
    alike = [at[_fit_coarsely(fixed[at], moving[at], maps, at)] for at in _chunks(np.arange(len(fixed)), 64)]
    for at in _chunks(np.concatenate([np.zeros(0, np.intp), *alike]), 32):
        one, other = _levels(fixed[at]), _levels(moving[at])
        refined = np.rint(affine.refined(one, other, maps[at], 2) * 4096) / 4096
        moved, inside = affine.resampled(other, np.asarray(refined, np.float32))
        enough = np.mean(inside, axis=(1, 2)) >= OVERLAP
        found.put(at[enough], agreement(one[enough], moved[enough], inside[enough], twins))
    return found


def _maps(fit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return shifts and stretches, [N, 4], as affine maps, [N, 2, 3]."""
    maps = np.zeros((len(fit), 2, 3), np.float32)
    maps[:, 0, :2], maps[:, 1, 0], maps[:, 1, 2] = fit[:, :2], fit[:, 2], fit[:, 3]
    return maps


def _fit_coarsely(fixed: Views, moving: Views, maps: NDArray[np.float32], at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Fit the maps `at` these pairs at half the size, and return which of them are alike there."""
    small, small_moving, on = _halved(fixed), _halved(moving), np.arange(len(at))
    for least in FRAMED_COARSE:
        maps[at[on]] = affine.refined(small[on], small_moving[on], maps[at[on]], 1)
        on = on[_correlation(small[on], *affine.resampled(small_moving[on], maps[at[on]])) >= least]
    return on


def _correlation(one: Images, two: Images, inside: NDArray[np.bool_]) -> Floats:
    one, two = ((each * inside).reshape(len(one), one.shape[1] ** 2) for each in (one, two))
    lengths = (one * one).sum(axis=1) * (two * two).sum(axis=1)
    return np.round((one * two).sum(axis=1) / np.sqrt(np.maximum(lengths, 1e-6)), 4)


def _chunks(pairs: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    """Return parts of so many pairs as fit the processor's cache."""
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def _levels(views: Views) -> Images:
    return views.astype(np.float32) / 40


def _halved(views: Views) -> Images:
    """Return the levels of views at half the size, [N, SIDE / 2, SIDE / 2]."""
    rows = np.add(views[:, ::2], views[:, 1::2], dtype=np.int16)
    return (rows[:, :, ::2] + rows[:, :, 1::2]).astype(np.float32) / (4 * 40)


def _alike(fixed: Images, moving: Images) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the alignment of descriptors, float32 [N, 4], and which pairs are alike after it."""
    fit, outline = _fit_outlines(fixed, moving, None, 2)
    on = np.nonzero(outline >= HALFWAY)[0]
    if len(on):
        fit[on], outline[on] = _fit_outlines(fixed[on], moving[on], fit[on], 2)
    return fit, np.nonzero(outline >= OUTLINE)[0]


def _fit_outlines(
    fixed: Images, moving: Images, fit: NDArray[np.float32] | None, steps: int
) -> tuple[NDArray[np.float32], Floats]:
    """Return the alignment of descriptors after so many more steps (None: the first ones), and their correlation."""
    if fit is None:
        fit, steps = _clipped(UNMOVED + change(fixed, moving, EVERYWHERE, UNKNOWNS, 0.01)), steps - 1
    fit = _refined(fixed, moving, fit, steps)
    return fit, _correlation(fixed, *_resample(moving, fit))


def align(fixed: Views, moving: Views, fit: NDArray[np.float32]) -> tuple[Images, NDArray[np.bool_]]:
    """Return the levels of `moving` shifted and stretched, by axis, to fit `fixed`, and which pixels lay inside it.

    Gauss-Newton on the squared difference, coarse to fine (descent.py), from the alignment `fit`. Four unknowns, with
    positions from -1 to 1 across a view: shift and stretch along y, shift and stretch along x.
    """
    fit = _refined(_halved(fixed), _halved(moving), fit, 2)
    levels = _levels(moving)
    fit = _refined(_levels(fixed), levels, fit, 1)
    # To 1/128 pixel, so that the last bits of the sums above move no pixel.
    return _resample(levels, np.asarray(np.rint(fit * 4096) / 4096, np.float32))


def _refined(fixed: Images, moving: Images, fit: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    for _ in range(steps):
        fit = _clipped(fit + change(fixed, *_resample(moving, fit), UNKNOWNS, 0.01))
    return fit


def _clipped(fit: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(fit, LIMITS[0], LIMITS[1]).astype(np.float32)


def _resample(images: Images, fit: NDArray[np.float32]) -> tuple[Images, NDArray[np.bool_]]:
    """Return images read at shift + stretch * position, bilinear, and where that lay inside."""
    side = images.shape[1]
    ys, xs = (((fit[:, k, None] + fit[:, k + 1, None] * places(side)) * side + (side - 1)) / 2 for k in (0, 2))
    inside = ((ys >= 0) & (ys <= side - 1))[:, :, None] & ((xs >= 0) & (xs <= side - 1))[:, None, :]
    return _weights(ys) @ images @ _weights(xs).transpose(0, 2, 1), inside


def _weights(at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bilinear weights, float32 [N, side, side]: how much of each line is read at each place `at`, [N, side]."""
    side = at.shape[1]
    at = np.clip(at, 0, side - 1).ravel()
    low = np.minimum(at.astype(np.intp), side - 2)
    part, first = at - low.astype(np.float32), np.arange(0, at.size * side, side) + low
    found = np.zeros(at.size * side, np.float32)
    found[first], found[first + 1] = 1 - part, part
    return found.reshape(-1, side, side)
