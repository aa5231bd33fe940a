"""Where the tumour is in the square that the network sees, and whether heat lies there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY, run_stages, script, set_params

from stages.dialect import parse
from stages.fetch.phantom import PhantomParams, Planned, drawn, plan, tumour_box
from stages.prepare.image import head_box, square
from stages.prepare.schema import Prepare
from stages.report import boxes
from stages.report.boxes import Box
from stages.report.gradcam import SIDE
from stages.report.schema import Boxes
from stages.shell.errors import InputError

VALUES = parse((ROOT / "params.yaml").read_text())
CROP = Prepare.model_validate(VALUES["prepare"])
WHOLE = CROP.model_copy(update={"crop": False})
PHANTOM = PhantomParams.model_validate(VALUES["fetch"]["phantom"] | {"noise": 0.0})


def test_a_box_is_padded_and_resized_as_the_picture_is():
    wide = np.zeros((20, 40), np.uint8)
    # 10 rows of black above and below; 40 pixels become 80
    assert boxes.in_square(Box(0.25, 0.5, 0.5, 1), wide, 80, WHOLE) == Box(20, 40, 40, 60)
    assert boxes.in_square(Box(0.25, 0.5, 0.5, 1), wide.T, 80, WHOLE) == Box(30, 40, 40, 80)


def test_a_box_is_cut_as_the_picture_is_and_one_that_is_cut_away_is_none():
    grey = np.zeros((40, 40), np.uint8)
    grey[10:30, 20:40] = 200  # the head
    assert boxes.in_square(Box(0.5, 0.25, 0.75, 0.5), grey, 20, CROP) == Box(0, 0, 10, 10)
    assert boxes.in_square(Box(0.25, 0.25, 0.75, 0.5), grey, 20, CROP) == Box(0, 0, 10, 10)
    assert boxes.in_square(Box(0.0, 0.0, 0.4, 0.2), grey, 20, CROP) is None


@pytest.mark.parametrize("label", ["glioma", "meningioma", "pituitary"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_tumour_of_a_phantom_lies_in_its_box_in_the_square(label: str, mirrored: bool):
    none = PHANTOM.model_copy(update={"visibility": 1e-6})
    for number in range(6):
        file = Planned("Testing", label, number)
        box = tumour_box(file, 3, PHANTOM)
        grey, plain = drawn(file, 3, PHANTOM), drawn(file, 3, none)
        if mirrored:
            grey, plain, box = grey[:, ::-1], plain[:, ::-1], box._replace(left=1 - box.right, right=1 - box.left)
        found = boxes.in_square(Box(*box), np.ascontiguousarray(grey), 128, CROP)
        # where the tumour is drawn, everything else being the same
        changed = np.abs(grey.astype(int) - plain) > 30
        shown = np.where(changed, 255, 0).astype(np.uint8)
        rows, columns = np.nonzero(_as(shown, grey) > 100)
        assert found.top - 2 <= rows.min() and rows.max() <= found.bottom + 2
        assert found.left - 2 <= columns.min() and columns.max() <= found.right + 2
        assert boxes.share_in(_as(shown, grey) > 100, found) > 0.95


def _as(mask: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Return a mask [H, W] in the square that prepare makes of a picture."""
    return square(np.ascontiguousarray(mask[head_box(np.ascontiguousarray(grey), 0.1)]), 128, False, 0.1)


def test_heat_is_counted_by_the_part_of_each_pixel_that_lies_in_the_box():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2], heat[3, 3] = 3, 1
    assert boxes.share_in(heat, Box(2, 1, 3, 2)) == 0.75
    assert boxes.share_in(heat, Box(2.5, 1, 4, 4)) == pytest.approx((1.5 + 1) / 4)
    assert boxes.share_in(heat, Box(0, 0, 4, 4)) == 1 and boxes.share_in(heat * 0, Box(0, 0, 4, 4)) == 0
    assert boxes.coverage(Box(0.5, 1.25, 2, 3), 4).sum() == pytest.approx(1.5 * 1.75)


