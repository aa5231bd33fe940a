"""DICOM files that are cut, flipped or lies: frames or one reason, in bounded time and memory."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from faulting import in_time, run
from test_predict_dicom import JPEG_BASELINE, JPEG_LS, MAX, made
from test_predict_dicom_groups import RESCALE, WINDOW, enhanced, group

from stages.verify import dicom
from stages.verify.decode import DecodeError

pydicom = pytest.importorskip("pydicom")
from pydicom.encaps import encapsulate  # noqa: E402

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
BOXES = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40
LEVELS = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)


def corpus() -> dict[str, bytes]:
    whole = made(LEVELS, RescaleSlope="2", WindowCenter="100", WindowWidth="50")
    found = {f"cut at {at}": whole[:at] for at in np.linspace(1, len(whole) - 1, 25).astype(int)}
    for number in range(60):
        found[f"flipped {number}"] = flipped(whole, number, len(whole) - 1024 if number % 2 else len(whole))
    found["with groups"] = with_groups = enhanced(group(RESCALE, WINDOW, ["1", "0.5"]), [group(None, WINDOW)] * 3)
    for number in range(40):
        found[f"flipped with groups {number}"] = flipped(with_groups, number, 900)
    found |= {
        "no rows": made(LEVELS, Rows=0),
        "rows of a bomb": made(LEVELS, Rows=65535, Columns=65535),
        "more rows than pixels": made(LEVELS, Rows=900),
        "fewer rows than pixels": made(LEVELS, Rows=3),
        "negative frames": made(LEVELS, NumberOfFrames=-1),
        "two thousand million frames": made(LEVELS, NumberOfFrames=2_000_000_000),
        "frames that are not there": made(LEVELS, NumberOfFrames=50),
        "no bits": made(LEVELS, BitsAllocated=0, BitsStored=0),
        "one bit": made(LEVELS, BitsAllocated=1, BitsStored=1, HighBit=0),
        "64 bits": made(LEVELS, BitsAllocated=64, BitsStored=64, HighBit=63),
        "five samples": made(LEVELS, SamplesPerPixel=5),
        "colour that is grey": made(LEVELS, PhotometricInterpretation="RGB"),
        "unknown colours": made(LEVELS, PhotometricInterpretation="PERIWINKLE"),
        "a palette without a table": made(LEVELS, PhotometricInterpretation="PALETTE COLOR"),
        "a window of no width": made(LEVELS, WindowCenter="10", WindowWidth="0"),
        "a window of negative width": made(LEVELS, WindowCenter="10", WindowWidth="-5"),
        "a huge window": made(LEVELS, WindowCenter="1e300", WindowWidth="1e300"),
        "a slope of nothing": made(LEVELS, RescaleSlope="0", RescaleIntercept="0"),
        "a slope beyond numbers": made(LEVELS, RescaleSlope="1e308", RescaleIntercept="1e308"),
        "JPEG that is none": made(LEVELS, syntax=JPEG_BASELINE, PixelData=b"\xfe\xff\x00\xe0" + b"\0" * 40),
        "JPEG-LS": made(LEVELS, syntax=JPEG_LS),
        "a syntax that nobody knows": made(LEVELS, syntax="1.2.3.4.5"),
        "video": made(LEVELS, syntax="1.2.840.10008.1.2.4.100"),
        "a slope that is no number": made(LEVELS, RescaleSlope="1.5").replace(b"1.5 ", b"one "),
        "an empty slope": made(LEVELS, RescaleSlope=None, RescaleIntercept=None, WindowCenter="9", WindowWidth="9"),
        "a window of two centres and no width": made(LEVELS, WindowCenter=["1", "2"], WindowWidth=None),
        "no photometric interpretation": made(LEVELS, PhotometricInterpretation=None),
        "an empty voi table": made(LEVELS, VOILUTSequence=[pydicom.Dataset()], WindowCenter="9", WindowWidth="9"),
        "a voi table that lies": made(LEVELS, VOILUTSequence=[table(65535, 0, 16)]),
        "a modality table that lies": made(LEVELS, ModalityLUTSequence=[table(0, -32768, 200)]),
        "a palette that lies": made(LEVELS, PhotometricInterpretation="PALETTE COLOR", **palette(70)),
        "pixels without a side": made(LEVELS, PixelSpacing=["0", "1"]),
        "pixels longer than the sky": made(LEVELS, PixelSpacing=["1", "1e300"]),
        "pixels in three directions": made(LEVELS, PixelAspectRatio=["1", "2", "3"]),
        "groups for other frames": made(LEVELS, PerFrameFunctionalGroupsSequence=[pydicom.Dataset()] * 9),
        "no groups": made(LEVELS, PerFrameFunctionalGroupsSequence=[], SharedFunctionalGroupsSequence=[]),
        "groups that are numbers": made(LEVELS).replace(b"\x28\0\x10\0US", b"\0\x52\x29\x92US"),
        "padding all over": made(LEVELS, PixelPaddingValue=0, PixelPaddingRangeLimit=255),
        "JPEG Lossless that is none": made(LEVELS, syntax=JPEG_LOSSLESS),
        "JPEG Lossless of a bomb": made(LEVELS, syntax=JPEG_LOSSLESS, PixelData=bomb()),
        "JPEG 2000 in boxes without end": made(LEVELS, syntax=JPEG_2000, PixelData=encapsulate([BOXES])),
        "a missing transfer syntax, compressed": made(LEVELS, syntax=JPEG_LS).replace(JPEG_LS.encode(), b" " * 22),
        "private elements": private(),
        "a whole header and no pixels": without_pixels(),
        "only the mark": b"\0" * 128 + b"DICM",
        "the mark and zeros": b"\0" * 128 + b"DICM" + b"\0" * 4000,
        "the mark and a length without end": b"\0" * 128 + b"DICM" + b"\xe0\x7f\x10\x00OB\0\0\xfe\xff\xff\xff",
    }
    return found


def flipped(whole: bytes, seed: int, end: int) -> bytes:
    """Return bytes with six bits between the preamble and `end` turned over."""
    random, data = np.random.default_rng(seed), bytearray(whole)
    for place in random.integers(128, end, 6):
        data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


def table(*descriptor: int) -> pydicom.Dataset:
    """Return a table that says more of itself than its two entries hold."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if min(descriptor) < 0 else "US", list(descriptor))
    item.add_new("LUTData", "US", [1, 2])
    return item


