"""`brainmri new-study` on what people have: discs of DICOM series, zips of them, BraTS's and nnU-Net's folders."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scans import dicom, put, volume
from test_new_study import call, params, refusal, root  # noqa: F401

from stages.fetch import __main__ as fetch
from stages.fetch.series import numbers

GREY = np.arange(48 * 40, dtype=np.uint8).reshape(48, 40)
PACKED = gzip.compress(volume([GREY] * 3), 1, mtime=0)


def packed(number: int) -> bytes:
    """Return a volume in a gzip of another date, so that no two files are one."""
    return PACKED[:4] + bytes([number]) + PACKED[5:]


def discs(top: Path, patients: int = 6, slices: int = 3, **elements: object) -> Path:
    """Write <class>/<patient>/<series>/<file without ending>, slices of one patient in a row."""
    for label in ("cat", "dog"):
        for person in range(patients):
            for z in range(slices):
                about = {"PatientID": f"{label} {person}", "SeriesInstanceUID": f"1.2.{person}", "InstanceNumber": z}
                data = dicom(np.roll(GREY, 7 * z + person), **about | elements)
                put(top / f"{label}/ward{person}/a/{z}", data)
    put(top / "DICOMDIR", dicom(GREY))
    return top


def fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(f"studies/{name}")
    fetch.main()
    table = pd.read_csv("data/patients.csv", dtype=str)
    assert all(Path("data/raw", path).is_file() for path in table["path"])
    return table


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted(folder.rglob("*")):
            file.write(each, each.relative_to(folder.parent))
    return path


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_discs_become_a_study_in_which_no_patient_both_trains_and_tests(root, form, monkeypatch, capsys):  # noqa: F811
    source = discs(root.parent / "own")
    assert call("mine", str(source if form == "folder" else zipped(source))) == 0
    made = params("mine")
    assert made["fetch"]["patients"] == {"tag": True} and made["fetch"]["scans"]["modalities"] == ["MR"]
    assert made["split"]["protocol"] == "by_patient" and "36 of 36 files are of 12 patients" in capsys.readouterr().out
    table = fetched("mine", monkeypatch)
    split = table["path"].str.split("/").str[0]
    assert table.groupby("patient").size().eq(3).all() and len(table) == 36
    assert split.groupby(table["patient"]).nunique().eq(1).all() and split.nunique() == 2


def test_a_disc_without_patients_is_divided_by_examination(root, monkeypatch):  # noqa: F811
    source = discs(root.parent / "own", PatientID="", SeriesInstanceUID="1.2.3")
    for path in source.rglob("[0-9]"):
        data = dicom(GREY, StudyInstanceUID=f"1.2.{path.parts[-4] == 'dog':d}.{path.parts[-3][-1]}", InstanceNumber=1)
        path.write_bytes(data + bytes(2 * int(path.name)))
    call("mine", str(source))
    assert fetched("mine", monkeypatch)["patient"].nunique() == 12


def test_one_name_for_all_patients_is_refused_in_one_line(root):  # noqa: F811
    assert "class 'cat' has 1 distinct files or patients" in refusal(
        "mine", str(discs(root.parent / "own", PatientID="ANONYMOUS"))
    )


def test_patients_may_be_told_by_folders_where_all_have_one_name(root, monkeypatch):  # noqa: F811
    call(
        "mine",
        str(discs(root.parent / "own", PatientID="ANONYMOUS")),
        "--patients",
        "(?P<patient>ward.)/.*",
        "--patients-two-classes",
    )
    assert fetched("mine", monkeypatch)["patient"].nunique() == 6


def test_a_folder_of_volumes_in_classes(root, monkeypatch):  # noqa: F811
    for label in ("cat", "dog"):
        for case in range(6):
            put(root.parent / f"own/{label}/case{case}.nii.gz", packed(case + 100 * (label == "dog")))
    call("mine", str(root.parent / "own"))
    assert params("mine")["fetch"]["patients"] is None and params("mine")["split"]["protocol"] == "by_patient"
    assert len(fetched("mine", monkeypatch)) == 0


def test_brats_with_its_grades_as_classes_and_one_sequence(root, monkeypatch):  # noqa: F811
    for grade in ("HGG", "LGG"):
        for case in range(6):
            for kind in ("flair", "seg", "t1", "t1ce", "t2"):
                name = f"MICCAI_BraTS/{grade}/BraTS19_{grade}_{case}/BraTS19_{grade}_{case}_{kind}.nii.gz"
                put(root.parent / "own" / name, packed(case + 100 * (grade == "HGG")))
    line = ["--files", r".*_t1ce\.nii(\.gz)?", "--patients", r"(?P<patient>[^/]+)/.*"]
    call("mine", str(root.parent / "own/MICCAI_BraTS"), *line)
    table = fetched("mine", monkeypatch)
    assert len(table) == 12 and table["patient"].nunique() == 12 and table["path"].str.endswith("t1ce.nii.gz").all()


def test_nnunet_with_its_data_sets_as_classes_and_one_channel(root, monkeypatch, capsys):  # noqa: F811
    for number, name in ((1, "Glioma"), (2, "Meningioma")):
        top = root.parent / f"own/Dataset{number:03d}_{name}"
        put(top / "dataset.json", b"{}")
        for case in range(6):
            for channel in range(2):
                put(
                    top / f"images{'Tr' if case < 4 else 'Ts'}/{name}_{case:03d}_{channel:04d}.nii.gz",
                    packed(case + 100 * number),
                )
            put(top / f"labelsTr/{name}_{case:03d}.nii.gz", PACKED)
    call(
        "mine",
        str(root.parent / "own"),
        "--files",
        r"images.*_0000\.nii\.gz",
        "--patients",
        r".*/(?P<patient>.*)_\d{4}\.nii\.gz",
    )
    assert params("mine")["classes"] == ["Dataset001_Glioma", "Dataset002_Meningioma"]
    assert "Left out by fetch.scans: 26 not named as fetch.scans.files says." in capsys.readouterr().out
    assert fetched("mine", monkeypatch)["patient"].nunique() == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--files", "("], "--files '(': it is no regular expression"),
        (["--files", "nothing"], "no file in cat; every class of `classes` needs files"),
    ],
)
def test_a_pattern_for_files_that_is_none_or_matches_nothing_is_one_line(root, words, said):  # noqa: F811
    assert said in refusal("mine", str(discs(root.parent / "own")), *words)


def test_a_class_of_reports_alone_has_no_file(root):  # noqa: F811
    source = discs(root.parent / "own")
    for path in (source / "dog").rglob("[0-9]"):
        path.write_bytes(dicom(GREY, Modality="SR"))
    assert "no file in dog" in refusal("mine", str(source))


def test_numbers_of_patients_cannot_be_found_without_the_files():
    here, there = (numbers({"a": "17", "b": "18"}, heads) for heads in ([b"1", b"2"], [b"1", b"3"]))
    assert here == numbers({"b": "18", "a": "17"}, [b"2", b"1"]) and not set(here.values()) & set(there.values())