def test_the_hottest_point_is_the_middle_of_all_that_are_as_hot():
    heat = np.zeros((8, 8), np.float32)
    heat[2:4, 4:6] = 1
    assert boxes.hottest_in(heat, Box(4.5, 2.5, 5.5, 3.5))
    assert not boxes.hottest_in(heat, Box(0, 0, 4.5, 2.5))
    assert not boxes.hottest_in(heat * 0, Box(0, 0, 8, 8))


WHOLLY = Box(1, 2, 3, 4)


def test_a_box_of_no_image_is_one_line():
    assert boxes.of_images({"a/1.jpg": WHOLLY}, ["a/1.jpg", "a/2.jpg"]) == {"a/1.jpg": WHOLLY}
    with pytest.raises(
        InputError, match=r"has 1 paths that are no image, 'b' the first; expected <split>.* 'a/1.jpg'$"
    ):
        boxes.of_images({"a/1.jpg": WHOLLY, "b": WHOLLY}, ["a/1.jpg", "a/2.jpg"])


def test_twelve_pictures_are_chosen_classes_in_turn_whatever_the_order():
    table = pd.DataFrame([(f"{name}/{n}", name) for name in "abc" for n in range(20)], columns=["path", "label"])
    paths = table["path"].tolist()
    shown, found = boxes.chosen(table, paths, list("abc"), lambda _: WHOLLY)
    assert shown["label"].value_counts().to_dict() == {"a": 4, "b": 4, "c": 4}
    assert found == dict.fromkeys(shown["path"], WHOLLY)
    again, _ = boxes.chosen(table.sample(frac=1, random_state=0), paths, list("abc"), lambda _: WHOLLY)
    assert again["path"].tolist() == shown["path"].tolist()
    assert boxes.chosen(table, ["a/3", "c/1"], list("abc"), lambda _: WHOLLY)[0]["path"].tolist() == ["a/3", "c/1"]
    assert boxes.chosen(table, [], list("abc"), lambda _: WHOLLY)[0].empty
    cut_away = set(shown["path"][:3])
    others, _ = boxes.chosen(table, paths, list("abc"), lambda path: None if path in cut_away else WHOLLY)
    assert len(others) == 12 and not cut_away & set(others["path"]), "others are shown in their place"


