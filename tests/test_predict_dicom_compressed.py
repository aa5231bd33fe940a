"""Compressed DICOM files: the picture of the plain one, and one line for what is damaged or not known here."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_predict_dicom import JPEG_BASELINE, MAX, frames, made

from stages.verify import dicom
from stages.verify.decode import DecodeError, decode_grey
from stages.verify.dicom import codecs

pydicom = pytest.importorskip("pydicom")
jpeg_ls = pytest.importorskip("jpeg_ls")
imagecodecs = pytest.importorskip("imagecodecs")
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.pixels.encoders import RLELosslessEncoder  # noqa: E402

SYNTAX = "1.2.840.10008.1.2.4."
RLE, LOSSLESS, JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.5", f"{SYNTAX}70", f"{SYNTAX}80", f"{SYNTAX}90"
WINDOW = {"WindowCenter": "500", "WindowWidth": "4000", "RescaleSlope": "2"}


def lossless_jpeg(levels: np.ndarray, bits: int) -> bytes:
    """Return levels [H, W] as JPEG Lossless: ITU-T T.81, annex H, each pixel guessed by its left neighbour."""
    values = levels.astype(int)
    guess = np.empty_like(values)
    guess[:, 1:], guess[1:, 0], guess[0, 0] = values[:, :-1], values[:-1, 0], 1 << (bits - 1)
    code = ""
    for step in (((values - guess + 32767) & 0xFFFF) - 32767).ravel().tolist():
        length = abs(step).bit_length()  # the table gives every length its own number in five bits
        code += f"{length:05b}"
        if 0 < length < 16:
            code += f"{step if step > 0 else step + (1 << length) - 1:0{length}b}"
    code += "1" * (-len(code) % 8)
    body = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\0")
    height, width = (side.to_bytes(2, "big") for side in levels.shape)
    frame = segment(0xC3, bytes([bits]) + height + width + b"\1\1\x11\0")
    table = segment(0xC4, b"\0" + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17)))
    return b"\xff\xd8" + frame + table + segment(0xDA, b"\1\1\0\1\0\0") + body + b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def jpeg_2000(levels: np.ndarray, bits: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    return out.getvalue()


def rle(levels: np.ndarray, bits: int) -> bytes:
    shape = {"rows": levels.shape[0], "columns": levels.shape[1], "samples_per_pixel": 1, "number_of_frames": 1}
    form = {"bits_allocated": 8 * levels.itemsize, "bits_stored": bits, "pixel_representation": 0}
    return RLELosslessEncoder.encode(levels, **shape, **form, photometric_interpretation="MONOCHROME2")


def charls(levels: np.ndarray, bits: int) -> bytes:
    return bytes(jpeg_ls.encode_array(levels))


ENCODERS = {
    RLE: rle,
    f"{SYNTAX}57": lossless_jpeg,
    LOSSLESS: lossless_jpeg,
    JPEG_LS: charls,
    f"{SYNTAX}81": charls,
    JPEG_2000: jpeg_2000,
    f"{SYNTAX}91": jpeg_2000,
}


def levels_of(bits: int, seed: int = 0) -> np.ndarray:
    """Return smooth levels with noise, both ends included."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 0.9, 24 * 32).reshape(24, 32) + random.uniform(0, 0.1, (24, 32))
    ramp[0, 0], ramp[1, 1] = 0, 1
    return np.round(ramp * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", ENCODERS)
def test_every_lossless_compression_gives_the_plain_file_s_levels(syntax: str, bits: int):
    levels, form = levels_of(bits), {"BitsStored": bits, "HighBit": bits - 1, **WINDOW}
    if bits == 12 and ENCODERS[syntax] in (jpeg_2000, charls):
        form |= {"BitsStored": 16, "HighBit": 15}  # what these encoders write
    data = made(levels, syntax=syntax, **form, PixelData=encapsulate([ENCODERS[syntax](levels, bits)]))
    assert frames(data) == frames(made(levels, **form))


@pytest.mark.parametrize("syntax", [LOSSLESS, JPEG_LS, RLE])
def test_signed_values_of_twelve_bits_keep_their_sign(syntax: str):
    signed = (levels_of(12).astype(int) - 2048).astype(np.int16)
    form = {"BitsStored": 12, "HighBit": 11, **WINDOW}
    stream = ENCODERS[syntax]((signed & 0xFFF).astype(np.uint16), 12)
    assert frames(made(signed, syntax=syntax, **form, PixelData=encapsulate([stream]))) == frames(made(signed, **form))


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("syntax", [LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_every_frame_is_decoded(syntax: str, table: bool):
    many = np.array([levels_of(16, seed) for seed in range(3)])
    streams = [ENCODERS[syntax](each, 16) for each in many]
    data = made(many, syntax=syntax, **WINDOW, PixelData=encapsulate(streams, has_bot=table))
    assert frames(data) == frames(made(many, **WINDOW))


def test_a_frame_in_two_fragments_is_one():
    levels = levels_of(16)
    data = encapsulate([lossless_jpeg(levels, 16)], fragments_per_frame=2)
    assert frames(made(levels, syntax=LOSSLESS, PixelData=data)) == frames(made(levels))


def test_compressed_as_jpeg_is_decoded():
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=90)
    data = made(grey, syntax=JPEG_BASELINE, PixelData=encapsulate([file.getvalue()]), WindowCenter=128, WindowWidth=256)
    (found,) = dicom.frames(data, MAX)
    assert np.abs(found.astype(int) - decode_grey(file.getvalue(), MAX)).max() <= 1


def test_jpeg_of_twelve_bits_is_decoded():
    levels, form = levels_of(12), {"BitsStored": 12, "HighBit": 11, **WINDOW}
    stream = imagecodecs.jpeg8_encode(levels, level=99, bitspersample=12)
    found = frames(made(levels, syntax=f"{SYNTAX}51", **form, PixelData=encapsulate([stream])))
    assert np.abs(np.subtract(found, frames(made(levels, **form)))).max() <= 1


SAME = ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]


def file(name: str) -> bytes:
    """Return a DICOM file that pydicom's wheel ships for tests."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom does not ship {name}")
    with open(path, "rb") as found:  # noqa: PTH123  pydicom's own path
        return found.read()


def test_a_scanner_s_file_is_the_same_in_every_encoding():
    shown = [frames(file(f"MR_small{name}.dcm")) for name in SAME]
    assert all(each == shown[0] for each in shown) and np.std(shown[0]) > 20


def test_a_deflated_file_is_read():
    assert np.std(frames(file("image_dfl.dcm"))) > 20


def test_a_lossless_colour_jpeg_of_another_encoder_is_the_plain_picture():
    assert frames(file("SC_rgb_jpeg_gdcm.dcm")) == frames(file("SC_rgb_rle.dcm"))


def test_a_twelve_bit_jpeg_of_another_encoder_is_decoded():
    lossy, exact = (np.array(frames(file(name))) for name in ("JPGExtended.dcm", "JPEG2000.dcm"))
    assert np.corrcoef(lossy.ravel(), exact.ravel())[0, 1] > 0.9


def damaged(stream: bytes) -> list[bytes]:
    """Return a stream cut in two places, and with noise in its first bytes, and in its middle."""
    random = np.random.default_rng(0)
    found = [stream[: len(stream) // 3], stream[:20], b"\0\0", b"\0" * 50, stream[:2] + random.bytes(60)]
    for first, last in [(2, 60), (60, len(stream))] * 20:
        broken = bytearray(stream)
        for place in random.integers(first, last, 3):
            broken[place] = random.integers(256)
        found.append(bytes(broken))
    return found


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_damaged_stream_gives_a_picture_or_says_damaged(syntax: str):
    levels, said = levels_of(16), 0
    for stream in damaged(ENCODERS[syntax](levels, 16)):
        try:
            (found,) = frames(made(levels, syntax=syntax, PixelData=encapsulate([stream])))
        except DecodeError as error:
            said += 1
            assert "damaged" in str(error) or "its header says" in str(error), str(error)
            assert "\n" not in str(error) and len(str(error)) < 300 and "not known" not in str(error)
        else:
            assert np.shape(found) == levels.shape
    assert said >= 5


@pytest.mark.parametrize("syntax", [LOSSLESS, JPEG_LS, JPEG_2000])
def test_a_stream_that_unfolds_to_another_size_is_not_decoded(syntax: str, monkeypatch: pytest.MonkeyPatch):
    stream = ENCODERS[syntax](np.zeros((100, 90), np.uint16), 16)
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match="its compressed pixels are 90 x 100, its header says 32 x 24"):
        frames(made(levels_of(16), syntax=syntax, PixelData=encapsulate([stream])))


@pytest.mark.parametrize("length", [0, 7, 2**32 - 1, None])
def test_boxes_around_a_jpeg_2000_stream_that_lead_nowhere_end(length: int | None):
    levels, out = levels_of(16), io.BytesIO()
    Image.fromarray(levels).save(out, "JPEG2000", irreversible=False)
    stream = bytearray(out.getvalue())
    assert stream[16:20] == b"ftyp"
    if length is not None:
        stream[12:16] = length.to_bytes(4, "big")
    data = made(levels, syntax=JPEG_2000, **WINDOW, PixelData=encapsulate([bytes(stream)]))
    if length is None:
        assert frames(data) == frames(made(levels, **WINDOW))
        return
    with pytest.raises(DecodeError, match="damaged"):
        frames(data)


def test_fewer_frames_than_said_are_named():
    levels = np.array([levels_of(16)] * 3)
    streams = [jpeg_2000(each, 16) for each in levels[:2]]
    with pytest.raises(DecodeError, match="2 frames where its header says 3"):
        frames(made(levels, syntax=JPEG_2000, PixelData=encapsulate(streams)))


@pytest.mark.parametrize(("syntax", "package"), [(LOSSLESS, "imagecodecs"), (JPEG_LS, "pyjpegls")])
def test_a_missing_decoder_is_named(syntax: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(codecs, "find_spec", lambda _: None)
    levels = levels_of(16)
    with pytest.raises(DecodeError, match=f"compressed as JPEG.*pip install {package}"):
        frames(made(levels, syntax=syntax, PixelData=encapsulate([ENCODERS[syntax](levels, 16)])))


def test_compressed_pixels_without_a_transfer_syntax_are_named():
    data = made(levels_of(16), syntax=JPEG_LS, PixelData=encapsulate([charls(levels_of(16), 16)]))
    file = pydicom.dcmread(io.BytesIO(data))
    assert len(list(generate_frames(file.PixelData, number_of_frames=1))) == 1
    del file.file_meta.TransferSyntaxUID
    out = io.BytesIO()
    file.save_as(out, implicit_vr=False, little_endian=True)
    with pytest.raises(DecodeError, match="compressed, and its header does not say how"):
        frames(out.getvalue())


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Image Compression"),
    ],
)
def test_an_unknown_compression_is_named_as_the_standard_names_it(syntax: str, name: str):
    with pytest.raises(DecodeError, match=rf"compression is not known here: {name}.* \({syntax}\); decompress it"):
        frames(made(levels_of(16), syntax=syntax))
