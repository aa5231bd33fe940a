"""Stored values of one frame -> the grey levels that a viewer shows (PS3.4, N.2; PS3.3, C.11 and C.7.6.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.verify.decode import DecodeError
from stages.verify.dicom.header import Display, Table, Window

LEVELS = 255
OUTLIERS = 1000  # one in so many pixels at each end may be a hot one: 0.1 %, as 3D Slicer's automatic window has it
SQUARE = 0.01  # sides that differ by less are equal, and only rounded differently


def shown(stored: NDArray[Any], display: Display) -> NDArray[np.uint8]:
    """Return stored values [H, W] or [H, W, 3] as grey levels uint8 [H, W]; padding is black.

    Without a window, values of at most 8 bits that nothing rescales are levels as they are. Others are spread from
    black to white over the range of all but the darkest and brightest 0.1 % of the frame's pixels; padding and what is
    no finite number are left out.
    """
    if display.palette:
        stored = np.stack([_looked_up(stored, table) / table.top for table in display.palette], axis=-1)
        return _luma(levels(stored))
    if stored.ndim == 3:
        return _luma(levels(stored / (2**display.bits - 1)))
    if display.voi is not None and stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        low, high = int(stored.min()), int(stored.max())
        if high - low < stored.size:  # then each value is looked up instead of each pixel
            table = _grey(np.arange(low, high + 1).astype(stored.dtype), display)
            return table[stored.astype(np.int32) - low]
    return _grey(stored, display)


def _grey(stored: NDArray[Any], display: Display) -> NDArray[np.uint8]:
    """Return grey levels of stored values of any shape, one sample each."""
    padding = _within(stored, display.padding)
    grey = levels(_voi(_real(stored, display), stored, ~padding, display))
    if display.kind == "MONOCHROME1":
        grey = LEVELS - grey
    return np.where(padding, np.uint8(0), grey)


def square(grey: NDArray[np.uint8], aspect: float, max_pixels: int) -> NDArray[np.uint8]:
    """Return grey levels [H, W] with square pixels: the longer side of a pixel is cut, so no row or column is lost.

    `aspect` is a pixel's height over its width. The filter is that of the prepare stage: Pillow's bilinear one.

    Raises
    ------
    DecodeError
        More than `max_pixels` would come of it.
    """
    if abs(aspect - 1) < SQUARE:
        return grey
    height, width = grey.shape
    size = round(width * max(1, 1 / aspect)), round(height * max(1, aspect))
    if size[0] * size[1] > max_pixels:
        raise DecodeError(f"{size[0]} x {size[1]} square pixels are more than {max_pixels} (max_pixels)")
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))


def _within(stored: NDArray[Any], ends: tuple[int, int] | None) -> NDArray[np.bool_]:
    return np.zeros(stored.shape, bool) if ends is None else (stored >= ends[0]) & (stored <= ends[1])


def _real(stored: NDArray[Any], display: Display) -> NDArray[np.float64]:
    """Return what stored values mean: by the modality table, or slope and intercept."""
    if display.modality:
        return _looked_up(stored, display.modality).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        real = stored.astype(np.float64) * display.slope + display.intercept
    if stored.dtype.kind != "f" and not np.isfinite(real).all():
        raise DecodeError(f"Rescale Slope {display.slope:g}, Intercept {display.intercept:g}: beyond what numbers hold")
    return real


def _looked_up(values: NDArray[Any], table: Table) -> NDArray[np.uint16]:
    place = np.floor(values.astype(np.float64) + 0.5) - table.first
    return table.levels[np.clip(np.nan_to_num(place), 0, len(table.levels) - 1).astype(np.int64)]


def _voi(
    values: NDArray[np.float64], stored: NDArray[Any], picture: NDArray[np.bool_], display: Display
) -> NDArray[np.float64]:
    """Return values as shares of white, not yet cut at black and white."""
    if isinstance(display.voi, Table):
        return _looked_up(values, display.voi) / display.voi.top
    if isinstance(display.voi, Window):
        return _windowed(values, display.voi)
    meant = display.modality is not None or (display.slope, display.intercept) != (1, 0)
    if not meant and stored.dtype.kind == "u" and 1 <= display.bits <= 8:
        return values / (2**display.bits - 1)
    low, high = spread(values[picture], OUTLIERS, "pixel")
    return (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1)


def _windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Return values through a window of PS3.3, C.11.2.1.2 and C.11.2.1.3.

    LINEAR is defined from a width of 1 on; a narrower one can only mean LINEAR_EXACT, which has no such step.
    """
    center, width, function = window
    values = np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    if function == "SIGMOID":
        return np.asarray(0.5 + 0.5 * np.tanh(2 * (values - center) / width))  # 1 / (1 + exp(-4 ...)), and no overflow
    if function == "LINEAR_EXACT" or width < 1:
        return (values - center) / width + 0.5
    if width == 1:
        return np.where(values > center - 0.5, 1.0, 0.0)
    return (values - (center - 0.5)) / (width - 1) + 0.5


def spread(values: NDArray[np.float64], outliers: int, what: str) -> tuple[float, float]:
    """Return the lowest and highest of values but for 1 in `outliers` at each end; of all, where those are one value.

    DecodeError where no pixel or voxel, as `what` says, is finite.
    """
    finite = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    if not finite.size:
        raise DecodeError(f"no {what} is a finite number")
    ends = finite.size // outliers, finite.size - 1 - finite.size // outliers
    low, high = np.partition(finite, ends)[list(ends)]
    return (float(low), float(high)) if low < high else (float(finite.min()), float(finite.max()))


def levels(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return grey levels of shares of full white; what is outside of 0..1 is black or white."""
    return np.floor(np.clip(shares, 0, 1) * LEVELS + 0.5).astype(np.uint8)


def _luma(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))
