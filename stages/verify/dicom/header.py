"""What a DICOM header says of how one frame is shown: its own functional group over the shared one over the top level.

PS3.3: C.7.6.16 (functional groups), C.11.1 (modality), C.11.2 (VOI), C.7.6.3 (pixels), C.7.5.1.1.2 (padding). What
stands there without a value counts as not there; what is no number is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.verify.decode import DecodeError

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# each: height of a pixel, then its width; the standard prefers the real ones to the mere ratio
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
MAX_ASPECT = 20  # a thick stack seen from its side has 10


class Table(NamedTuple):
    """A lookup table: values below `first` have its first level, those beyond its end the last."""

    levels: NDArray[np.uint16]  # [N]
    first: int  # the value whose level is levels[0]
    top: int  # the highest level that there can be


class Window(NamedTuple):
    """A range of values that is spread from black to white."""

    center: float
    width: float  # > 0
    function: str  # of FUNCTIONS


class Display(NamedTuple):
    """How stored values of one frame become grey or colour."""

    kind: str  # the photometric interpretation
    bits: int  # of a stored value
    padding: tuple[int, int] | None  # stored values from, to, that are no part of the picture
    slope: float
    intercept: float
    modality: Table | None  # in place of slope and intercept
    voi: Table | Window | None
    palette: tuple[Table, Table, Table] | None  # red, green, blue


def display(file: Any, number: int) -> Display:
    """Return how frame `number`, from 0, is shown."""
    kind, signed = str(file.PhotometricInterpretation), bool(whole(file, "PixelRepresentation", 0))
    bits = whole(file, "BitsStored", 0)
    slope, intercept = _rescale(file, number)
    return Display(
        kind=kind,
        bits=bits,
        padding=_padding(file, bits, signed),
        slope=slope,
        intercept=intercept,
        modality=_modality(file, signed),
        voi=_voi(file, number, signed or intercept < 0),
        palette=_palette(file, signed) if kind == "PALETTE COLOR" else None,
    )


def aspect(file: Any, number: int) -> float:
    """Return the height of a pixel of frame `number` over its width; 1.0 where nothing says it."""
    for name in SPACINGS:
        for item in _nearest(file, number, "PixelMeasuresSequence"):
            found = numbers(item, name)
            if not found or found == [0, 0]:  # anonymisers write zeros
                continue
            if len(found) != 2 or min(found) <= 0:
                raise DecodeError(f"{_spoken(name)} is {_written(found)}: expected two positive numbers")
            if max(found) > MAX_ASPECT * min(found):
                raise DecodeError(f"{_spoken(name)} is {_written(found)}: one side over {MAX_ASPECT} times the other")
            return found[0] / found[1]
    return 1.0


def numbers(item: Any, name: str) -> list[float]:
    """Return the values of an element, none where it is not there or empty; DecodeError where one is no number."""
    try:
        value = item.get(name)
        if value is None or value == "":
            return []
        many = not isinstance(value, str | bytes) and hasattr(value, "__len__")
        found = [float(each) for each in (value if many else [value])]
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        raise DecodeError(f"{_spoken(name)} is no number") from None
    if not all(map(isfinite, found)):
        raise DecodeError(f"{_spoken(name)} is {_written(found)}: expected finite numbers")
    return found


def whole(file: Any, name: str, default: int | None = None) -> int:
    """Return an element's first value as a whole number, or `default` where there is none; DecodeError without one."""
    found = numbers(file, name)
    if found:
        return int(found[0])
    if default is None:
        raise DecodeError(f"its header has no {_spoken(name)}")
    return default


def _nearest(file: Any, number: int, macro: str) -> Iterator[Any]:
    """Yield where a macro's elements may stand, nearest first: the frame's own group, the shared one, the top level."""
    own, shared = _items(file, "PerFrameFunctionalGroupsSequence"), _items(file, "SharedFunctionalGroupsSequence")
    for group in own[number : number + 1] + shared[:1]:
        yield from _items(group, macro)[:1]
    yield file


def _items(item: Any, name: str) -> list[Any]:
    found = item.get(name)
    return list(found) if found is not None and item[name].VR == "SQ" else []


