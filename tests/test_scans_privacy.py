"""What is said of a DICOM file that cannot be shown quotes no text of its header, whatever element is at fault."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import config
from pydicom.datadict import DicomDictionary
from scans import dicom

from stages.fetch.schema import ScanParams
from stages.fetch.series import Intake, read, said
from stages.verify import picture
from stages.verify.decode import DecodeError

GREY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
NAME = "ZZNAME^ANNA"
VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
# of the image itself, and what the decoder and fetch go by, elsewhere
USED = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "PixelPresentation",
)
USED += ("SeriesInstanceUID", "SeriesDescription", "BurnedInAnnotation", "InstanceNumber", "ImagePositionPatient")
USED += ("ImageOrientationPatient", "PresentationLUTShape", "NominalScannedPixelSpacing", "ImagerPixelSpacing")
TAGS = [
    (tag, keyword, vr)
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
    if vr in VRS and keyword and (tag >> 16 == 0x0028 or keyword in USED)
]


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Let pydicom write what no element may hold."""
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)


def named(tag: int, vr: str, said: str = NAME) -> bytes:
    """Return a file that has a name in one element."""
    file = pydicom.dcmread(io.BytesIO(dicom(GREY)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag),
            vr,
            len(said) + len(said) % 2,
            said.encode().ljust(len(said) + len(said) % 2),
            0,
            False,
            True,
        )
        out = io.BytesIO()
        file.save_as(out, implicit_vr=False, little_endian=True)
    return out.getvalue()


def test_a_name_in_any_element_of_the_image_is_in_no_reason_and_on_no_console(capfd):
    reasons = {}
    for tag, keyword, vr in TAGS:
        data = named(tag, vr)
        assert b"ZZNAME" in data, keyword
        try:
            list(picture.pictures(data, "a.dcm", 10**6))
            reasons[keyword] = ""
        except DecodeError as error:
            reasons[keyword] = str(error)
        picture.dicom.stack(data, 1)
        intake = Intake(ScanParams())
        taken = intake("a/1", "1", [data])
        reasons[keyword] += " ".join(
            [*said(intake.counts()), *intake.patients().values(), read(data, ScanParams()).reason]
        )
        assert taken is None or b"".join(taken) == data
    assert len(reasons) > 60 and sum(map(bool, reasons.values())) > 8
    assert [keyword for keyword, said in reasons.items() if "ZZ" in said or "ANNA" in said] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", ["1.2.826.99.4242.7", "ZZNAME"])
def test_an_unknown_transfer_syntax_is_not_quoted(syntax):
    file = pydicom.dcmread(io.BytesIO(dicom(GREY)))
    file.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(DecodeError) as caught:
        list(picture.pictures(out.getvalue(), "a.dcm", 10**6))
    assert syntax not in str(caught.value)
