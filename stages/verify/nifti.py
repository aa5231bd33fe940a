"""A NIfTI volume's bytes -> its slices, as a radiologist looks at them. Needs nibabel."""

from __future__ import annotations

import gzip
import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.decode import DecodeError
from stages.verify.dicom.file import MAX_FRAMES
from stages.verify.dicom.grey import levels, spread, square
from stages.verify.dicom.header import MAX_ASPECT

SUFFIXES = (".nii", ".nii.gz")
GZIP = b"\x1f\x8b"
WHOLE = ((344, b"n+1\0"), (4, b"n+2\0\r\n\x1a\n"))  # where a mark stands, and the mark: NIfTI-1, NIfTI-2
HALF = ((344, b"ni1\0"), (4, b"ni2\0\r\n\x1a\n"))  # a header whose voxels lie in another file
HEADER = 540  # bytes, of the longer of the two
MAX_BYTES = 500_000_000  # of a volume, unpacked
OUTLIERS = 200  # one of so many voxels, 0.5 %, is out of the range at each end, as in nnU-Net (Isensee et al. 2021)
SAMPLE = 4_000_000  # voxels, evenly spread, of which the range is taken
THICK = 1.5  # times the next shorter side: from there on a voxel has a direction in which the slices were taken
AXIAL = 2  # the axis from foot to head, where axes run to the right, to the front and to the head
PLANES = {"sagittal": 0, "coronal": 1, "axial": AXIAL}  # the axis across the slices of each


def is_nifti(data: bytes, name: str) -> bool:
    """Tell a NIfTI file by its mark, also a packed one; or, where it has none, by its name."""
    head = data[:HEADER]
    if data.startswith(GZIP):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[: 1 << 16], HEADER)
        except zlib.error:
            head = b""
    return _marked(head, WHOLE + HALF) or name.lower().endswith(SUFFIXES)


class Volume(NamedTuple):
    """Voxels as they are stored, and what they mean."""

    stored: NDArray[Any]  # [X, Y, Z]; axes run to the right, to the front and to the head
    slope: float
    intercept: float
    black: float  # the value that is shown black
    white: float
    sides: NDArray[np.float64]  # of a voxel, mm [3]


