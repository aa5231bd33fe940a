"""DICOM -> grey levels: values worked by hand, and one line for what cannot be shown."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from commands.predict.inputs import File, Unreadable, read
from stages.prepare.schema import Prepare
from stages.scans import is_dicom
from stages.verify import dicom
from stages.verify.decode import DecodeError

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

EXPLICIT, JPEG_BASELINE, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
MAX = 10**6


def made(pixels: np.ndarray, preamble: bool = True, syntax: str = EXPLICIT, **elements: object) -> bytes:
    """Return the bytes of a DICOM file with pixels [H, W], [N, H, W] or [H, W, 3]."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128 if preamble else None)
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    shape = pixels.shape[:2] if colour else pixels.shape[-2:]
    file.Rows, file.Columns = shape
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes() if syntax == EXPLICIT else encapsulate([pixels.tobytes()])
    for name, value in elements.items():
        setattr(file, name, value)
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=preamble, implicit_vr=False, little_endian=True)
    return out.getvalue()


LEVELS = np.array([[0, 100], [255, 7]], np.uint8)


def mangled(**elements: str) -> bytes:
    """Return the bytes of a file in which 1.5 is written 1,5."""
    return made(LEVELS, **elements).replace(b"1.5 ", b"1,5 ")


def frames(data: bytes) -> list[list[list[int]]]:
    return [frame.tolist() for frame in dicom.frames(data, MAX)]


def test_eight_bits_from_0_to_255_are_as_they_are():
    levels = np.array([[0, 100], [255, 7]], np.uint8)
    assert frames(made(levels)) == [levels.tolist()]


def test_without_a_window_values_are_spread_over_their_own_range():
    assert frames(made(np.array([[1000, 1500, 2000]], np.uint16))) == [[[0, 128, 255]]]


def test_rescale_and_window_are_those_of_the_standard():
    # real values 2 x - 100: -100, 0, 100, 300. Window 100 wide around 50: PS3.3 C.11.2.1.2.1 has black up to 0, white
    # above 99, and ((v - 49.5) / 99 + 0.5) between.
    data = made(
        np.array([[0, 50, 75, 200]], np.uint16),
        RescaleSlope="2",
        RescaleIntercept="-100",
        WindowCenter=["50", "999"],
        WindowWidth=["100", "1"],
    )
    assert frames(data) == [[[0, 0, round(((50 - 49.5) / 99 + 0.5) * 255), 255]]]


def test_monochrome1_is_inverted():
    levels = np.array([[0, 255, 55]], np.uint8)
    assert frames(made(levels, PhotometricInterpretation="MONOCHROME1")) == [[[255, 0, 200]]]


def test_a_voi_table_is_applied():
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 8], [0, 10, 200, 255]
    item.add_new("LUTDescriptor", "US", [4, 0, 8])
    item.add_new("LUTData", "US", [0, 10, 200, 255])
    data = made(np.array([[0, 1, 2, 3]], np.uint8), VOILUTSequence=Sequence([item]))
    assert frames(data) == [[[0, 10, 200, 255]]]


def test_colour_is_weighed_as_luma():
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert frames(made(colour)) == [np.asarray(Image.fromarray(colour).convert("L")).tolist()]


def test_every_frame_is_yielded_with_its_own_range():
    many = np.array([[[0, 1]], [[5, 9]], [[7, 3]]], np.uint16)
    assert frames(made(many)) == [[[0, 255]], [[0, 255]], [[255, 0]]]
    file_frames = read_frames(made(many.repeat(20, 1).repeat(20, 2)))
    assert [picture.frame for picture in file_frames] == [1, 2, 3]


def test_signed_and_one_level_only():
    assert frames(made(np.array([[-100, 0, 100]], np.int16))) == [[[0, 128, 255]]]
    assert frames(made(np.full((2, 2), 9, np.uint16))) == [[[0, 0], [0, 0]]]


def test_what_says_how_a_print_or_a_drawing_looks_changes_nothing():
    levels = np.array([[10, 40], [90, 7]], np.uint8)
    presentation = {"PresentationLUTShape": "INVERSE", "SmallestImagePixelValue": 40, "LargestImagePixelValue": 41}
    assert frames(made(levels, **presentation)) == [levels.tolist()]


