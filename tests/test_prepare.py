"""From image files to uint8 arrays: the square, the split, and the same bytes however many processes."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_stage, set_params
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.prepare.arrays import CHUNK, write_arrays
from stages.prepare.image import head_box, pad, square
from stages.prepare.schema import Prepare, Split
from stages.prepare.split import COLUMNS, assign
from stages.shell.errors import InputError
from stages.verify.decode import decode_grey

AS_IT_IS = Prepare(crop=False, crop_threshold=0.1, max_pixels=10**6)
CLASSES = ["a", "b"]


def disc(height: int, width: int, row: int, column: int, radius: int, level: int = 200) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return np.where((rows - row) ** 2 + (columns - column) ** 2 <= radius**2, level, 0).astype(np.uint8)


# --- the square


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7), (64, 64), (65, 64), (500, 431)])
@pytest.mark.parametrize("crop", [True, False])
def test_any_shape_becomes_the_square_asked_for(shape: tuple[int, int], crop: bool):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = square(grey, 48, crop, 0.1)
    assert out.shape == (48, 48) and out.dtype == np.uint8


def test_proportions_are_kept_and_the_border_is_black():
    out = square(np.full((50, 100), 255, np.uint8), 64, False, 0.1)
    rows = np.flatnonzero(out.max(axis=1) > 127)
    assert (rows[0], rows[-1]) == (16, 47)
    assert (out[20:44] == 255).all() and (out[:14] == 0).all() and (out[50:] == 0).all()


def test_an_image_of_the_size_asked_for_is_not_touched():
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    assert (square(grey, 32, False, 0.1) == grey).all()


def test_the_crop_finds_the_head_and_passes_over_specks():
    grey = disc(200, 300, 90, 170, 60)
    grey[3, 5] = grey[195, 290] = grey[10, 250] = 255
    assert head_box(grey, 0.1) == (slice(31, 150), slice(111, 230))


def test_the_same_head_in_a_wider_border_gives_nearly_the_same_square():
    near, far = disc(140, 140, 70, 70, 60), disc(400, 300, 150, 120, 60)
    one, other = (square(grey, 32, True, 0.1).astype(int) for grey in (near, far))
    assert np.abs(one - other).mean() < 4


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_flat_image_is_kept_whole(level: int):
    flat = np.full((40, 40), level, np.uint8)
    assert (square(flat, 16, True, 0.1) == level).all()


def test_padding_centres_the_image():
    out = pad(np.ones((2, 5), np.uint8))
    assert out.shape == (5, 5) and out[1:3].all() and out.sum() == 10


# --- files of every kind, by the one decoder that prepare uses


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ramp() -> np.ndarray:
    return np.add.outer(np.arange(20) * 3, np.arange(30) * 6).astype(np.uint8)


def files() -> dict[str, bytes]:
    """The same picture, as files of different kinds."""
    grey = Image.fromarray(ramp())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    rgba = Image.merge("RGBA", [grey, grey, grey, Image.new("L", grey.size, 255)])
    sixteen = Image.fromarray(ramp().astype(np.uint16) * 257)
    return {
        "grey": encoded(grey),
        "rgb": encoded(grey.convert("RGB")),
        "rgba": encoded(rgba),
        "palette": encoded(grey.convert("P")),
        "bmp": encoded(grey, "BMP"),
        "turned": encoded(grey.transpose(Image.Transpose.ROTATE_90), exif=exif),
        "sixteen": encoded(sixteen),
    }


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "bmp", "turned"])
def test_the_same_picture_in_another_kind_of_file_has_the_same_pixels(kind: str):
    assert (decode_grey(files()[kind], 10**6) == ramp()).all()


def test_sixteen_bits_are_scaled_to_the_whole_range():
    out = decode_grey(files()["sixteen"], 10**6)
    span = ramp() / ramp().max() * 255
    assert out.min() == 0 and out.max() == 255 and np.abs(out - span).max() <= 1


def test_what_is_transparent_is_black():
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert (decode_grey(encoded(clear), 100) == 0).all()


# --- arrays


def study_of(folder: Path, count: int) -> dict[str, list[str]]:
    random = np.random.default_rng(0)
    names = [f"{number:03d}.png" for number in range(count)]
    for name in names:
        sides = random.integers(20, 60, 2)
        (folder / name).write_bytes(encoded(Image.fromarray(random.integers(0, 256, sides, dtype=np.uint8))))
    return {"train": names[: count // 2], "val": [], "test": names[count // 2 :]}


def test_arrays_are_the_same_bytes_for_any_number_of_processes(tmp_path: Path, monkeypatch):
    paths = study_of(tmp_path, 2 * CHUNK + 60)
    written = {}
    for workers in ("1", "3"):
        monkeypatch.setenv("BRAINMRI_WORKERS", workers)
        folder = tmp_path / workers
        write_arrays(folder, paths, tmp_path, 16, AS_IT_IS)
        written[workers] = {array: (folder / f"{array}.npy").read_bytes() for array in paths}
    assert written["1"] == written["3"]
    train = np.load(tmp_path / "1" / "train.npy", mmap_mode="r")
    assert train.shape == (CHUNK + 30, 16, 16) and train.dtype == np.uint8
    assert np.load(tmp_path / "1" / "val.npy").shape == (0, 16, 16)
    for row in (0, CHUNK, CHUNK + 29):
        grey = decode_grey((tmp_path / paths["train"][row]).read_bytes(), 10**6)
        assert (train[row] == square(grey, 16, False, 0.1)).all()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"no image", "not an image"),
        (encoded(Image.new("L", (2000, 600))), "max_pixels"),
        (encoded(Image.new("L", (9000, 2))), "too long and thin"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch, content, expected):
    monkeypatch.setenv("BRAINMRI_WORKERS", "1")
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=expected) as error:
        write_arrays(tmp_path / "out", {"train": ["bad.png"]}, tmp_path, 16, AS_IT_IS)
    assert "bad.png" in str(error.value) and "\n" not in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


# --- the split


@st.composite
def manifests(draw: st.DrawFn) -> pd.DataFrame:
    """Manifests of two classes with groups of copies, some of them across splits and even classes."""
    rows = []
    for split, least in (("Training", 25), ("Testing", 2)):
        for label in CLASSES:
            for number in range(draw(st.integers(least, least + 25))):
                group = draw(st.integers(0, 60))
                rows.append((f"{split}/{label}/{number:03d}.png", split, label, group))
    table = pd.DataFrame(rows, columns=["path", "split", "label", "group"])
    across = table.groupby("group")["split"].agg(set)
    table["twin_in_training"] = [int("Training" in across[group]) for group in table["group"]]
    table["twin_in_testing"] = [int("Testing" in across[group]) for group in table["group"]]
    kinds = st.sampled_from(["byte", "pixel", "copy", "mirrored"])
    table["twin_kind"] = [draw(kinds) if near else "none" for near in table["twin_in_training"]]
    table["patient"] = ""
    table["status"] = [draw(st.sampled_from(["ok", "ok", "ok", "cannot be decoded"])) for _ in rows]
    return table


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(manifests(), st.integers(0, 2**32 - 1), st.sampled_from(["published", "leak_free"]))
def test_validation_shares_no_group_with_training_and_leaves_the_test_set_alone(table, seed, protocol):
    try:
        index = assign(table, chosen(protocol, 0.25), seed, CLASSES)
    except InputError as error:
        assert "are left after the split" in str(error)
        return
    of = {array: index[index["array"] == array] for array in ("train", "val", "test")}
    assert not set(of["train"]["group"]) & set(of["val"]["group"])
    usable = table[table["status"] == "ok"]
    assert of["test"]["path"].tolist() == usable.loc[usable["split"] == "Testing", "path"].tolist()
    assert set(of["train"]["path"]) | set(of["val"]["path"]) <= set(usable.loc[usable["split"] == "Training", "path"])
    for part in of.values():
        assert part["row"].tolist() == list(range(len(part)))


def plain(count: int = 40, test: int = 4) -> pd.DataFrame:
    rows = [(f"Training/{label}/{n:03d}", "Training", label) for label in CLASSES for n in range(count)]
    rows += [(f"Testing/{label}/{n:03d}", "Testing", label) for label in CLASSES for n in range(test)]
    table = pd.DataFrame(rows, columns=["path", "split", "label"])
    return table.assign(
        group=range(len(rows)), patient="", status="ok", twin_kind="none", twin_in_training=0, twin_in_testing=0
    )


def published(fraction: float = 0.1) -> Split:
    return chosen("published", fraction)


def chosen(protocol: Literal["published", "leak_free"], fraction: float) -> Split:
    one = {"folds": {"0": ""}, "networks": "model.safetensors"}
    return Split(protocol=protocol, val_fraction=fraction, parts=5, unique=False, **one)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_each_class_gives_its_share_to_validation(fraction: float):
    table = pd.concat([plain(40), plain(80).query("label == 'b' and path > 'Training/b/039'")]).drop_duplicates("path")
    index = assign(table.assign(group=range(len(table))), published(fraction), 0, CLASSES)
    counts = index[index["array"] == "val"]["label"].value_counts()
    assert counts.to_dict() == {"a": round(40 * fraction), "b": round(80 * fraction)}


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    chosen = [set(assign(plain(), published(), seed, CLASSES).query("array == 'val'")["path"]) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_an_image_more_in_another_class_changes_nothing_in_this_one():
    def of_a(table: pd.DataFrame) -> set[str]:
        index = assign(table, published(), 0, CLASSES)
        return set(index[(index["array"] == "val") & (index["label"] == "a")]["path"])

    table = plain()
    assert of_a(table) == of_a(table[table["path"] != "Training/b/000"])


def test_leak_free_drops_the_groups_of_test_images_whole_and_no_other_training_image():
    table = plain()
    copies = {"Training/a/003": "Testing/a/001", "Training/b/007": "Testing/b/002"}
    chained = {"Training/a/005": "Testing/a/001"}  # a copy of 003, too far from the test image to be its direct copy
    table.loc[table["path"].isin(copies), "twin_in_testing"] = 1
    table.loc[table["path"].isin(copies.values()), ["twin_in_training", "twin_kind"]] = [1, "byte"]
    group = table.set_index("path")["group"]
    for train, test in {**copies, **chained}.items():
        table.loc[table["path"] == train, "group"] = group[test]
    index = assign(table, chosen("leak_free", 0.1), 0, CLASSES)
    assert set(table["path"]) - set(index["path"]) == {*copies, *chained}
    assert set(index["leaked"]) == {"none"}


def test_a_leaked_test_image_carries_the_kind_of_its_plainest_pair_with_training():
    table = plain()
    table.loc[table["path"] == "Testing/a/001", ["twin_in_training", "twin_kind"]] = [1, "mirrored"]
    table.loc[table["path"] == "Testing/b/002", ["twin_in_testing", "twin_kind"]] = [1, "none"]  # a copy in Testing
    table.loc[table["path"] == "Training/b/007", ["twin_in_training", "twin_kind"]] = [1, "byte"]
    index = assign(table, published(), 0, CLASSES).set_index("path")["leaked"]
    assert index[index != "none"].to_dict() == {"Testing/a/001": "mirrored"}


def test_a_class_without_training_or_validation_images_is_refused_by_name():
    with pytest.raises(InputError, match="no train images of class c are left"):
        assign(plain(), published(), 0, ["a", "b", "c"])
    with pytest.raises(InputError, match="no val images of class a, b are left"):
        assign(plain(4), published(), 0, CLASSES)
    table = plain()
    table.loc[(table["split"] == "Training") & (table["label"] == "b"), "status"] = "cannot be decoded"
    with pytest.raises(InputError, match="no train images of class b are left"):
        assign(table, published(), 0, CLASSES)


# --- the stage


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was verified: data/raw and data/manifest.csv."""
    study = tmp_path_factory.mktemp("prepare")
    shutil.copy(ROOT / "params.yaml", study)
    set_params(study, classes=CLASSES, image_size=32)
    table = plain(20)
    for number, path in enumerate(table["path"]):
        (study / "data/raw" / path).parent.mkdir(parents=True, exist_ok=True)
        (study / "data/raw" / path).write_bytes(encoded(Image.fromarray(disc(60, 50, 30, 25, 10 + number % 10))))
    table.to_csv(study / "data/manifest.csv", index=False)
    return study


