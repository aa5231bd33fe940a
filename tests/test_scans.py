"""DICOM series and NIfTI volumes from `new-study` to the confusion matrix: the arrays of the same pictures as PNG."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, STAGES, run_stage, set_params
from planted import NEEDLES, plant
from scans import CLASSES, FORMS, HEADS, SLICES, heads

CHANGES = {"epochs": 1, "image_size": 32, "batch_size": 8, "verify.volumes.every": 2, "train.trail_checkpoints": 0}
FIRST, LATER = (
    ["fetch", "verify", "prepare"],
    [stage for stage in STAGES if stage not in ("fetch", "verify", "prepare")],
)
PICTURES = len(CLASSES) * SLICES * sum(HEADS.values())


class Made(NamedTuple):
    """A study, and all that was said on the way to it."""

    study: Path
    images: Path
    said: list[str]

    def run(self, *stages: str) -> None:
        for stage in stages:
            done = run_stage(stage, self.study, BRAINMRI_CACHE=str(self.images.parent / "cache"))
            assert done.returncode == 0, f"{stage}: {done.stderr}"
            self.said.extend((done.stdout, done.stderr))

    def command(self, *words: str, where: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "commands", *words],
            cwd=where or self.study,
            text=True,
            capture_output=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_CACHE": str(self.images.parent / "cache")},
        )
        self.said.extend((done.stdout, done.stderr))
        return done

    def manifest(self) -> pd.DataFrame:
        return pd.read_csv(self.study / "data/manifest.csv", keep_default_na=False, dtype={"frame": str})


def clone(folder: Path) -> Path:
    """Make something like a clone, in which new-study can stand."""
    (folder / "stages/fetch").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "versions.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc")
    return folder


def made(top: Path, name: str, *words: str, source: Path | None = None) -> Made:
    """Make a study from the images in `top`/`name`, small enough for its stages to take seconds."""
    found = Made(top / "clone/studies" / name, source or top / name, [])
    done = found.command("new-study", name, str(found.images), *words, where=top / "clone")
    assert done.returncode == 0, done.stderr
    set_params(found.study, **CHANGES)
    return found


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The three studies, run up to the prepared arrays. The DICOM one has a name in every text element."""
    top = tmp_path_factory.mktemp("scans")
    clone(top / "clone")
    for name, write in FORMS.items():
        assert write(top / name) == PICTURES
    plant(top / "dicom")
    words = {"png": ["--files", r".*\.png"]}
    found = {name: made(top, name, *words.get(name, [])) for name in FORMS}
    for each in found.values():
        each.run(*FIRST)
    return found


def test_series_and_volumes_give_the_prepared_arrays_of_the_same_pictures_as_png(studies):
    for array in ("train", "val", "test"):
        png, *others = (
            (studies[name].study / f"data/prepared/{array}.npy").read_bytes() for name in ("png", "dicom", "nifti")
        )
        assert others == [png, png]
        assert len(np.load(studies["png"].study / f"data/prepared/{array}.npy")) > 0
    png, *others = (studies[name].manifest()["pixel_sha256"].tolist() for name in ("png", "dicom", "nifti"))
    assert others == [png, png] and len(set(png)) == PICTURES


