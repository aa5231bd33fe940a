"""Stored values -> grey levels: ranges, padding, rescale, windows, tables, colour; by hand or by the standard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from test_predict_dicom import frames, made

from stages.verify.decode import DecodeError

pydicom = pytest.importorskip("pydicom")
from pydicom.sequence import Sequence  # noqa: E402


def test_eight_bits_without_a_window_are_levels_as_they_are():
    levels = np.array([[10, 40], [90, 7]], np.uint8)
    assert frames(made(levels)) == [levels.tolist()]
    assert frames(made(levels, RescaleSlope="1", RescaleIntercept="0")) == [levels.tolist()]
    assert frames(made(np.array([[0, 1]], np.uint8), BitsStored=1, HighBit=0)) == [[[0, 255]]]
    assert frames(made(levels.astype(np.uint16), BitsStored=8, HighBit=7)) == [levels.tolist()]


def test_what_is_rescaled_is_no_level_any_more():
    assert frames(made(np.array([[0, 10, 20]], np.uint8), RescaleSlope="3")) == [[[0, 128, 255]]]


@pytest.mark.parametrize("hot", [4095, 0])
def test_one_hot_pixel_does_not_change_the_others(hot: int):
    levels = np.random.default_rng(0).integers(100, 200, (64, 64)).astype(np.uint16)
    plain = np.array(frames(made(levels))[0])
    levels[5, 5] = hot
    found = np.array(frames(made(levels))[0])
    assert found[5, 5] == (255 if hot else 0)
    assert np.abs(np.delete(found - plain, 5 * 64 + 5)).max() <= 3 and plain.std() > 50


def test_a_picture_of_few_bright_pixels_keeps_them():
    levels = np.zeros((64, 64), np.uint16)
    levels[3, 4] = 500
    assert np.flatnonzero(np.array(frames(made(levels)))).tolist() == [3 * 64 + 4]


def test_padding_is_black_and_no_part_of_the_range():
    levels = np.array([[-2000, 0, 50, 100]], np.int16)
    shown = [[[0, 0, 128, 255]]]
    assert frames(made(levels, PixelPaddingValue=-2000)) == shown
    unsigned = made(levels, PixelPaddingValue=-2000).replace(b"\x28\0\x20\x01SS", b"\x28\0\x20\x01US")
    assert frames(unsigned) == shown
    assert frames(made(np.array([[9, 9]], np.uint16), PixelPaddingValue=9)) == [[[0, 0]]]
    some = np.array([[7, 8, 9, 10, 11, 12]], np.uint16)
    assert frames(made(some, PixelPaddingValue=9, PixelPaddingRangeLimit=7)) == [[[0, 0, 0, 0, 128, 255]]]


def test_padding_of_an_inverted_picture_is_black_too():
    levels = np.array([[4095, 0, 50, 100]], np.uint16)
    data = made(levels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    assert frames(data) == [[[0, 255, 127, 0]]]


@pytest.mark.parametrize(("there", "real"), [("RescaleSlope", [0, 2, 4]), ("RescaleIntercept", [2, 3, 4])])
@pytest.mark.parametrize("other", [{}, {"RescaleSlope": None}, {"RescaleIntercept": ""}])
def test_a_slope_or_an_intercept_alone_counts_under_a_window(there: str, real: list[int], other: dict):
    data = made(
        np.array([[0, 1, 2]], np.uint16),
        WindowCenter="3",
        WindowWidth="6",
        **{name: value for name, value in other.items() if name != there},
        **{there: "2"},
    )
    assert frames(data) == [[[round(value * 51) for value in real]]]


def test_an_empty_slope_and_intercept_count_as_none():
    levels = np.array([[3, 90]], np.uint8)
    assert frames(made(levels, RescaleSlope=None, RescaleIntercept=None)) == [levels.tolist()]


def test_rescale_by_a_negative_slope_turns_the_picture():
    assert frames(made(np.array([[0, 50, 100]], np.uint16), RescaleSlope="-1")) == [[[255, 128, 0]]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_windows_are_those_of_the_standard(function: str | None, kind: str, dtype: type):
    levels = np.random.default_rng(1).integers(0, 3000, (20, 30)).astype(dtype)
    elements = {"RescaleSlope": "1.5", "RescaleIntercept": "-200", "WindowCenter": "700", "WindowWidth": "1500"}
    file = made(levels, PhotometricInterpretation=kind, **elements | ({"VOILUTFunction": function} if function else {}))
    assert frames(file) == [by_the_standard(levels * 1.5 - 200, 700, 1500, function, kind)]


def by_the_standard(real: np.ndarray, c: float, w: float, function: str | None, kind: str) -> list[list[int]]:
    """Return the pseudo-code of PS3.3, C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, value by value."""
    out = []
    for x in real.ravel().tolist():
        if function == "SIGMOID":
            y = 255 / (1 + math.exp(-4 * (x - c) / w))
        elif function == "LINEAR_EXACT":
            y = 0 if x <= c - w / 2 else 255 if x > c + w / 2 else ((x - c) / w + 0.5) * 255
        elif x <= c - 0.5 - (w - 1) / 2:
            y = 0
        else:
            y = 255 if x > c - 0.5 + (w - 1) / 2 else ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
        level = math.floor(y + 0.5)
        out.append(255 - level if kind == "MONOCHROME1" else level)
    return np.reshape(out, real.shape).tolist()


def test_a_window_one_wide_is_a_step_and_a_narrower_one_a_slope():
    levels = np.array([[99, 100, 101]], np.uint16)
    assert frames(made(levels, WindowCenter="100", WindowWidth="1")) == [[[0, 255, 255]]]
    assert frames(made(levels, RescaleSlope="0.001", WindowCenter="0.1", WindowWidth="0.004")) == [[[64, 128, 191]]]


def test_the_first_window_that_has_a_width_is_taken():
    data = made(np.array([[0, 50, 99]], np.uint16), WindowCenter=["9", "50"], WindowWidth=["0", "100"])
    assert frames(data) == [[[0, 129, 255]]]


@pytest.mark.parametrize(("center", "level"), [("-900", 255), ("900", 0)])
def test_a_window_beside_the_values_is_black_or_white_as_in_a_viewer(center: str, level: int):
    assert frames(made(np.array([[0, 50, 99]], np.uint16), WindowCenter=center, WindowWidth="100")) == [[[level] * 3]]


@pytest.mark.parametrize("width", ["", "0", "-5", None])
def test_a_window_without_a_width_counts_as_none(width: str | None):
    data = made(np.array([[1000, 1500, 2000]], np.uint16), WindowCenter="7", WindowWidth=width)
    assert frames(data) == [[[0, 128, 255]]]


def lut(count: int, first: int, bits: int, data: object) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return item


@pytest.mark.parametrize("item", [lut(4, 0, 8, None), lut(4, 0, 8, [1]), pydicom.Dataset(), lut(4, 0, 99, [1] * 4)])
def test_an_empty_or_short_voi_table_leaves_the_window(item: pydicom.Dataset):
    levels, window = np.array([[0, 50, 75, 200]], np.uint16), {"WindowCenter": "50", "WindowWidth": "100"}
    assert frames(made(levels, VOILUTSequence=Sequence([item]), **window)) == frames(made(levels, **window))
    assert frames(made(levels, VOILUTSequence=Sequence([item]))) == frames(made(levels))
    assert frames(made(levels, VOILUTSequence=Sequence([]), **window)) == frames(made(levels, **window))


@pytest.mark.parametrize("data", [[0, 100, 200, 255], b"\0\0\x64\0\xc8\0\xff\0", b"\0\x64\xc8\xff"])
def test_tables_are_words_or_bytes_and_reach_beyond_their_ends(data: object):
    levels = np.array([[-200, -100, -99, -98, -97, 5]], np.int16)
    shown = [[[0, 0, 100, 200, 255, 255]]]
    assert frames(made(levels, VOILUTSequence=Sequence([lut(4, -100, 8, data)]))) == shown
    assert frames(made(levels, ModalityLUTSequence=Sequence([lut(4, -100, 8, data)]), **whole(8))) == shown
    unsigned = lut(4, 2**16 - 100, 8, data)  # as written by who takes every descriptor for unsigned
    assert frames(made(levels, VOILUTSequence=Sequence([unsigned]))) == shown


def whole(bits: int) -> dict[str, object]:
    """Return the window that shows 0 to 2 ** bits - 1 from black to white."""
    return {"WindowCenter": str(2 ** (bits - 1)), "WindowWidth": str(2**bits)}


def test_a_modality_table_comes_before_the_window():
    table = lut(3, 0, 16, [1000, 5000, 3000])
    data = made(np.array([[0, 1, 2]], np.uint8), ModalityLUTSequence=Sequence([table]), **whole(13))
    assert frames(data) == [[[round(each / 8191 * 255) for each in (1000, 5000, 3000)]]]
    assert frames(made(np.array([[0, 1, 2]], np.uint8), ModalityLUTSequence=Sequence([table]))) == [[[0, 255, 128]]]


def test_a_voi_table_reads_rescaled_values():
    table = lut(4, 1000, 10, [0, 300, 600, 1023])
    data = made(np.array([[0, 1, 2, 3]], np.uint8), RescaleIntercept="1000", VOILUTSequence=Sequence([table]))
    assert frames(data) == [[[0, 75, 150, 255]]]


def test_twelve_bits_in_sixteen_ignore_the_other_four():
    levels = np.array([[0, 2048, 4095]], np.uint16)
    dirty = levels | np.array([[0xF000, 0x3000, 0]], np.uint16)
    twelve = {"BitsStored": 12, "HighBit": 11}
    assert frames(made(dirty, **twelve)) == frames(made(levels, **twelve)) == [[[0, 128, 255]]]


def test_colour_of_sixteen_bits_is_spread_over_all_that_can_be():
    colour = np.array([[[0, 0, 0], [32768, 32768, 32768], [257, 257, 257]]], np.uint16)
    assert frames(made(colour)) == [[[0, 128, 1]]]


def test_ybr_is_made_rgb_and_then_grey():
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    found = frames(made(np.array(Image.fromarray(colour).convert("YCbCr")), PhotometricInterpretation="YBR_FULL"))
    assert np.abs(np.array(found[0]) - np.asarray(Image.fromarray(colour).convert("L"))).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_palette_is_looked_up_and_then_grey(dtype: type):
    stored = np.array([[0, 1, 2, 200]], dtype)
    tables = {"Red": [255, 0, 0, 9], "Green": [0, 255, 0, 9], "Blue": [0, 0, 255, 9]}
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, levels in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
        elements[f"{name}PaletteColorLookupTableData"] = bytes(levels)
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert frames(made(stored, **elements)) == [np.asarray(Image.fromarray(colour).convert("L")).tolist()]


def test_a_segmented_palette_is_named():
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 8]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = bytes([0, 4, 1, 2, 3, 4])
    with pytest.raises(DecodeError, match="segmented"):
        frames(made(np.array([[0, 1]], np.uint8), **elements))


def test_a_long_palette_of_bytes_does_not_wrap_around():
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [512, 0, 8]
        elements[f"{name}PaletteColorLookupTableData"] = bytes([0] * 300 + [255] * 212)
    assert frames(made(np.array([[10, 299, 300, 400]], np.uint16), **elements)) == [[[0, 0, 255, 255]]]