def _rescale(file: Any, number: int) -> tuple[float, float]:
    """Return slope and intercept; where only one of them stands, the other is 1 or 0."""
    for item in _nearest(file, number, "PixelValueTransformationSequence"):
        slope, intercept = numbers(item, "RescaleSlope"), numbers(item, "RescaleIntercept")
        if slope and slope[0] == 0:
            raise DecodeError("Rescale Slope is 0: every pixel would have one and the same value")
        if slope or intercept:
            return (slope or [1.0])[0], (intercept or [0.0])[0]
    return 1.0, 0.0


def _modality(file: Any, signed: bool) -> Table | None:
    items = _items(file, "ModalityLUTSequence")
    if not items:
        return None
    table = _table(items[0], "LUT", file, signed)
    if table is None:
        raise DecodeError("its modality table is empty, or shorter than it says")
    return table


def _voi(file: Any, number: int, signed: bool) -> Table | Window | None:
    """Return the nearest VOI table or window; a table that is empty or too short is passed over."""
    for item in _nearest(file, number, "FrameVOILUTSequence"):
        tables = _items(item, "VOILUTSequence")
        found = (_table(tables[0], "LUT", file, signed) if tables else None) or _window(item)
        if found:
            return found
    return None


def _window(item: Any) -> Window | None:
    """Return the first of the windows of an item that has a width."""
    function = str(item.get("VOILUTFunction") or FUNCTIONS[0]).strip().upper()
    for center, width in zip(numbers(item, "WindowCenter"), numbers(item, "WindowWidth"), strict=False):
        if width > 0 and function not in FUNCTIONS:
            raise DecodeError(f"unknown VOI LUT Function: expected one of {', '.join(FUNCTIONS)}")
        if width > 0:
            return Window(center, width, function)
    return None


def _table(item: Any, name: str, file: Any, signed: bool) -> Table | None:
    """Return the table in `{name}Descriptor` and `{name}Data`; None where it is empty or shorter than it says."""
    descriptor, data = numbers(item, f"{name}Descriptor"), item.get(f"{name}Data")
    if len(descriptor) != 3 or data is None:
        return None
    count, first, bits = (int(each) for each in descriptor)
    count = count & 0xFFFF or 2**16  # the standard's way to write 65,536; negative where it was read as signed
    little = file.file_meta.TransferSyntaxUID.is_little_endian
    if not isinstance(data, bytes):  # 16-bit words that the reader has turned
        words = numbers(item, f"{name}Data")
        data, little = np.asarray(words, np.int64).astype("<u2").tobytes(), True
    form = np.dtype(np.uint8 if len(data) < 2 * count else "<u2" if little else ">u2")
    if not 1 <= bits <= 16 or len(data) < count * form.itemsize:
        return None
    levels = np.frombuffer(data, form, count).astype(np.uint16)
    top = 2**bits - 1 if levels.max() < 2**bits else 2**16 - 1
    return Table(levels, first - 2**16 if signed and first >= 2**15 else first, top)


def _palette(file: Any, signed: bool) -> tuple[Table, Table, Table]:
    name = "{}PaletteColorLookupTable"
    red, green, blue = (_table(file, name.format(colour), file, signed) for colour in ("Red", "Green", "Blue"))
    if red is None or green is None or blue is None:
        raise DecodeError("its palette is missing, segmented, or shorter than it says")
    return red, green, blue


def _padding(file: Any, bits: int, signed: bool) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that pad the picture to a rectangle."""
    value = numbers(file, "PixelPaddingValue")[:1]
    if not value or not bits:
        return None
    ends = [int(each) for each in value + numbers(file, "PixelPaddingRangeLimit")[:1]]
    if signed:  # also where it was written as an unsigned number
        ends = [((each + 2 ** (bits - 1)) % 2**bits) - 2 ** (bits - 1) for each in ends]
    return min(ends), max(ends)


def _spoken(name: str) -> str:
    """Return an element's keyword as the standard writes its name: Rescale Slope."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(name)
    return name if tag is None else dictionary_description(tag)


def _written(values: list[float]) -> str:
    return "\\".join(f"{each:g}" for each in values[:4])
