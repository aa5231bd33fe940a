"""A DICOM file's bytes -> its frames. Needs pydicom, which `make env` installs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.scans import silent_pydicom
from stages.verify.decode import DecodeError
from stages.verify.dicom import codecs, grey, header

MAX_FRAMES = 10_000
GREYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")  # one sample a pixel
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # three, which the reader makes RGB
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def frames(data: bytes, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a DICOM file's bytes, uint8 [H, W] each with square pixels, as a viewer shows them.

    The order of PS3.4, N.2: stored values, rescaled (or the modality table), then the first window (or the VOI table)
    or, without one, the range that `grey.shown` says; each from the frame's own functional group, the shared one or
    the top level. MONOCHROME1 is inverted, colour weighed as luma. Which tag does what: docs/predict.md.

    Raises
    ------
    DecodeError
        The reason in one line: no pixels, damage, a compression that is not known here, values that contradict one
        another, or more than `max_pixels` or MAX_FRAMES.
    """
    steps = _frames(data, max_pixels)
    while True:
        try:
            with warnings.catch_warnings():  # around each step: a generator must not change its caller's filters
                warnings.simplefilter("ignore")  # odd values in other elements are no fault of the pixels
                frame = next(steps, None)
        except DecodeError:
            raise
        except Exception as error:  # the reader meets any bytes at all, and raises anything, also with what it read
            raise DecodeError(f"cannot be decoded as DICOM ({type(error).__name__})") from None
        if frame is None:
            return
        yield frame


def _frames(data: bytes, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
    file = reader().dcmread(io.BytesIO(data), force=True)
    count = _count(file, max_pixels)
    _mend_syntax(file)
    _mend_kind(file)
    for number, stored in enumerate(codecs.decoded(file, count)):
        shown = grey.shown(stored, header.display(file, number))
        yield grey.square(shown, header.aspect(file, number), max_pixels)


def reader() -> Any:
    """Return pydicom, silenced; DecodeError where it is not installed."""
    try:
        return silent_pydicom()
    except ImportError:
        raise DecodeError("a DICOM file; pydicom is not installed: run `make env` (or pip install pydicom)") from None


def _count(file: Any, max_pixels: int) -> int:
    """Return how many frames there are, having seen that they can be decoded and are not too large."""
    if not any(name in file for name in PIXELS):
        raise DecodeError("no pixels in this DICOM file: a report, a directory, or cut short?")
    rows, columns = header.whole(file, "Rows"), header.whole(file, "Columns")
    if rows < 1 or columns < 1:
        raise DecodeError(f"{columns} x {rows} pixels: nothing to look at")
    if rows * columns > max_pixels:
        raise DecodeError(f"{columns} x {rows} pixels are more than {max_pixels} (max_pixels): a decompression bomb?")
    count = header.whole(file, "NumberOfFrames", 1)
    if not 1 <= count <= MAX_FRAMES:
        raise DecodeError(f"{count} frames: expected 1 to {MAX_FRAMES}")
    return count


def _mend_syntax(file: Any) -> None:
    """Where the header does not say how the file is written, note how the reader found it to be written."""
    if file.file_meta.get("TransferSyntaxUID"):
        return
    if "PixelData" in file and file["PixelData"].is_undefined_length:
        raise DecodeError("its pixels are compressed, and its header does not say how (no Transfer Syntax UID)")
    implicit, little = file.original_encoding
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")


def _mend_kind(file: Any) -> None:
    """See that samples and photometric interpretation are known and agree; an empty one is what the other implies."""
    samples = header.whole(file, "SamplesPerPixel", 1)
    kind = str(file.get("PhotometricInterpretation") or "").strip().upper() or ("RGB" if samples == 3 else GREYS[1])
    if kind not in GREYS + COLOURS:
        raise DecodeError(f"unknown Photometric Interpretation: expected one of {', '.join(GREYS + COLOURS)}")
    if samples != (3 if kind in COLOURS else 1):
        raise DecodeError(f"{samples} samples a pixel contradict the Photometric Interpretation {kind!r}")
    if kind in GREYS and str(file.get("PixelPresentation")).strip() in ("COLOR", "MIXED"):
        raise DecodeError("partly in colour by a supplemental palette: a map laid over a picture, not a grey slice")
    file.SamplesPerPixel, file.PhotometricInterpretation = samples, kind
    if samples == 3 and file.get("PlanarConfiguration") is None:
        file.PlanarConfiguration = 0
