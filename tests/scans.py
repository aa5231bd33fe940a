"""Phantoms as hospitals have images: DICOM series of several patients and NIfTI volumes, and the same as PNG.

`python tests/scans.py FOLDER` writes dicom/, nifti/ and png/ there, each with classes in Training, Validation, Testing.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
import stages  # noqa: F401, I001  pins first, where this is a script

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from stages.fetch.phantom.heads import slice_of
from stages.fetch.phantom.schema import PhantomParams

EXPLICIT, MR, CAPTURE = "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
REPORT, DIRECTORY = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.1.3.10"
CLASSES = ["glioma", "meningioma"]
HEADS = {"Training": 4, "Validation": 1, "Testing": 2}  # of each class
SLICES = 4  # of each head
SPACING = ["0.9", "0.9"]  # mm
PARAMS = PhantomParams.model_validate(
    {"train_per_class": 1, "test_per_class": 1, "min_side": 96, "max_side": 128, "visibility": 1.0, "noise": 0.04}
    | {"copies": dict.fromkeys(("byte", "recoded", "contrast", "mirrored"), 0), "slices_per_head": SLICES}
)


class Head(NamedTuple):
    """One patient's slices, from foot to head."""

    split: str
    label: str
    number: int
    slices: list[np.ndarray]  # uint8 [H, W], all of one size


def heads(seed: int = 0) -> Iterator[Head]:
    """Yield every patient, in the order of the paths that `as_png` gives."""
    for split in sorted(HEADS):
        for label in CLASSES:
            before = sum(count for name, count in HEADS.items() if name > split)
            for number in range(HEADS[split]):
                at = before + number
                yield Head(split, label, at, [slice_of(seed, label, at, z, PARAMS).grey for z in range(SLICES)])


def dicom(grey: np.ndarray, **elements: Any) -> bytes:
    """Return a slice as DICOM: 12 bits, through a window that shows the very grey levels of uint8 [H, W]."""
    file = empty(MR)
    file.Rows, file.Columns = grey.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.WindowCenter, file.WindowWidth, file.VOILUTFunction = "2040", "4080", "LINEAR_EXACT"
    file.PixelSpacing, file.Modality = SPACING, "MR"
    file.PixelData = (grey.astype("<u2") * 16).tobytes()
    return filled(file, elements)


def empty(kind: str) -> FileDataset:
    """Return a DICOM file of a SOP class, without pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = EXPLICIT, kind
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = kind, "1.2.3"
    return file


def filled(file: FileDataset, elements: dict[str, Any]) -> bytes:
    for name, value in elements.items():
        setattr(file, name, value)
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return out.getvalue()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def as_dicom(folder: Path, splits: bool = True) -> int:
    """Write series, two folders deep, files without an ending and in no order of names; return how many are pictures.

    Beside them: a table of contents, a localiser, a report, a capture of a screen, a CT slice, a README.
    """
    count = 0
    for head in heads():
        patient, series = f"P-{head.label[:3]}-{head.number}", f"1.2.9.{CLASSES.index(head.label)}.{head.number}"
        top = folder / (head.split if splits else "") / head.label / f"disc{head.number}"
        about = {"PatientID": patient, "SeriesInstanceUID": series, "StudyInstanceUID": f"{series}.1"}
        lying = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        for z, grey in enumerate(head.slices):
            place = {"ImagePositionPatient": [0, 0, 5 * z], "InstanceNumber": SLICES - z}
            put(top / "series" / f"IM{(z * 7 + 3) % 10:04d}", dicom(grey, **about, **lying, **place))
            count += 1
        put(top / "DICOMDIR", filled(empty(DIRECTORY), {}))
        grey = head.slices[0]
        put(top / "other/1", dicom(grey, **about, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
        put(top / "other/2", filled(empty(REPORT), {"Modality": "SR", **about}))
        put(top / "other/3", dicom(grey, **about, SOPClassUID=CAPTURE))
        put(top / "other/4", dicom(grey, **about | {"Modality": "CT"}))
    put(folder / "README", b"a data set")
    return count


def volume(slices: list[np.ndarray]) -> bytes:
    """Return a volume whose slices of odd number are those given, of even number black or white by turns.

    So half a per cent of its voxels is black and half a per cent white, and the levels are those given.
    """
    stack = [each for z, grey in enumerate(slices) for each in (grey, np.full_like(grey, 255 * (z % 2)))]
    voxels = np.stack([each[::-1, ::-1].T for each in stack], axis=2).astype(np.int16)
    return nibabel.Nifti1Image(voxels, np.diag([0.9, 0.9, 5.0, 1.0])).to_bytes()


def as_nifti(folder: Path, splits: bool = True) -> int:
    """Write a volume for each patient; return how many of their slices, every second, are pictures."""
    count = 0
    for head in heads():
        top = folder / (head.split if splits else "") / head.label
        put(top / f"case{head.number:02d}.nii.gz", gzip.compress(volume(head.slices), 1, mtime=0))
        count += len(head.slices)
    return count


def as_png(folder: Path, splits: bool = True) -> int:
    """Write the same pictures as PNG, in a folder for each patient; return how many."""
    count = 0
    for head in heads():
        top = folder / (head.split if splits else "") / head.label / f"disc{head.number}"
        for z, grey in enumerate(head.slices):
            out = io.BytesIO()
            Image.fromarray(grey).save(out, "PNG")
            put(top / f"{z}.png", out.getvalue())
            count += 1
    return count


FORMS = {"dicom": as_dicom, "nifti": as_nifti, "png": as_png}

if __name__ == "__main__":
    for name, write in FORMS.items():
        print(name, write(Path(sys.argv[1]) / name))
