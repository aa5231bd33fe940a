"""DICOM files -> grey levels as a viewer shows them. Needs pydicom, which `make env` installs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.verify.decode import DecodeError

SUFFIXES = (".dcm", ".dicom", ".ima")
MAX_FRAMES = 10_000
LEVELS = 255


def is_dicom(data: bytes, name: str) -> bool:
    """Tell a DICOM file by its mark after 128 bytes, or, where it has none, by its name."""
    return data[128:132] == b"DICM" or name.lower().endswith(SUFFIXES)


def frames(data: bytes, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a DICOM file's bytes, uint8 [H, W] each, as a viewer shows them (PS3.3, C.11).

    Stored values become real ones by rescale slope and intercept (or the modality table); the file's first window (or
    VOI table) makes them grey levels, or, without one, their own range in that frame. MONOCHROME1 is inverted, colour
    weighed as luma.

    Raises
    ------
    DecodeError
        The reason: no pixels, a compression that is not known here, or more than `max_pixels` or MAX_FRAMES.
    """
    try:
        import pydicom
    except ImportError:
        raise DecodeError("a DICOM file; pydicom is not installed: run `make env` (or pip install pydicom)") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in other elements are no fault of the pixels
            file = pydicom.dcmread(io.BytesIO(data), force=True)
            count = _count(file, max_pixels)
            for number in range(count):
                yield _frame(file, number)
    except DecodeError:
        raise
    except Exception as error:  # the reader meets any bytes at all, and raises anything
        raise DecodeError(_reason(error)) from None


def _count(file: Any, max_pixels: int) -> int:
    """Return how many frames there are, having seen that they can be decoded and are not too large."""
    if "PixelData" not in file and "FloatPixelData" not in file and "DoubleFloatPixelData" not in file:
        raise DecodeError("no pixels in this DICOM file: a report, a directory, or cut short?")
    if "TransferSyntaxUID" not in file.file_meta:
        file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"  # the standard's default: implicit, little endian
    rows, columns = int(file.Rows), int(file.Columns)
    if rows < 1 or columns < 1:
        raise DecodeError(f"{columns} x {rows} pixels: nothing to look at")
    if rows * columns > max_pixels:
        raise DecodeError(f"{columns} x {rows} pixels are more than {max_pixels} (max_pixels): a decompression bomb?")
    count = int(file.get("NumberOfFrames") or 1)
    if not 1 <= count <= MAX_FRAMES:
        raise DecodeError(f"{count} frames: expected 1 to {MAX_FRAMES}")
    return count


def _frame(file: Any, number: int) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    kind = str(file.get("PhotometricInterpretation", "MONOCHROME2"))
    stored = pixel_array(file, index=number)
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, file)
    if stored.ndim == 3:
        colour = stored if stored.dtype == np.uint8 else _scaled(stored, int(stored.min()), int(stored.max()))
        return np.array(Image.fromarray(np.ascontiguousarray(colour)).convert("L"))
    values = np.asarray(apply_modality_lut(stored, file))
    grey = _windowed(values, file)
    return LEVELS - grey if kind == "MONOCHROME1" else grey


def _windowed(values: NDArray[Any], file: Any) -> NDArray[np.uint8]:
    """Return real values as grey levels: by the file's VOI table, its window, or the values' own range."""
    from pydicom.pixels import apply_voi_lut, apply_windowing

    if file.get("VOILUTSequence"):
        table = file.VOILUTSequence[0]
        return _scaled(np.asarray(apply_voi_lut(values, file)), 0, 2 ** int(table.LUTDescriptor[2]) - 1)
    center, width = (_first(file.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width < 1:
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise DecodeError("no pixel is a finite number")
        return _scaled(np.nan_to_num(values, nan=finite.min()), finite.min(), finite.max())
    # far outside its window every value is black or white: that gives the range of what apply_windowing returns
    low, high = apply_windowing(np.array([center - 20 * width, center + 20 * width]), file)
    return _scaled(np.asarray(apply_windowing(values, file)), float(low), float(high))


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    share = (values.astype(np.float64) - low) / ((high - low) or 1)
    return np.asarray(np.floor(np.clip(share, 0, 1) * LEVELS + 0.5), np.uint8)


def _first(value: Any) -> float | None:
    """Return the first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    try:
        found = float(value[0] if not isinstance(value, str | int | float) and hasattr(value, "__len__") else value)
    except (TypeError, ValueError, IndexError):
        return None
    return found if np.isfinite(found) else None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, NotImplementedError) or "Unable to decompress" in text or "plugins" in text:
        return f"its compression is not known here ({text[:120]}): decompress it first, with `gdcmconv --raw`"
    return f"cannot be decoded as DICOM: {text or type(error).__name__}"[:200]