def slices(data: bytes, max_pixels: int, along: str = "taken") -> Iterator[NDArray[np.uint8]]:
    """Yield the slices of a volume, uint8 [H, W] each with square pixels: those that were taken, or of another plane.

    The voxel's longest side is that direction where it is THICK times the next; otherwise slices are axial. Axes are
    turned to the nearest of right, front and head, nothing is interpolated. Pictures lie as radiologists have them:
    the patient's right on the left. Slices run from foot to head, back to front, or left to right. Black and white
    are the volume's own 0.5 and 99.5 percentiles, so one bright vessel darkens nothing, and a slice of
    noise at the end of the stack stays dark.

    Raises
    ------
    DecodeError
        The reason in one line: damage, no volume, several volumes, colours, or more than the limits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd header is no fault of the voxels
            volume = _volume(_unpacked(data), max_pixels)
        yield from _pictures(volume, max_pixels, PLANES.get(along, direction(volume.sides)))
    except DecodeError:
        raise
    except Exception as error:  # the reader meets any bytes at all, and raises anything
        raise DecodeError(f"cannot be decoded as NIfTI ({type(error).__name__})") from None


def _marked(head: bytes, marks: tuple[tuple[int, bytes], ...]) -> bool:
    return any(head.startswith(mark, at) for at, mark in marks)


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DecodeError(f"its gzip packing is damaged, or cut short ({error})"[:200]) from None
    if len(found) > MAX_BYTES:
        raise DecodeError(f"larger than {MAX_BYTES:,} bytes when unpacked")
    return found


def _volume(data: bytes, max_pixels: int) -> Volume:
    try:
        import nibabel
    except ImportError:
        raise DecodeError("a NIfTI volume; nibabel is not installed: run `make env` (or pip install nibabel)") from None
    if _marked(data[:HEADER], HALF):
        raise DecodeError("half of a NIfTI pair, .hdr and .img: expected one .nii or .nii.gz; convert it")
    kind = nibabel.Nifti2Image if _marked(data[:HEADER], WHOLE[1:]) else nibabel.Nifti1Image
    nibabel.imageglobals.logger.setLevel(logging.CRITICAL + 1)  # what it mends in a header is said to nobody
    image: Any = kind.from_bytes(data)
    shape, form = _shape(image, max_pixels), image.header.get_data_dtype()
    if form.fields or form.kind not in "iuf":
        raise DecodeError("voxels are colours or complex numbers: expected one number each")
    stored = np.asanyarray(image.dataobj.get_unscaled()).reshape(shape, order="F")
    scale = image.header.get_slope_inter()
    slope, intercept = (
        float(given if given is not None else usual) for given, usual in zip(scale, (1, 0), strict=True)
    )
    axes = nibabel.io_orientation(image.affine)
    if np.isnan(axes).any():
        raise DecodeError("its header gives a direction of the volume no length")
    sides = np.zeros(3)
    sides[axes[:, 0].astype(int)] = nibabel.affines.voxel_sizes(image.affine)
    ends = _range(stored, slope, intercept)
    return Volume(nibabel.apply_orientation(stored, axes), slope, intercept, *ends, sides)


def _shape(image: Any, max_pixels: int) -> tuple[int, int, int]:
    """Return the lengths of the three axes, having seen that they can be looked at and are not too large."""
    shape = tuple(int(each) for each in image.shape)
    if min(shape, default=0) < 1:
        raise DecodeError(f"{_times(shape)} voxels: nothing to look at")
    if np.prod(shape[3:], dtype=float) > 1:
        raise DecodeError(f"{_times(shape)} voxels are several volumes: expected one; take one out, as `fslroi` does")
    first, second, third = (*shape[:3], 1, 1)[:3]
    if max(first * second, first * third, second * third) > max_pixels:
        raise DecodeError(f"{_times(shape)} voxels: slices of more than {max_pixels} pixels (max_pixels)")
    if max(shape) > MAX_FRAMES:
        raise DecodeError(f"{_times(shape)} voxels: expected up to {MAX_FRAMES} slices")
    return first, second, third


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _pictures(volume: Volume, max_pixels: int, across: int) -> Iterator[NDArray[np.uint8]]:
    width, height = (side for axis, side in enumerate(volume.sides) if axis != across)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DecodeError(f"voxels of {width:g} x {height:g} mm in a slice: one side over {MAX_ASPECT} times the other")
    span = (volume.white - volume.black) or 1
    for place in range(volume.stored.shape[across]):
        values = _real(volume.stored.take(place, axis=across), volume.slope, volume.intercept)
        values = np.nan_to_num(values, nan=volume.black, posinf=volume.white, neginf=volume.black)
        grey = levels((values - volume.black) / span)
        # the axes' far ends, right and head or front, are the picture's left and top
        yield square(np.ascontiguousarray(grey[::-1, ::-1].T), height / width, max_pixels)


def direction(sides: NDArray[np.float64]) -> int:
    """Return the axis along which slices were taken, given a voxel's sides in mm [3].

    Examples
    --------
    >>> direction(np.array([0.5, 0.5, 5.0])), direction(np.array([6.0, 1.0, 1.0])), direction(np.array([1.2, 1.0, 1.0]))
    (2, 0, 2)
    """
    longest = int(np.argmax(sides))
    return longest if sides[longest] >= THICK * sorted(sides)[1] else AXIAL


def _range(stored: NDArray[Any], slope: float, intercept: float) -> tuple[float, float]:
    """Return the values shown black and white: percentiles of the volume; its ends, where those are one value."""
    flat = stored.reshape(-1, order="F")
    return spread(_real(flat[:: max(1, flat.size // SAMPLE)], slope, intercept), OUTLIERS, "voxel")


def _real(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float64) * slope + intercept