def palette(count: int) -> dict[str, object]:
    names = [f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue")]
    return {f"{name}Descriptor": [count, 0, 16] for name in names} | {f"{name}Data": b"12" for name in names}


def bomb() -> bytes:
    """Return a stream that states 65,535 x 65,535 pixels, as the one frame there is."""
    header = b"\xff\xd8\xff\xc3\0\x0b\x10" + b"\xff" * 4 + b"\1\1\x11\0"
    return encapsulate([header + b"\0" * 100])


def without_pixels() -> bytes:
    file = pydicom.dcmread(io.BytesIO(made(LEVELS)))
    del file.PixelData
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


def private() -> bytes:
    file = pydicom.dcmread(io.BytesIO(made(LEVELS)))
    block = file.private_block(0x0099, "EVIL CORP", create=True)
    block.add_new(0x01, "UN", b"\xff" * 5000)
    block.add_new(0x02, "LO", "../../etc/passwd")
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


@pytest.mark.fault("a hostile or damaged DICOM file")
def test_a_dicom_file_gives_frames_or_one_reason(record_property):
    found = corpus()
    for name, data in found.items():
        with in_time():
            try:
                frames = list(dicom.frames(data, MAX))
            except DecodeError as error:
                assert str(error) and "\n" not in str(error) and len(str(error)) < 300, name
            else:
                assert all(frame.dtype == np.uint8 and frame.ndim == 2 for frame in frames), name
    record_property("cases", len(found))


@pytest.mark.fault("a hostile or damaged DICOM file")
def test_a_header_without_pixels_is_said():
    with pytest.raises(DecodeError, match="no pixels in this DICOM file"):
        list(dicom.frames(without_pixels(), MAX))


@pytest.mark.fault("a hostile or damaged DICOM file")
def test_a_folder_of_them_ends_with_a_line_each(tiny_study: Path, tmp_path: Path, record_property):
    found = corpus()
    for number, data in enumerate(found.values()):
        (tmp_path / f"{number:03d}.dcm").write_bytes(data)
    words = [sys.executable, "-m", "commands", "predict", str(tmp_path), "--csv", "--study", str(tiny_study)]
    done = run(words, tiny_study)
    assert done.status == 1 and "Traceback" not in done.err, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("brainmri: ")]
    answered = {line.split(",")[0] for line in done.out.splitlines()[1:]}
    assert len(answered) + len(lines) - 1 == len(found)
    record_property("cases", len(found))
