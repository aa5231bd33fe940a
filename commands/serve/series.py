"""Which slices belong together, and in which order: told by a DICOM header, or by lying in one file."""

from __future__ import annotations

from typing import NamedTuple

from stages.scans import is_dicom
from stages.verify import dicom, nifti


class Place(NamedTuple):
    """Where the slices of a file belong."""

    patient: str = ""  # a number that is the same for one patient, and tells nothing of them; "" where none is known
    series: str = ""  # the same for one series; "" for a picture that stands alone
    title: str = ""  # of the series
    position: float = 0.0  # along the stack


NOWHERE = Place()


def place(data: bytes, name: str, digest: str, frames: int) -> Place:
    """Return where the slices of a file belong; what a header does not say in a way that can be read is left out."""
    if is_dicom(data, name):
        found = dicom.stack(data, 1)
        return (
            Place(found.patient, found.series or digest, found.title, found.positions[0])
            if found.positions
            else NOWHERE
        )
    if nifti.is_nifti(data, name) or frames > 1:
        return Place(series=digest)
    return NOWHERE
