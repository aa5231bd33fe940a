"""A DICOM file's pixel data -> stored values; one decoder a compression, so that no other installed one changes bits.

Baseline JPEG and JPEG 2000 by Pillow, RLE by pydicom itself, JPEG-LS by pyjpegls (CharLS), JPEG Lossless and 12-bit
JPEG by imagecodecs (libjpeg-turbo): all under permissive licences.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from PIL import Image, UnidentifiedImageError

from stages.verify.decode import DecodeError
from stages.verify.dicom import jpeg
from stages.verify.dicom.header import whole
from stages.verify.dicom.jpeg import EXTENDED, LOSSLESS

RLE, BASELINE = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
MODULES = {"pyjpegls": "jpeg_ls", "imagecodecs": "imagecodecs"}  # what a package is imported as
JP2 = b"\0\0\0\x0cjP  "  # how a JPEG 2000 stream in a file of boxes begins, with its first box of 12 bytes
FRAMES_OF_JPEG = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # the markers of a frame's header: SOF0..15, SOF55


def decoded(file: Any, count: int) -> Iterator[Any]:
    """Yield the stored values of `count` frames: [H, W], or [H, W, 3] as RGB.

    Raises
    ------
    DecodeError
        A compression that is not known here, or damage.
    """
    from pydicom.pixels import pixel_array

    syntax = file.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise _unknown(syntax)
    if syntax.is_encapsulated:
        yield from _decompressed(file, count, _plugin(file))
    else:
        yield from (pixel_array(file, index=number) for number in range(count))


def _decompressed(file: Any, count: int, plugin: str) -> Iterator[Any]:
    from pydicom.pixels import pixel_array

    name = file.file_meta.TransferSyntaxUID.name
    try:
        streams = _streams(file, count)
        for number in range(count):
            stream = next(streams, None)
            if stream is None:
                raise DecodeError(f"{number} frames where its header says {count}: cut short?")
            _see_size(stream, file)
            yield pixel_array(_alone(file, stream), index=0, decoding_plugin=plugin)
    except DecodeError:
        raise
    except Exception as error:  # decoders raise anything
        raise DecodeError(f"its pixels, compressed as {name}, are damaged ({type(error).__name__})") from None


def _plugin(file: Any) -> str:
    """Return pydicom's name of the decoder for a file's compression; DecodeError where there is none."""
    syntax, bits, samples = file.file_meta.TransferSyntaxUID, whole(file, "BitsStored"), int(file.SamplesPerPixel)
    if syntax == RLE:
        return "pydicom"
    limit = {BASELINE: 16, EXTENDED: 8} | dict.fromkeys(JPEG_2000, 16 if samples == 1 else 8)  # Pillow's, in bits
    if bits <= limit.get(syntax, 0):
        return "pillow"
    if syntax in JPEG_LS:
        return _installed("pyjpegls", file)
    if syntax in LOSSLESS or (syntax == EXTENDED and samples == 1):
        return _registered(_installed("imagecodecs", file), syntax)
    raise _unknown(syntax)


def _unknown(syntax: Any) -> DecodeError:
    text = f"{syntax.name} ({syntax})" if syntax.name != syntax else "a Transfer Syntax UID that the standard has not"
    return DecodeError(f"its compression is not known here: {text[:150]}; decompress it first, with `gdcmconv --raw`")


def _installed(package: str, file: Any) -> str:
    if find_spec(MODULES[package]) is None:
        name = file.file_meta.TransferSyntaxUID.name
        raise DecodeError(f"compressed as {name}: run `make env` (or pip install {package}), which decodes it")
    return package


def _registered(package: str, syntax: str) -> str:
    """Make pydicom know our decoder of a syntax, under the package's name."""
    from pydicom.pixels import get_decoder

    decoder = get_decoder(syntax)
    if package not in decoder.available_plugins:
        decoder.add_plugin(package, (jpeg.__name__, jpeg.decode_frame.__name__))
    return package


def _streams(file: Any, count: int) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    offsets = file.get("ExtendedOffsetTable"), file.get("ExtendedOffsetTableLengths")
    return generate_frames(file.PixelData, number_of_frames=count, extended_offsets=offsets if all(offsets) else None)


def _alone(file: Any, stream: bytes) -> Any:
    """Return a file of one frame: pydicom looks a frame up by walking over all those before it."""
    from pydicom import Dataset
    from pydicom.encaps import encapsulate

    one = Dataset()
    one.file_meta = file.file_meta
    one.update({tag: element for tag, element in file.items() if tag.group == 0x0028})
    one.NumberOfFrames = 1
    one.PixelData = encapsulate([stream])
    return one


def _see_size(stream: bytes, file: Any) -> None:
    """Refuse a stream that unfolds to another size than the header's, which was held against `max_pixels`."""
    syntax = file.file_meta.TransferSyntaxUID
    if syntax == RLE:  # has no size of its own; its decoder sees to it
        return
    size = _size_of_jpeg_2000(stream) if syntax in JPEG_2000 else _size_of_jpeg(stream)
    if size is None:
        raise ValueError("the stream begins as none does")
    if size != (int(file.Columns), int(file.Rows)):
        said = f"its header says {file.Columns} x {file.Rows}"
        raise DecodeError(f"its compressed pixels are {size[0]} x {size[1]}, {said}")


def _size_of_jpeg_2000(stream: bytes) -> tuple[int, int] | None:
    """Return the width and height that a JPEG 2000 stream states; None where it is none."""
    if stream.startswith(JP2) and not _boxes_end(stream):
        return None
    try:
        with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
            return image.size
    except UnidentifiedImageError:
        return None


def _boxes_end(stream: bytes) -> bool:
    """Say whether a JP2 file's boxes lead to its code stream: pydicom 3.0.2 walks over one of no length for ever."""
    place = len(JP2) + 4
    while place < len(stream) and stream[place + 4 : place + 8] != b"jp2c":
        length = int.from_bytes(stream[place : place + 4], "big")
        if length < 8:
            return False
        place += length
    return place < len(stream)


def _size_of_jpeg(stream: bytes) -> tuple[int, int] | None:
    """Return the width and height that a JPEG or JPEG-LS stream states; None where it is none."""
    place = 2
    while stream.startswith(b"\xff\xd8") and place + 9 <= len(stream) and stream[place] == 0xFF:
        if stream[place + 1] in FRAMES_OF_JPEG:
            height, width = struct.unpack(">HH", stream[place + 5 : place + 9])
            return width, height
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
