"""One image -> a few small views of its content, and a descriptor of each, from which copies can be told.

A copy may be re-encoded, rescaled, re-contrasted, framed, mirrored or turned. So a view is a crop to the picture's
content (found in three ways, because no single way survives every change of contrast), resized to a square; and its
descriptor is locally normalised, which takes away brightness, contrast and, nearly, gamma. Flips and turns are left to
the search, which tries all eight.

All arithmetic is on integers, or elementwise in float64, so the same pixels give the same bits on any processor.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from stages.verify.frames import SIDE, framed

WORK = 256  # longest side, in pixels, at which content is looked for
CELLS = 16  # side of a descriptor
VIEWS = 4  # at most: the head, found in three ways, and all within the rim
SMALLEST = 16  # a picture whose content is narrower than this many pixels has no shape to compare
FLAT = 0.047  # of the brightest level: a line or picture with less range than this is empty

GAP = 2  # lines without foreground that do not end a head

FAINT = 4  # grey levels: contrast below this is noise
UNIT = 640  # length of a descriptor; entries stay within int8, and products of two within what float32 adds up exactly

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, as Pillow has it


class Described(NamedTuple):
    """What is kept of a picture."""

    views: NDArray[np.int8]  # [VIEWS, SIDE, SIDE], locally normalised; zeros where fewer views are distinct
    descriptors: NDArray[np.int8]  # [VIEWS, CELLS * CELLS], locally normalised, of length UNIT; zeros likewise
    frames: NDArray[np.int8]  # [FRAMES, CELLS * CELLS]: descriptors of parts and slight turns of views; zeros likewise


def describe(grey: NDArray[np.uint8]) -> Described | None:
    """Return views and descriptors of a grey image, uint8 [H, W]; None where it shows too little to be compared."""
    if min(grey.shape) < SMALLEST:
        return None
    work = _working_copy(grey)
    frame, rim = _frames_of(work)
    if frame is None or rim is None:
        return None
    if is_negative(work.crop(frame)):
        work = ImageOps.invert(work)
    head, *others = head_boxes(work, frame)
    found = _distinct([head, rim, *others])
    thumbs = np.stack([_thumb(work, box) for box in found])
    views, descriptors = np.zeros((VIEWS, SIDE, SIDE), np.int8), np.zeros((VIEWS, CELLS * CELLS), np.int8)
    all_described = descriptor(np.concatenate([thumbs, framed(thumbs)]))  # in one call, which is faster than two
    views[: len(found)], descriptors[: len(found)] = normalised(thumbs), all_described[: len(found)]
    return Described(views, descriptors, all_described[len(found) :]) if descriptors.any() else None


def _frames_of(work: Image.Image) -> tuple[Box | None, Box | None]:
    """Return what is left without empty lines at the sides, a letter allowed in them, and none."""
    # both column by column in memory, so that what is told of a line is told of all lines at once
    across, along = np.asarray(work.reduce((8, 1)), order="F"), np.asarray(work.reduce((1, 8))).T
    return content_frame(across, along, 2), content_frame(across, along, 0)


def is_negative(image: Image.Image) -> bool:
    """Tell whether what surrounds the head is brighter than most of the picture.

    By ranks alone, so no change of contrast has a say in it.
    """
    part, counts = np.asarray(image), np.cumsum(image.histogram())
    middle, edge = int(np.searchsorted(counts, part.size // 2, side="right")), max(1, min(part.shape) // 32)
    ring = np.concatenate([part[:edge].ravel(), part[-edge:].ravel(), part[:, :edge].ravel(), part[:, -edge:].ravel()])
    return int(np.count_nonzero(ring > middle)) > 2 * int(np.count_nonzero(ring < middle))


def head_boxes(work: Image.Image, frame: Box) -> list[Box]:
    """Return the head's box as three scales of tones show it, the last without what is thin or noisy."""
    # at half the size, which is as good for this and costs a quarter
    blurred = work.reduce(2).filter(ImageFilter.BoxBlur(1))
    left, top, right, bottom = (edge // 2 for edge in frame)
    (half,) = foreground_boxes(blurred, (left, top, right, bottom), [(LINEAR, 0.15)])
    left, top, right, bottom = (2 * edge for edge in half)
    return [*foreground_boxes(work, frame, [(ROOT, 0.15), (LOG, 0.08)]), (left, top, right, bottom)]


def _distinct(boxes: list[Box]) -> list[Box]:
    """Leave out boxes that are nearly an earlier one; the search compares every view with every view anyway."""
    kept: list[Box] = []
    for box in boxes:
        near = 0.015 * min(box[2] - box[0], box[3] - box[1])
        if all(max(abs(a - b) for a, b in zip(box, other, strict=True)) > near for other in kept):
            kept.append(box)
    return kept


def _working_copy(grey: NDArray[np.uint8]) -> Image.Image:
    """Return the image with its longest side at WORK pixels."""
    image = Image.fromarray(grey)
    factor = WORK / max(grey.shape)
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR, reducing_gap=1.0)


