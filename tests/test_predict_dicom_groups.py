"""Functional groups of enhanced files, and pixels that are not square: the picture of the plain classic file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from test_predict_dicom import MAX, frames, made

from stages.verify import dicom
from stages.verify.decode import DecodeError

pydicom = pytest.importorskip("pydicom")
from pydicom import Dataset  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

LEVELS = np.random.default_rng(0).integers(0, 4096, (3, 24, 16)).astype(np.uint16)
VALUES, VOI, MEASURES = "PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"
SIGMOID = {"WindowCenter": "900", "WindowWidth": "2000", "VOILUTFunction": "SIGMOID"}


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def group(rescale: dict | None = None, window: dict | None = None, spacing: list | None = None) -> Dataset:
    """Return a functional group with the macros that are given."""
    macros = {VALUES: rescale, VOI: window, MEASURES: spacing and {"PixelSpacing": spacing}}
    return item(**{name: Sequence([item(**macro)]) for name, macro in macros.items() if macro is not None})


def enhanced(shared: Dataset | None, own: list[Dataset], pixels: np.ndarray = LEVELS, **top: Any) -> bytes:
    """Return an Enhanced MR file: three frames with functional groups."""
    groups = {"SharedFunctionalGroupsSequence": Sequence([shared])} if shared is not None else {}
    return made(pixels, **groups, PerFrameFunctionalGroupsSequence=Sequence(own), **top)


RESCALE = {"RescaleSlope": "0.75", "RescaleIntercept": "-80", "RescaleType": "US"}
WINDOW = {"WindowCenter": "1200", "WindowWidth": "1500"}


@pytest.mark.parametrize("window", [WINDOW, SIGMOID, WINDOW | {"VOILUTFunction": "LINEAR_EXACT"}])
@pytest.mark.parametrize("where", ["shared", "own", "mixed"])
def test_an_enhanced_file_is_shown_as_the_classic_one_to_the_byte(window: dict, where: str):
    shared = {"shared": group(RESCALE, window), "own": None, "mixed": group(RESCALE)}[where]
    own = {"shared": group(), "own": group(RESCALE, window), "mixed": group(None, window)}[where]
    classic = [frames(made(each, **RESCALE, **window))[0] for each in LEVELS]
    assert frames(enhanced(shared, [own] * 3)) == classic
    assert np.std(classic) > 20


def test_pydicom_s_own_window_and_rescale_agree():
    file = pydicom.dcmread(io.BytesIO(made(LEVELS[0], **RESCALE, **WINDOW)))
    real = apply_voi_lut(apply_modality_lut(LEVELS[0], file), file)  # from what 0 means to what 65535 means
    level = np.floor((real + 80) / (0.75 * 65535) * 255 + 0.5)
    assert frames(enhanced(group(RESCALE, WINDOW), [group()] * 3))[0] == level.astype(int).tolist()


def test_the_frame_s_own_group_comes_before_the_shared_one_before_the_top():
    windows = [{"WindowCenter": str(center), "WindowWidth": "1000"} for center in (600, 1500, 2500, 3500)]
    own = [group(None, windows[0]), group(), group(None, windows[2])]
    found = frames(enhanced(group(None, windows[1]), own, **windows[3]))
    assert found == [frames(made(each, **windows[number]))[0] for number, each in enumerate(LEVELS)]
    top = frames(enhanced(None, [group()] * 3, **windows[3]))
    assert top == [frames(made(each, **windows[3]))[0] for each in LEVELS]


def test_an_empty_macro_and_a_missing_group_are_passed_over():
    empty = {"WindowCenter": None, "WindowWidth": None}
    found = frames(enhanced(group(RESCALE, WINDOW), [group({}, empty), group({"RescaleSlope": None})]))
    assert found == [frames(made(each, **RESCALE, **WINDOW))[0] for each in LEVELS]


def test_each_frame_has_its_own_rescale():
    own = [group({"RescaleSlope": str(slope), "RescaleIntercept": "0"}) for slope in (1, 2, 4)]
    found = frames(enhanced(group(None, WINDOW), own))
    assert found == [frames(made(each, RescaleSlope=str(2**at), **WINDOW))[0] for at, each in enumerate(LEVELS)]


def test_a_voi_table_in_a_functional_group_is_applied():
    table = item()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.add_new("LUTData", "OW", np.arange(4095, -1, -1).astype("<u2").tobytes())
    found = frames(enhanced(group(None, {"VOILUTSequence": Sequence([table])}), [group()] * 3))
    assert found[0] == np.floor((4095 - LEVELS[0]) / 4095 * 255 + 0.5).astype(int).tolist()


def test_a_slope_of_0_in_a_group_is_refused():
    with pytest.raises(DecodeError, match="Rescale Slope is 0"):
        frames(enhanced(None, [group(), group({"RescaleSlope": "0"}), group()]))


def disc(height: float, width: float) -> np.ndarray:
    """Return a disc of 60 mm on 90 x 90 mm, in pixels of height x width mm."""
    rows, columns = np.mgrid[0 : round(90 / height), 0 : round(90 / width)]
    inside = ((rows + 0.5) * height - 45) ** 2 + ((columns + 0.5) * width - 45) ** 2 < 30**2
    return inside.astype(np.uint8) * 255


def extent(grey: np.ndarray) -> tuple[int, int]:
    bright = grey > 127
    return int(bright.any(axis=1).sum()), int(bright.any(axis=0).sum())


SIDES = [(1.0, 0.5), (0.5, 1.0), (0.4, 1.2), (0.9, 0.6), (5.0, 0.5)]


@pytest.mark.parametrize(("height", "width"), SIDES)
@pytest.mark.parametrize("name", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_a_disc_in_long_pixels_is_round_and_its_finer_axis_kept(height: float, width: float, name: str):
    stored = disc(height, width)
    (grey,) = dicom.frames(made(stored, **{name: [str(height), str(width)]}), MAX)
    fine = min(height, width)
    assert grey.shape == (round(90 / fine), round(90 / fine))
    assert np.ptp(extent(grey)) <= max(height, width) / fine
    assert grey.shape[int(height > width)] == stored.shape[int(height > width)]


def test_a_ratio_is_vertical_over_horizontal_and_counts_without_a_spacing():
    stored = disc(1.0, 0.5)
    (by_ratio,) = dicom.frames(made(stored, PixelAspectRatio=["2", "1"]), MAX)
    (by_spacing,) = dicom.frames(made(stored, PixelSpacing=["1", "0.5"], PixelAspectRatio=["1", "7"]), MAX)
    assert by_ratio.shape == (180, 180) and (by_ratio == by_spacing).all()


def test_spacing_of_functional_groups_counts_per_frame():
    own = [group(spacing=["1", "0.5"]), group(), group()]
    found = list(dicom.frames(enhanced(group(spacing=["0.5", "1"]), own, PixelSpacing=["1", "1"]), MAX))
    assert [grey.shape for grey in found] == [(48, 16), (24, 32), (24, 32)]


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": ["0.5", "0.5"]},
        {"PixelSpacing": ["0.48828", "0.48828125"]},
        {"PixelSpacing": ["0.500", "0.503"]},
        {"PixelSpacing": None},
        {"PixelSpacing": ["0", "0"], "PixelAspectRatio": None},
        {"PixelAspectRatio": ["1", "1"]},
    ],
)
def test_pixels_that_are_square_or_said_nothing_of_stay_as_they_are(elements: dict):
    levels = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    assert frames(made(levels, **elements)) == [levels.tolist()]


def test_a_spacing_of_zeros_leaves_the_ratio():
    (found,) = dicom.frames(made(disc(1.0, 0.5), PixelSpacing=["0", "0"], PixelAspectRatio=["2", "1"]), MAX)
    assert found.shape == (180, 180)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelSpacing": ["0", "1"]}, r"Pixel Spacing is 0\\1: expected two positive numbers"),
        ({"PixelSpacing": ["-1", "-1"]}, r"Pixel Spacing is -1\\-1: expected two positive numbers"),
        ({"PixelSpacing": ["1"]}, "Pixel Spacing is 1: expected two positive numbers"),
        ({"PixelSpacing": ["1", "2", "3"]}, r"Pixel Spacing is 1\\2\\3: expected two"),
        ({"PixelSpacing": ["1", "1e30"]}, r"Pixel Spacing is 1\\1e\+30: one side over 20 times the other"),
        ({"ImagerPixelSpacing": ["1", "0.01"]}, r"Imager Pixel Spacing is 1\\0.01: one side over 20 times"),
        ({"PixelAspectRatio": ["3", "0"]}, r"Pixel Aspect Ratio is 3\\0: expected two positive"),
        ({"PixelAspectRatio": ["10", "1"]}, "1000 x 10000 square pixels are more than 1000000"),
    ],
)
def test_an_absurd_spacing_is_one_line(elements: dict, reason: str):
    with pytest.raises(DecodeError, match=reason):
        frames(made(np.zeros((1000, 1000), np.uint8), **elements))
