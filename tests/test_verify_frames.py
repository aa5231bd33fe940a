"""Files of several pictures in verify and prepare: a row each, by position; addresses that later stages find."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from copying import VERIFY, encoded, params, phantom
from PIL import Image
from scans import dicom
from test_predict_dicom import made

from stages.shell.errors import InputError
from stages.verify import picture
from stages.verify.decode import DecodeError
from stages.verify.schema import Volumes
from stages.verify.study import Examined, examine_study

pydicom = pytest.importorskip("pydicom")

HEADS = np.stack([np.asarray(Image.fromarray(phantom(5, number)).resize((96, 96))) for number in range(4)])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two classes and two splits, with a few plain images each."""
    folder = tmp_path / "data/raw"
    for at, place in enumerate(f"{split}/{label}" for split in ("Training", "Testing") for label in ("a", "b")):
        (folder / place).mkdir(parents=True)
        for number in range(2):
            (folder / place / f"{number}.png").write_bytes(encoded(phantom(11, 10 * at + number)))
    return folder


def rows(found: Examined, start: str) -> list[tuple[str, str]]:
    chosen = found.manifest[found.manifest["path"].str.startswith(start)]
    return list(zip(chosen["path"], chosen["frame"], strict=True))


def examined(raw: Path, **volumes: object) -> Examined:
    settings = VERIFY.model_copy(update={"volumes": Volumes.model_validate(volumes)})
    return examine_study(raw, params().model_copy(update={"verify": settings}), 1)


def enhanced(positions: list[float]) -> bytes:
    """Return frames in one file, each at a place of its own along the stack."""
    groups = []
    for z in positions:
        group, place = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [0, 0, z]
        group.PlanePositionSequence = [place]
        groups.append(group)
    shared, lying = pydicom.Dataset(), pydicom.Dataset()
    lying.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = [lying]
    return made(HEADS, PerFrameFunctionalGroupsSequence=groups, SharedFunctionalGroupsSequence=[shared])


def test_frames_of_one_file_are_rows_in_order_of_position_and_read_back_by_their_addresses(raw):
    (raw / "Training/a/many").write_bytes(enhanced([30, 0, 20, 10]))
    found = examine_study(raw, params(), 1)
    assert rows(found, "Training/a/many") == [(f"Training/a/many#{at}", f"{at}") for at in (2, 4, 3, 1)]
    plain = found.manifest[~found.manifest["path"].str.contains("#")]
    assert (plain["frame"] == "").all() and len(plain) == 8
    assert found.descriptors[[4, 5, 6, 7]].any(axis=(1, 2)).all() and len(found.descriptors) == 12
    several = found.manifest[found.manifest["frame"] != ""]
    for path, digest in zip(several["path"], several["pixel_sha256"], strict=True):
        grey = picture.read(raw, path, 10**6).grey
        assert np.array_equal(grey, HEADS[int(path[-1]) - 1]), path
        assert found.manifest.loc[found.manifest["path"] == path, "pixel_sha256"].item() == digest
    assert (several["patient"] == "Training/a/many").all() and several["sha256"].nunique() == 1


def test_files_of_one_picture_have_no_column_for_frames(raw):
    (raw / "Training/a/one").write_bytes(dicom(HEADS[0]))
    assert "frame" not in examine_study(raw, params(), 1).manifest


def test_a_copy_of_a_frame_is_a_twin_of_that_frame_and_frames_of_equal_files_are_by_bytes(raw):
    (raw / "Training/a/many").write_bytes(enhanced([0, 1, 2, 3]))
    (raw / "Testing/a/again").write_bytes(enhanced([0, 1, 2, 3]))
    (raw / "Testing/a/third.png").write_bytes(encoded(HEADS[2]))
    table = examine_study(raw, params(), 1).manifest.set_index("path")
    assert table.loc["Testing/a/third.png", "twin_of"] == "Training/a/many#3"
    assert table.loc["Testing/a/third.png", "twin_kind"] == "pixel"
    for at in range(1, 5):
        assert table.loc[f"Testing/a/again#{at}", ["twin_kind", "twin_of"]].tolist() == [
            "byte",
            f"Training/a/many#{at}",
        ]


def test_pages_of_a_tiff_are_rows(raw):
    pages = [Image.fromarray(head) for head in HEADS]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    (raw / "Testing/b/pages.tif").write_bytes(file.getvalue())
    found = examine_study(raw, params(), 1)
    assert rows(found, "Testing/b/pages") == [(f"Testing/b/pages.tif#{at}", f"{at}") for at in range(1, 5)]
    assert np.array_equal(picture.read(raw, "Testing/b/pages.tif#3", 10**6).grey, HEADS[2])


def test_slices_are_chosen_by_axis_step_and_foreground_and_found_again(raw):
    voxels = np.zeros((20, 24, 10), np.int16)
    voxels[4:16, 4:20, 2:9] = np.random.default_rng(0).integers(100, 900, (12, 16, 7))
    (raw / "Training/b/v.nii.gz").write_bytes(
        gzip.compress(nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1])).to_bytes())
    )
    assert [frame for _, frame in rows(examined(raw), "Training/b/v")] == ["3", "4", "5", "6", "7", "8", "9"]
    assert [frame for _, frame in rows(examined(raw, every=3), "Training/b/v")] == ["4", "7"]
    found = examined(raw, axis="sagittal", every=5, foreground=0.2)
    assert [frame for _, frame in rows(found, "Training/b/v")] == ["sagittal6", "sagittal11", "sagittal16"]
    grey = picture.read(raw, "Training/b/v.nii.gz#sagittal6", 10**6).grey
    assert grey.shape == (30, 24) and examined(raw, foreground=0).manifest["frame"].ne("").sum() == 10
    with pytest.raises(InputError, match=r"v\.nii\.gz: none of its 10 slices has 0\.99 of foreground"):
        examined(raw, foreground=0.99)


def test_a_file_that_is_called_as_anothers_frame_is_refused(raw):
    (raw / "Training/a/many").write_bytes(enhanced([0, 1, 2, 3]))
    (raw / "Training/a/many#2").write_bytes(dicom(HEADS[0]))
    with pytest.raises(InputError, match="many#2 is both a file and a picture in another"):
        examine_study(raw, params(), 1)


def test_a_file_with_a_hash_in_its_name_is_that_file(raw):
    (raw / "Training/a/x#2").write_bytes(dicom(HEADS[1]))
    assert np.array_equal(picture.read(raw, "Training/a/x#2", 10**6).grey, HEADS[1])
    assert "frame" not in examine_study(raw, params(), 1).manifest


def test_a_frame_that_is_not_there_is_said(raw):
    (raw / "Training/a/many").write_bytes(enhanced([0, 1, 2, 3]))
    with pytest.raises(DecodeError, match="no picture number 9"):
        picture.read(raw, "Training/a/many#9", 10**6)
    places = [f"Training/a/many#{at}" for at in (4, 1, 4)]
    read = picture.read_all(raw, places, 10**6)
    assert [np.array_equal(one.grey, two) for one, two in zip(read, HEADS[[3, 0, 3]], strict=True)] == [True] * 3


def test_a_file_that_takes_too_long_is_named(raw, monkeypatch):
    from stages.verify import scan

    monkeypatch.setattr(scan, "SECONDS", 0.05)
    monkeypatch.setattr(scan, "describe", lambda _: __import__("time").sleep(5))
    with pytest.raises(InputError, match=r"8 files cannot be used.*takes more than 0\.05 s to decode"):
        examine_study(raw, params(), 1)
