"""Files that are gone, cut or something else when a stage comes to read them: one line that names the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import DECLARED
from faulting import differing, listing, refused, stage_here

DATA = [(name, dep) for name, entry in DECLARED.items() for dep in entry["deps"] if not dep.startswith("${root}/")]


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def of_the_other_kind(path: Path) -> None:
    """Put a folder in a file's place, or a file in a folder's."""
    folder = path.is_dir()
    gone(path)
    path.write_bytes(b"no folder") if folder else path.mkdir()


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


@pytest.mark.fault("what a stage reads, gone or of another kind")
@pytest.mark.parametrize("way", [gone, pytest.param(of_the_other_kind, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "dep"), DATA)
def test_a_dependency_that_is_not_there_is_one_line_that_names_it(
    tiny_study: Path, tmp_path: Path, name: str, dep: str, way
):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    way(study / dep)
    before = listing(study)
    line = refused(stage_here(name, study), f"{name}: ", dep)
    assert len(line) < 500
    changed = differing(before, listing(study))
    assert changed == [], line


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
    line = refused(stage_here(name, study), f"{name}: ", path.name)
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
    line = refused(stage_here(name, study), f"{name}: ", path.name)
    assert differing(before, listing(study)) == [], line
