"""Bytes of an image file -> grey levels. The only place in the project where an image file is decoded.

Every later stage, and `brainmri predict`, calls `decode_grey`, so a file means the same pixels everywhere.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from stages.shell.errors import InputError
from stages.verify import colours

Image.MAX_IMAGE_PIXELS = None  # ours is `max_pixels`, looked at as soon as a file is opened
# Pixel formats that libraries decode in this process. Pillow also knows EPS, which would start Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
# What people have that is none of these: what it is called, where in the file its mark stands, and the mark.
OTHERS = (
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftypmif1"),
    ("AVIF", 4, b"ftypavif"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL "),
    ("DICOM", 128, b"DICM"),
    ("NIfTI", 344, b"n+1\0"),
    ("NRRD", 0, b"NRRD"),
    ("gzip (perhaps NIfTI)", 0, b"\x1f\x8b"),
    ("NumPy", 0, b"\x93NUMPY"),
    ("MATLAB", 0, b"MATLAB"),
    ("HDF5", 0, b"\x89HDF"),
    ("Photoshop", 0, b"8BPS"),
    ("PDF", 0, b"%PDF"),
    ("PostScript", 0, b"%!PS"),
    ("zip", 0, b"PK\3\4"),
    ("icon", 0, b"\0\0\1\0"),
    ("a web page or SVG", 0, b"<"),
)


class DecodeError(InputError):
    """The bytes are no image that we can use; the message is the reason, without the file's name."""


class Decoded(NamedTuple):
    """An image as grey levels, and what its file said it was."""

    grey: NDArray[np.uint8]  # uint8 [H, W], upright
    mode: str  # Pillow's name for the pixels in the file: L, RGB, RGBA, P, I;16, ...
    format: str  # JPEG, PNG, ... by content, not by the file's name
    undone: NDArray[np.uint8] | None = None  # uint8 [H, W]: the levels that false colours stand for, see colours.py

    @property
    def compared(self) -> NDArray[np.uint8]:
        """What tells copies, uint8 [H, W]."""
        return self.grey if self.undone is None else self.undone


def decode_grey(data: bytes, max_pixels: int, page: int = 0) -> NDArray[np.uint8]:
    """Return the grey levels of an image file's bytes.

    Colour is weighed as ITU-R 601 luma in Pillow's integer arithmetic (the same bits everywhere). Transparency is laid
    on black, EXIF orientation is applied, an animation gives its first frame. Levels with more than 8 bits are scaled
    so that the image's darkest is 0 and its brightest 255.

    Parameters
    ----------
    data
        The file's bytes.
    max_pixels
        Refuse an image with more pixels than this, before decoding it (a decompression bomb).
    page
        Which of several pictures in a TIFF, from 0; see `pages`.

    Returns
    -------
    uint8 [H, W]

    Raises
    ------
    DecodeError
        An InputError whose message is the reason.

    Examples
    --------
    >>> import io; from PIL import Image
    >>> file = io.BytesIO(); Image.new("RGB", (3, 2), (255, 255, 255)).save(file, "PNG")
    >>> decode_grey(file.getvalue(), max_pixels=100).tolist()
    [[255, 255, 255], [255, 255, 255]]
    """
    return decode(data, max_pixels, page).grey


def pages(data: bytes) -> int:
    """Return how many pictures a TIFF holds; 1 for any other file, also for one that is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
                return int(getattr(image, "n_frames", 1))
    except Exception:  # `decode` says what is wrong with it
        return 1


def decode(data: bytes, max_pixels: int, page: int = 0) -> Decoded:
    """Return grey levels, mode and format of an image file's bytes; see `decode_grey`."""
    if not data:
        raise DecodeError("empty file (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no fault of the pixels; size is checked below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if page:
                    image.seek(page)
                _refuse_bomb(image, max_pixels)
                mode, kind = image.mode, image.format or "unknown"
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _levels(image, mode, kind)
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise DecodeError(f"{_named(data)}: expected {', '.join(FORMATS)}; convert it") from None
    except Exception as error:
        raise DecodeError(f"cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}"[:200]) from None


def _named(data: bytes) -> str:
    name = next((name for name, at, mark in OTHERS if data.startswith(mark, at)), None)
    return f"{name} is not taken as an image" if name else "not an image in a known format"


def _refuse_bomb(image: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise DecodeError(f"{width} x {height} pixels are more than {max_pixels} (max_pixels): a decompression bomb?")


def _levels(image: Image.Image, mode: str, kind: str) -> Decoded:
    """Return the levels of an image in any of Pillow's modes."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Decoded(_scaled(np.asarray(image)), mode, kind)
    if image.mode == "LAB":
        return Decoded(np.array(image.getchannel(0)), mode, kind)
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour)
    if image.mode not in ("L", "1", "RGB"):
        image = image.convert("RGB")
    undone = colours.undone(image) if image.mode == "RGB" else None
    return Decoded(np.asarray(image if image.mode == "L" else image.convert("L")), mode, kind, undone)


def _scaled(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale integers or floats to 0..255 by the image's own range; one level only gives zeros, not-a-number is 0."""
    if levels.dtype.kind == "f":
        levels = levels.astype(np.float64)
        finite = np.isfinite(levels)
        if not finite.any():
            raise DecodeError("no pixel is a finite number")
        low, high = levels[finite].min(), levels[finite].max()
        share = (np.where(finite, levels, low) - low) / ((high - low) or 1)
        return np.asarray(np.floor(share * 255 + 0.5), np.uint8)
    levels = levels.astype(np.int64)
    low, span = levels.min(), (np.ptp(levels) or 1)
    return np.asarray(((levels - low) * 255 + span // 2) // span, np.uint8)