def test_rows_of_the_index_are_rows_of_the_arrays(ready: Path):
    done = run_stage("prepare", ready, BRAINMRI_WORKERS="1")
    assert (done.returncode, done.stderr) == (0, "")
    index = pd.read_csv(ready / "data/prepared/index.csv")
    assert index.columns.tolist() == COLUMNS
    for array, rows in index.groupby("array"):
        images = np.load(ready / f"data/prepared/{array}.npy", mmap_mode="r")
        assert len(images) == len(rows)
        last = rows.iloc[-1]
        grey = decode_grey((ready / "data/raw" / last["path"]).read_bytes(), 10**6)
        assert (images[last["row"]] == square(grey, 32, True, 0.1)).all()


def test_a_full_disk_is_one_line_and_leaves_no_half_written_folder(ready: Path, tmp_path: Path):
    study = tmp_path / "study"
    shutil.copytree(ready, study)
    shutil.rmtree(study / "data/prepared", ignore_errors=True)
    limited = ("sh", "-c", 'ulimit -f 8; exec "$@"', "sh")  # blocks of 512 bytes a file may have
    done = run_stage("prepare", study, prefix=limited, BRAINMRI_WORKERS="1")
    assert done.returncode == 1
    assert done.stderr.startswith("prepare: cannot write") and done.stderr.count("\n") == 1
    assert sorted(path.name for path in (study / "data").iterdir()) == ["manifest.csv", "raw"]