def content_frame(across: NDArray[np.uint8], along: NDArray[np.uint8], outliers: int) -> Box | None:
    """Return what is left when lines of one level are taken off all four sides; None if it is nothing.

    A line is judged by means over 8 pixels, so that noise does not count: rows by `across`, uint8 [H, W / 8], columns
    by `along`, uint8 [W, H / 8]. As many as `outliers` of them may differ on either side, so that a letter or a ruler
    at the rim does not count either.
    """
    least = max(3, round(FLAT * int(across.max())))
    left, top, right, bottom = 0, 0, len(along), len(across)
    while min(right - left, bottom - top) >= SMALLEST:
        rows = _busy(across[top:bottom, -(-left // 8) : right // 8], outliers, least)
        columns = _busy(along[left:right, -(-top // 8) : bottom // 8], outliers, least)
        if rows is None or columns is None:
            return None
        if (rows, columns) == ((0, bottom - top), (0, right - left)):
            return float(left), float(top), float(right), float(bottom)
        top, bottom = top + rows[0], top + rows[1]
        left, right = left + columns[0], left + columns[1]
    return None


def _busy(lines: NDArray[np.uint8], outliers: int, least: int) -> tuple[int, int] | None:
    """Return the first and one past the last row that is not all of one level."""
    count = lines.shape[1]
    if count == 0:
        return None
    spread = lines.max(axis=1) - lines.min(axis=1)
    found = np.nonzero(spread > least)[0]
    if outliers:  # sorting is slow: only from either end to the first line that is busy without them too
        ends = (
            next((row for row in way if _spread(lines[row], outliers) > least), None) for way in (found, found[::-1])
        )
        found = np.array([row for row in ends if row is not None])
    return (int(found[0]), int(found[-1]) + 1) if found.size else None


def _spread(line: NDArray[np.uint8], outliers: int) -> int:
    """Return how far a line goes from its median, but for so many outliers either way."""
    ordered, apart = np.sort(line), min(outliers, (len(line) - 1) // 2)
    middle = int(ordered[len(line) // 2])
    return max(int(ordered[-1 - apart]) - middle, middle - int(ordered[apart]))


# Two tone scales on which Otsu's threshold is stable when the gamma changes: for dark pictures and for bright ones.
_LEVELS = np.arange(256)
LINEAR = _LEVELS.astype(np.uint8)
ROOT = np.floor(np.sqrt(_LEVELS / 255) * 255).astype(np.uint8)
LOG = np.floor(np.log((_LEVELS + 8) / 8) / np.log(263 / 8) * 255).astype(np.uint8)


def foreground_boxes(work: Image.Image, frame: Box, scales: list[tuple[NDArray[np.uint8], float]]) -> list[Box]:
    """Return the box of the head by each scale of tones: all lines of which a share, given with it, is foreground.

    The share is far above what letters, noise or the flat crown of a head reach, so the box ends where it is steep.
    """
    left, top = frame[:2]
    image = work.crop(frame)
    part, histogram = np.asarray(image), image.histogram()
    found = []
    for tones, share in scales:
        counts = np.bincount(tones, histogram, 256).astype(np.int64)
        # tones rise with levels, so a threshold on tones is one on levels
        head = (part >= np.searchsorted(tones, otsu(counts), side="right")).view(np.uint8)
        y0, y1 = _longest_run(head.sum(axis=1, dtype=np.uint16), share * head.shape[1])
        x0, x1 = _longest_run(head.sum(axis=0, dtype=np.uint16), share * head.shape[0])
        found.append((left + x0, top + y0, left + x1, top + y1))
    return found


def otsu(counts: NDArray[np.int64]) -> int:
    """Return the level that best parts a histogram, int [256], into two classes (Otsu 1979)."""
    below, moment = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    between = (moment[-1] * below - moment * below[-1]).astype(np.float64) ** 2 / np.maximum(below * above, 1)
    return int(np.argmax(between))


def _longest_run(counts: NDArray[np.uint16], least: float) -> tuple[int, int]:
    """Return the first and one past the last line of the run that holds most foreground.

    A line is in it from `least` foreground on; up to GAP lines in a row may have less. What stands beside the head, a
    caption or a ruler, is a run of its own.
    """
    lines = np.nonzero(counts >= least)[0]
    if not lines.size:
        return 0, len(counts)
    if lines[-1] - lines[0] < len(lines):  # one run, as nearly always
        return int(lines[0]), int(lines[-1]) + 1
    starts = np.concatenate([[0], np.nonzero(np.diff(lines) > GAP + 1)[0] + 1])
    most = int(np.argmax(np.add.reduceat(counts[lines], starts, dtype=np.int64)))
    last = int(starts[most + 1]) if most + 1 < len(starts) else len(lines)
    return int(lines[starts[most]]), int(lines[last - 1]) + 1


def _thumb(image: Image.Image, box: Box) -> NDArray[np.uint8]:
    """Return a part of the image as uint8 [SIDE, SIDE], antialiased."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def descriptor(thumbs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return int8 [N, CELLS * CELLS] for uint8 [N, SIDE, SIDE]: each cell against its 5 x 5 surroundings.

    Local contrast normalisation (Jarrett et al. 2009), +-2.5 deviations, then brought to length UNIT, so that a plain
    dot product divided by UNIT squared is the cosine. Nothing but zeros where there is no contrast.
    """
    ratio = SIDE // CELLS
    levels = thumbs.astype(np.int16)
    # faster than sums along short axes
    lines = reduce(np.add, (levels[:, start::ratio] for start in range(ratio)))
    cells = reduce(np.add, (lines[..., start::ratio] for start in range(ratio)))
    mean, deviation = local_moments(cells, 2)
    scores = np.clip((cells - mean) / (deviation + FAINT * ratio * ratio), -2.5, 2.5).reshape(len(thumbs), -1)
    whole = np.rint(scores * 1000).astype(np.int64)  # integers: their sum is the same in any order
    length = np.sqrt((whole * whole).sum(axis=1, keepdims=True))
    return np.clip(np.rint(whole * (UNIT / np.maximum(length, 1))), -127, 127).astype(np.int8)


def normalised(thumbs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return views with local brightness and contrast taken away, int8 [N, SIDE, SIDE]: deviations times 40.

    They are blurred by 1 2 1 both ways first: what a strong JPEG compression changes most is single pixels.
    """
    padded = _widened(thumbs.astype(np.int16), 1)
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    mean, deviation = local_moments(smooth, 3)
    return np.rint(np.clip((smooth - mean) / (deviation + FAINT * 16), -3, 3) * 40).astype(np.int8)


def local_moments(levels: NDArray[np.int16], reach: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each pixel's (2 reach + 1)-square, edges repeated: float64 [N, H, W].

    Levels are below 2**12, so a square's sums fit int32.
    """
    side = 2 * reach + 1
    padded = _widened(levels, reach).astype(np.int32)
    total, squares = (_window_sums(each, side).astype(np.float64) for each in (padded, padded * padded))
    return total / side**2, np.sqrt(np.maximum(squares * side**2 - total * total, 0)) / side**2


def _widened(levels: NDArray[np.int16], reach: int) -> NDArray[np.int16]:
    """Return images with their edges repeated `reach` times on all sides; np.pad takes three times as long."""
    rows, columns = (np.clip(np.arange(-reach, side + reach), 0, side - 1) for side in levels.shape[1:])
    return levels.take(rows, axis=1).take(columns, axis=2)


def _window_sums(padded: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    height, width = (length - side + 1 for length in padded.shape[1:])
    rows = padded[:, :height].copy()
    for start in range(1, side):
        rows += padded[:, start : start + height]
    found = rows[..., :width].copy()
    for start in range(1, side):
        found += rows[..., start : start + width]
    return found
