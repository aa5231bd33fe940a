"""DICOM files that are cut, flipped or lies: frames or one reason, in bounded time and memory."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from faulting import in_time, run
from test_predict_dicom import JPEG_BASELINE, JPEG_LS, MAX, made

from commands.predict import dicom
from stages.verify.decode import DecodeError

pydicom = pytest.importorskip("pydicom")
LEVELS = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)


def corpus() -> dict[str, bytes]:
    whole = made(LEVELS, RescaleSlope="2", WindowCenter="100", WindowWidth="50")
    found = {f"cut at {at}": whole[:at] for at in np.linspace(1, len(whole) - 1, 25).astype(int)}
    for number in range(60):
        random = np.random.default_rng(number)
        data = bytearray(whole)
        for place in random.integers(128, len(whole) - 1024 if number % 2 else len(whole), 6):
            data[place] ^= 1 << int(random.integers(8))
        found[f"flipped {number}"] = bytes(data)
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
        "private elements": private(),
        "a whole header and no pixels": without_pixels(),
        "only the mark": b"\0" * 128 + b"DICM",
        "the mark and zeros": b"\0" * 128 + b"DICM" + b"\0" * 4000,
        "the mark and a length without end": b"\0" * 128 + b"DICM" + b"\xe0\x7f\x10\x00OB\0\0\xfe\xff\xff\xff",
    }
    return found


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