@pytest.mark.parametrize("kind", [None, ""])
def test_an_empty_photometric_interpretation_is_what_the_samples_imply(kind: str | None):
    levels = np.array([[0, 100], [255, 7]], np.uint8)
    assert frames(made(levels, PhotometricInterpretation=kind)) == [levels.tolist()]
    lower = made(levels).replace(b"MONOCHROME2", b"monochrome2")
    assert frames(lower) == [levels.tolist()]
    colour = np.full((2, 2, 3), 9, np.uint8)
    assert frames(made(colour, PhotometricInterpretation=kind)) == [[[9, 9], [9, 9]]]


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("meta", ["none", "without it", "empty"])
def test_a_file_that_does_not_say_how_it_is_written_is_read_as_it_is(implicit: bool, little: bool, meta: str):
    if meta == "empty" and not little:
        pytest.skip("pydicom takes an empty one for little endian; big endian was retired in 2006")
    levels = np.array([[0, 100, 2000], [40, 7, 900]], np.uint16)
    whole = pydicom.dcmread(io.BytesIO(made(levels, RescaleSlope="2", WindowCenter="900", WindowWidth="1000")))
    file = pydicom.Dataset()
    file.update({element.tag: element for element in whole})
    file.file_meta, file.preamble = FileMetaDataset(), None if meta == "none" else b"\0" * 128
    if meta != "none":
        file.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if meta == "empty":
        file.file_meta.TransferSyntaxUID = ""
    if not little:
        file.PixelData = levels.byteswap().tobytes()
    out = io.BytesIO()
    file.save_as(out, implicit_vr=implicit, little_endian=little)
    assert frames(out.getvalue()) == frames(made(levels, RescaleSlope="2", WindowCenter="900", WindowWidth="1000"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0" * 128 + b"DICM", "no pixels"),
        (b"\0" * 128 + b"DICM" + b"junk" * 50, ""),
        (made(np.zeros((2, 2), np.uint8))[:-3], "cannot be decoded"),
        (made(LEVELS, RescaleSlope="0", RescaleIntercept="5"), "Rescale Slope is 0: every pixel"),
        (made(LEVELS, RescaleSlope="0.0", WindowCenter="5", WindowWidth="5"), "Rescale Slope is 0"),
        (mangled(RescaleSlope="1.5"), "Rescale Slope is no number"),
        (mangled(PixelSpacing=["1", "1.5"]), "Pixel Spacing is no number"),
        (made(LEVELS, RescaleSlope="1e308"), "Rescale Slope 1e+308, Intercept 0: beyond what numbers hold"),
        (made(LEVELS, PixelPresentation="COLOR"), "supplemental palette"),
        (made(LEVELS, syntax="1.2.3.4.5"), "known here: a Transfer Syntax UID that the standard has not; decompress"),
        (mangled(WindowWidth="1.5", WindowCenter="2"), "Window Width is no number"),
        (made(LEVELS, PhotometricInterpretation="HSV"), "unknown Photometric Interpretation: expected one of MONO"),
        (made(LEVELS, PhotometricInterpretation="RGB"), "1 samples a pixel contradict the Photometric"),
        (made(LEVELS, WindowCenter=1, WindowWidth=2, VOILUTFunction="CUBIC"), "unknown VOI LUT Function: expected"),
        (made(LEVELS, ModalityLUTSequence=Sequence([pydicom.Dataset()])), "modality table is empty"),
        (made(LEVELS, PhotometricInterpretation="PALETTE COLOR"), "its palette is missing"),
        (made(LEVELS, PixelPresentation="MIXED"), "supplemental palette"),
        (made(LEVELS, Rows=None), "its header has no Rows"),
        (made(np.zeros((2, 2), np.uint8), Rows=60000, Columns=60000), "more than 1000000"),
        (made(np.zeros((2, 2), np.uint8), NumberOfFrames=10**6), "1000000 frames"),
        (
            made(LEVELS, syntax="1.2.840.10008.1.2.4.100"),
            "known here: MPEG2 Main Profile / Main Level (1.2.",
        ),
        (made(np.full((2, 2), np.nan, np.float32).view(np.uint32).astype(np.uint32), BitsAllocated=33), ""),
    ],
)
def test_what_cannot_be_shown_is_one_line(data: bytes, reason: str):
    with pytest.raises(DecodeError) as error:
        frames(data)
    assert reason in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_file_without_the_mark_is_told_by_its_name():
    data = made(np.array([[0, 255]], np.uint8), preamble=False)
    assert not is_dicom(data, "slice") and is_dicom(data, "slice.DCM")


def read_frames(data: bytes):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        path.write_bytes(data)
        found = read(File(path, "a.dcm"), 32, Prepare(crop=True, crop_threshold=0.1, max_pixels=MAX))
    assert not any(isinstance(each, Unreadable) for each in found)
    return found
