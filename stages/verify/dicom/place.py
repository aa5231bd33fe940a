"""Where the frames of a DICOM file stand in their series: along the stack, whatever their files are called."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Any, NamedTuple

import numpy as np

from stages.verify.dicom.file import reader

TAGS = [
    *("PatientID", "SeriesInstanceUID", "SeriesDescription", "Modality", "InstanceNumber", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


class Stack(NamedTuple):
    """What a file's header says of its place."""

    patient: str  # a number that is the same for one patient; "" where none is known
    series: str  # the same for one series; "" where none is known
    title: str  # of the series
    positions: list[float]  # of each frame, mm along the stack's normal; their numbers where no position is given


NOWHERE = Stack("", "", "", [])


def stack(data: bytes, frames: int) -> Stack:
    """Return where the frames of a file's bytes stand; NOWHERE where its header cannot be read, which is no fault here.

    For sorting and for a page on one machine: a title, and a patient's number by its plain hash, are for no output.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = reader().dcmread(io.BytesIO(data), force=True, stop_before_pixels=True, specific_tags=TAGS)
            title = str(file.get("SeriesDescription") or file.get("Modality") or "")[:200]
            patient, series = (_number(str(file.get(tag) or "")) for tag in TAGS[:2])
            return Stack(patient, series, title, [_position(file, number) for number in range(frames)])
    except Exception:
        return NOWHERE


def _number(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16] if text else ""


def _position(file: Any, number: int) -> float:
    across = _stated(file, number, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    where = _stated(file, number, "PlanePositionSequence", "ImagePositionPatient", 3)
    if across is not None and where is not None:
        found = float(np.cross(across[:3], across[3:]) @ where)
    else:
        found = float(file.get("InstanceNumber") or 0) + number
    return found if np.isfinite(found) else 0.0


def _stated(file: Any, number: int, group: str, name: str, count: int) -> np.ndarray | None:
    """Return an element of a frame: of its own functional group, of the shared one, or of the top level."""
    own = list(file.get("PerFrameFunctionalGroupsSequence") or [])[number : number + 1]
    for item in [*own, *list(file.get("SharedFunctionalGroupsSequence") or [])[:1]]:
        for inner in list(item.get(group) or [])[:1]:
            if len(inner.get(name) or []) == count:
                return np.array(inner.get(name), float)
    found = file.get(name)
    return np.array(found, float) if found is not None and len(found) == count else None
