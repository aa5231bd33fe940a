"""Which slices belong together, and in which order: told by a DICOM header, or by lying in one file."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Any, NamedTuple

import numpy as np

from commands.predict import dicom, nifti

TAGS = [
    "PatientID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
]


class Place(NamedTuple):
    """Where the slices of a file belong."""

    patient: str = ""  # a number that is the same for one patient, and tells nothing of them; "" where none is known
    series: str = ""  # the same for one series; "" for a picture that stands alone
    title: str = ""  # of the series
    position: float = 0.0  # along the stack


NOWHERE = Place()


def place(data: bytes, name: str, digest: str, frames: int) -> Place:
    """Return where the slices of a file belong; what a header does not say in a way that can be read is left out."""
    if dicom.is_dicom(data, name):
        try:
            return _dicom(data, digest)
        except Exception:  # an odd header is no fault of the pixels, which were decoded
            return NOWHERE
    if nifti.is_nifti(data, name) or frames > 1:
        return Place(series=digest)
    return NOWHERE


def _dicom(data: bytes, digest: str) -> Place:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True, specific_tags=TAGS)
        patient, series = (str(file.get(tag) or "") for tag in TAGS[:2])
        title = str(file.get("SeriesDescription") or file.get("Modality") or "")[:200]
        return Place(_number(patient), _number(series) or digest, title, _position(file))


def _number(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16] if text else ""


def _position(file: Any) -> float:
    """Return how far along the stack's normal a slice lies, in mm; its number where no position is given."""
    across, where = file.get("ImageOrientationPatient"), file.get("ImagePositionPatient")
    if across is not None and where is not None and len(across) == 6 and len(where) == 3:
        normal = np.cross(np.array(across[:3], float), np.array(across[3:], float))
        found = float(normal @ np.array(where, float))
    else:
        found = float(file.get("InstanceNumber") or 0)
    return found if np.isfinite(found) else 0.0