def test_preparing_does_not_import_torch():
    code = "import stages.prepare.__main__, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


def given_validation() -> pd.DataFrame:
    """A study whose Validation has a copy of a training image and one of a test image."""
    table = plain()
    extra = table[table["split"] == "Training"].groupby("label").head(4).copy()
    extra = extra.assign(split="Validation", path=extra["path"].str.replace("Training", "Validation"))
    extra.iloc[0, extra.columns.get_loc("twin_in_training")] = 1
    extra.iloc[0, extra.columns.get_loc("twin_kind")] = "byte"
    extra.iloc[1, extra.columns.get_loc("twin_in_testing")] = 1
    extra.iloc[1, extra.columns.get_loc("group")] = table.loc[table["split"] == "Testing", "group"].iloc[0]
    return pd.concat([table, extra]).reset_index(drop=True)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_given_validation_set_is_all_of_val_and_none_is_drawn(seed: int, fraction: float):
    table = given_validation()
    index = assign(table, published(fraction), seed, CLASSES)
    for split, array in (("Training", "train"), ("Validation", "val"), ("Testing", "test")):
        assert index[index["array"] == array]["path"].tolist() == table[table["split"] == split]["path"].tolist()
    assert set(index.query("array == 'val'")["leaked"]) == {"none"}, "only test images are leaked"


def test_leak_free_drops_what_has_a_copy_in_testing_from_a_given_validation_set_too():
    table = given_validation()
    index = assign(table, chosen("leak_free", 0.1), 0, CLASSES)
    dropped = set(table.query("split == 'Validation'")["path"]) - set(index["path"])
    assert dropped == set(table.query("split == 'Validation' and twin_in_testing == 1")["path"]) and len(dropped) == 1