def test_slices_of_a_series_stand_by_position_and_not_by_name(studies):
    manifest = studies["dicom"].manifest()
    names = manifest["path"].str.rpartition("/")[2].tolist()
    assert names == [f"IM{(z * 7 + 3) % 10:04d}" for z in range(SLICES)] * (PICTURES // SLICES)
    assert "frame" not in manifest and set(manifest["format"]) == {"DICOM"}


def test_a_volume_has_a_row_for_each_slice_that_is_used_and_is_a_patient(studies):
    manifest = studies["nifti"].manifest()
    assert len(manifest) == PICTURES and manifest["sha256"].nunique() == PICTURES // SLICES
    assert manifest["frame"].tolist() == ["1", "3", "5", "7"] * (PICTURES // SLICES)
    files = manifest["path"].str.partition("#")[0]
    assert (manifest["path"] == files + "#" + manifest["frame"]).all() and (manifest["patient"] == files).all()
    index = pd.read_csv(studies["nifti"].study / "data/prepared/index.csv")
    assert "frame" in index and index["path"].tolist()[0] in set(manifest["path"])


def test_what_is_no_picture_of_a_head_is_counted_and_left_out(studies):
    number = len(list(heads()))
    said = "\n".join(studies["dicom"].said)
    for what in ("localisers", "secondary captures", "of another modality", "reports and others without a picture"):
        assert said.count(f"{number} {what}") == 2, what  # new-study's and fetch's
    assert f"{number} DICOM files say that text is burnt into their pixels" in said
    raw = studies["dicom"].study / "data/raw"
    assert sum(path.is_file() for path in raw.rglob("*")) == PICTURES and not list(raw.rglob("DICOMDIR"))


def test_a_patient_is_a_number_that_says_nothing_and_is_the_same_in_all_of_a_patients_files(studies):
    manifest = studies["dicom"].manifest()
    folders = manifest["path"].str.split("/").str[1:3].str.join("/")
    assert manifest.groupby(folders)["patient"].nunique().eq(1).all()
    assert (
        manifest["patient"].nunique() == len(list(heads())) and manifest["patient"].str.fullmatch("[0-9a-f]{16}").all()
    )


@pytest.fixture(scope="module")
def whole(studies) -> Made:
    """The DICOM study, run to its end."""
    studies["dicom"].run(*LATER)
    return studies["dicom"]


def test_a_series_goes_through_every_stage_to_the_confusion_matrix_and_predict(whole):
    expected = len(CLASSES) * SLICES * HEADS["Testing"]
    assert len(pd.read_csv(whole.study / "plots/confusion.csv")) == expected
    assert len(pd.read_csv(whole.study / "data/predictions.csv")) == expected
    assert b"IM0003" in (whole.study / "report/index.html").read_bytes()
    series = whole.images / "Testing/glioma" / f"disc{sum(HEADS.values()) - 1}"
    done = whole.command("predict", str(series / "series"), "--csv")
    assert done.returncode == 0 and done.stdout.count("\n") == SLICES + 1, done.stderr
    told = pd.read_csv(whole.study / "data/predictions.csv")
    for line in done.stdout.splitlines()[1:]:
        name = line.split(",")[0].removeprefix(f"{whole.images}/")
        row = told[told["path"] == name].iloc[0]
        assert [float(each) for each in line.split(",")[3:5]] == row[["p_glioma", "p_meningioma"]].tolist()


def test_no_text_of_a_header_reaches_an_output_a_log_a_report_or_the_console(whole):
    damaged = whole.images.parent / "damaged"
    damaged.mkdir()
    for number, path in enumerate(sorted(whole.images.rglob("IM0003"))[:4]):
        (damaged / f"{number}.dcm").write_bytes(path.read_bytes()[: -100 * 7**number])
    whole.command("predict", str(whole.images / "Testing"), str(damaged))
    files = [path for path in whole.study.rglob("*") if path.is_file() and "data/raw" not in path.as_posix()]
    assert len(files) > 40 and any("logs" in path.parts for path in files)
    texts = {str(path): path.read_bytes() for path in files} | {"console": "\n".join(whole.said).encode()}
    raw = b"".join(path.read_bytes() for path in (whole.study / "data/raw").rglob("IM0003"))
    for needle in NEEDLES:
        assert needle in raw, f"{needle!r} was never planted"
        assert [name for name, text in texts.items() if needle in text] == [], needle


@pytest.mark.slow
def test_volumes_go_through_every_stage_to_the_confusion_matrix(studies):
    studies["nifti"].run(*LATER)
    predictions = pd.read_csv(studies["nifti"].study / "data/predictions.csv")
    assert len(predictions) == len(CLASSES) * SLICES * HEADS["Testing"] and "frame" in predictions
    volume = studies["nifti"].images / "Testing/glioma" / f"case{sum(HEADS.values()) - 1:02d}.nii.gz"
    done = studies["nifti"].command("predict", str(volume))
    assert done.returncode == 0 and "frame 7" in done.stdout
