"""Files that are gone, cut or something else when a stage comes to read them: one line that names the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from faulting import differing, listing, refused, stage


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


WAYS = [
    pytest.param(way, id=way.__name__, marks=pytest.mark.slow if way in (emptied, a_dead_link) else ())
    for way in (gone, emptied, cut, a_folder, a_dead_link)
]


def image_of(study: Path, array: str) -> Path:
    index = pd.read_csv(study / "data/prepared/index.csv", keep_default_na=False)
    return study / "data/raw" / str(index.loc[index["array"] == array, "path"].iloc[-1])


@pytest.mark.fault("an image that vanishes or changes between two stages")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "array"), [("verify", "train"), ("prepare", "train"), ("prepare", "test")])
def test_an_image_that_is_not_as_it_was_stops_the_stage(tiny_study: Path, tmp_path: Path, name: str, array: str, way):
    if (name, way) == ("verify", gone):
        pytest.skip("verify lists the files itself; DVC sees that data/raw has changed")
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    path = image_of(study, array)
    way(path)
    before = listing(study)
    line = refused(stage(name, study), f"{name}: ", path.name)
    assert differing(before, listing(study)) == [], line


@pytest.mark.fault("an image that vanishes or changes between two stages")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["evaluate", "report"])
def test_a_test_image_that_is_not_as_it_was_stops_the_stages_that_show_it(tiny_study: Path, tmp_path: Path, name, way):
    if (name, way) == ("evaluate", cut):
        pytest.skip("evaluate reads an image's head only; DVC sees that data/raw has changed")
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    # the report shows the first images of each class, and only those
    path = sorted((study / "data/raw/Training/glioma").iterdir())[0] if name == "report" else image_of(study, "test")
    way(path)
    before = listing(study)
    line = refused(stage(name, study), f"{name}: ", path.name)
    assert differing(before, listing(study)) == [], line