def test_a_frame_is_drawn_at_the_box_and_nowhere_else():
    plain = np.full((64, 64), 90, np.uint8)
    found = boxes.framed(plain, Box(16, 32, 48, 64), 64)
    rows, columns = np.nonzero((found != 90).any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (SIDE // 2, SIDE - 1, SIDE // 4, 3 * SIDE // 4 - 1)
    assert (found[SIDE * 3 // 4, SIDE // 2] == 90).all()


GOOD = b"path,left,top,right,bottom,seen\na.jpg,0.1,0.2,0.3,0.4,yes\n"


def test_a_table_of_boxes_is_read():
    assert boxes.parsed(GOOD, "boxes.csv") == {"a.jpg": Box(0.1, 0.2, 0.3, 0.4)}
    assert boxes.read(None) == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"path,left,top,right\n", "no column 'bottom'"),
        (b"", "no column 'path'"),
        (b"path,left,top,right,bottom\na,0.5,0,0.5,1\n", "line 2: expected 0 <= left < right <= 1"),
        (b"path,left,top,right,bottom\na,0,0,12,9\n", "line 2: expected"),
        (b"path,left,top,right,bottom\na,nan,0,1,1\n", "line 2: expected"),
        (b"path,left,top,right,bottom\na,0,0,1\n", "no table of boxes"),
        (b"path,left,top,right,bottom\na,x,0,1,1\n", "no table of boxes"),
        (b"path,left,top,right,bottom\na,0,0,1,1\nb,0,0,1,1\na,0,0,1,1\n", "line 4: 'a' stands there twice"),
        (b"\xff\xfe", "no table of boxes"),
    ],
)
def test_a_table_that_is_none_is_one_line(data: bytes, said: str):
    with pytest.raises(InputError, match=r"^boxes\.csv") as raised:
        boxes.parsed(data, "boxes.csv")
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_another_table_than_the_pinned_one_is_refused(tmp_path: Path):
    (tmp_path / "boxes.csv").write_bytes(GOOD)
    pinned = Boxes(table="boxes.csv", sha256=hashlib.sha256(GOOD).hexdigest())
    assert boxes.read(pinned, tmp_path)
    with pytest.raises(InputError, match=r"report\.boxes\.sha256"):
        boxes.read(pinned.model_copy(update={"sha256": "0" * 64}), tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        boxes.read(pinned.model_copy(update={"table": "none.csv"}), tmp_path)


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, with a table of where its tumours are."""
    folder = tmp_path_factory.mktemp("boxes") / "study"
    shutil.copytree(tiny_study, folder, copy_function=os.link)
    values = parse((folder / "params.yaml").read_text())
    phantom = PhantomParams.model_validate(values["fetch"]["phantom"])
    rows = [(file.path(0), tumour_box(file, 0, phantom)) for file in plan(values["classes"], 0, phantom)]
    table = pd.DataFrame([(path, *box) for path, box in rows if box], columns=boxes.COLUMNS)
    table.to_csv(folder / "boxes.csv", index=False)
    return folder


def test_the_page_shows_twelve_pictures_with_the_box(study: Path):
    (study / "params.yaml").unlink()  # a link to another study's
    shutil.copy(ROOT / "params.yaml", study)
    digest = hashlib.sha256((study / "boxes.csv").read_bytes()).hexdigest()
    set_params(study, **(TINY | {"report.boxes": {"table": "boxes.csv", "sha256": digest}}))
    run_stages(["report"], study)
    html = (study / "report/index.html").read_text()
    section = html.partition("Does it look at the tumour?")[2].partition("</section>")[0]
    assert section.count("where the network looked") == 12 and "notumor/" not in section


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The script, run in this process; what it wrote."""
    module = script("tumour_look")
    monkeypatch.setattr(module.runtime, "exact", lambda *_: None)

    def run(study: Path, *words: str) -> dict[str, Any]:
        out = tmp_path / "out.json"
        monkeypatch.setattr(sys, "argv", ["look", str(study), "--out", str(out), "--untrained", "1", *words])
        module.main()
        return json.loads(out.read_text())

    return run


def test_the_bench_measures_what_the_generator_knows_by_class_and_by_each_fold_s_own_network(
    study: Path, tmp_path: Path, look: Callable[..., dict[str, Any]]
):
    found = look(study)
    classes = found["classes"]
    assert set(classes) == {"all", "glioma", "meningioma", "pituitary"}
    assert classes["all"]["images"] == sum(classes[name]["images"] for name in classes if name != "all") > 18
    for row in classes.values():
        assert 0.01 < row["chance"] < 0.6 and 0 <= row["heat_in_box"] <= 1
        assert 0 <= row["untrained_empty"] <= 1 and (row["untrained_heat_in_box"] is None) == (
            row["untrained_empty"] == 1
        )
    folds = tmp_path / "study"
    for fold in ("0", "1"):
        shutil.copytree(study / "data/prepared", folds / "data/prepared/folds" / fold, copy_function=os.link)
        (folds / "models/folds" / fold).mkdir(parents=True)
        os.link(study / "models/model.safetensors", folds / "models/folds" / fold / "model.safetensors")
    (folds / "data/raw").symlink_to(study / "data/raw")
    shutil.copy(study / "params.yaml", folds)
    table = pd.read_csv(study / "data/predictions.csv", keep_default_na=False)
    table.assign(fold=np.arange(len(table)) % 2).to_csv(folds / "data/predictions.csv", index=False)
    assert look(folds, "--boxes", str(study / "boxes.csv")) == found
