"""A name, a date or an id in every text element of a DICOM header, private ones too."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
from pydicom import config
from pydicom.datadict import DicomDictionary
from scans import MR

PLANTED = {
    "PN": "ZZNAME^ANNA",
    "DA": "19450817",
    "DT": "19450817101112",
    "TM": "101112.131415",
    "AE": "ZZENTITY",
    "AS": "077Y",
    "CS": "ZZCODE",
    "UI": "1.2.826.99.4242.7",
    "UR": "http://zz.hospital/ZZTEXT",
    **dict.fromkeys(("LO", "LT", "SH", "ST", "UC", "UT"), "ZZTEXT LANE 4"),
}
NEEDLES = (b"ZZNAME", b"19450817", b"101112.1314", b"ZZENTITY", b"ZZCODE", b"1.2.826.99.4242", b"ZZTEXT", b"P-gli-")
# what the decoder and the rule go by stands there as a scanner writes it; what is planted in these has tests of its own
KEPT = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
)
KEPT += ("SeriesInstanceUID", "TransferSyntaxUID", "MediaStorageSOPClassUID", "BurnedInAnnotation")


def plant(folder: Path) -> None:
    """Plant in one file of each series below a folder, which says too that text is burnt into it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = config.settings.writing_validation_mode
        config.settings.writing_validation_mode = config.IGNORE
        for path in sorted(folder.rglob("IM0003")):
            file = pydicom.dcmread(path)
            assert file.SOPClassUID == MR
            _fill(file)
            file.save_as(path)
        config.settings.writing_validation_mode = before


def _fill(file: pydicom.Dataset) -> None:
    inner = pydicom.Dataset()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        kind = vr.split(" or ")[0]
        group = tag >> 16
        if (
            kind in PLANTED
            and keyword
            and keyword not in KEPT
            and group not in (0x0000, 0x0002, 0x0004, 0x0028, 0xFFFE)
        ):
            file.add_new(tag, kind, PLANTED[kind])
            inner.add_new(tag, kind, PLANTED[kind])
    file.RequestAttributesSequence = [inner]
    for group in (0x0009, 0x0029, 0x7FD1):
        block = file.private_block(group, "ZZTEXT CORP", create=True)
        for place, (vr, value) in enumerate(PLANTED.items(), 1):
            block.add_new(place, vr, value)
        block.add_new(0x50, "UN", b"ZZNAME^ANNA in bytes ")
    file.BurnedInAnnotation = "YES"
