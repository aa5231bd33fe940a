"""`brainmri predict`: the pipeline's bits on any image, hints on odd ones and copies, one line for what is no image."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image

from commands.__main__ import main
from commands.predict import model
from stages.backbone.inference import logits

PHOTOS = Path(sklearn.__file__).parent / "datasets/images"


@pytest.fixture
def ask(tiny_study: Path, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs the command and returns its status, output and lines on the console's error side."""

    def run(*words: object, study: Path = tiny_study) -> tuple[int, str, list[str]]:
        status = main(["predict", *map(str, words), "--study", str(study)])
        found = capsys.readouterr()
        return status, found.out, [line for line in found.err.splitlines() if line.startswith("brainmri: ")]

    return run


@pytest.fixture(scope="module")
def committed(tiny_study: Path) -> pd.DataFrame:
    return pd.read_csv(tiny_study / "data/predictions.csv", keep_default_na=False)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_one_image_alone_has_the_probabilities_of_its_row_to_the_bit(ask, tiny_study, committed):
    for row in committed.iloc[[0, 7, -1]].to_dict("records"):
        status, text, _ = ask(tiny_study / "data/raw" / row["path"], "--json")
        (found,) = json.loads(text)["images"]
        assert status == 0 and found["predicted"] == row["predicted"]
        assert {f"p_{name}": value for name, value in found["probabilities"].items()} == {
            key: value for key, value in row.items() if key.startswith("p_")
        }


def test_a_folder_gives_the_whole_test_set_as_committed(ask, tiny_study, committed):
    status, text, _ = ask(tiny_study / "data/raw/Testing", "--csv")
    found = {row["path"].partition("data/raw/")[2]: row for row in rows(text)}
    assert status == 0 and sorted(found) == sorted(committed["path"])
    for row in committed.to_dict("records"):
        mine = found[row["path"]]
        given = [key for key in row if key.startswith("p_")]
        assert [float(mine[key]) for key in given] == [row[key] for key in given]
        assert mine["predicted"] == row["predicted"]
        if row["leaked"] == "byte":
            assert mine["copy_kind"] == "byte" and mine["copy_of"].startswith("Training/")


def test_other_formats_of_the_same_pixels_give_the_same_answer(ask, tiny_study, committed, tmp_path):
    with Image.open(tiny_study / "data/raw" / committed["path"][0]) as image:
        grey = image.convert("L")
    for name in ("a.png", "a.tiff", "a.bmp"):
        grey.save(tmp_path / name)
    _, text, _ = ask(tmp_path, "--csv")
    found = rows(text)
    assert len(found) == 3 and len({tuple(list(row.values())[2:7]) for row in found}) == 1


def test_what_is_no_image_has_its_own_line_and_all_others_are_predicted(ask, tiny_study, tmp_path):
    for number, path in enumerate(sorted((tiny_study / "data/raw/Testing").glob("*/*"))[:30]):
        shutil.copy(path, tmp_path / f"{number:02d}{path.suffix}")
    (tmp_path / "05-notes.txt").write_text("not an image")
    (tmp_path / "11-cut.jpg").write_bytes(next(tmp_path.glob("00.*")).read_bytes()[:300])
    (tmp_path / ".hidden").write_text("left out")
    status, text, errors = ask(tmp_path, tmp_path / "nowhere.png", "--csv")
    assert status == 1 and len(rows(text)) == 30
    assert [line.split(": ")[1].rpartition("/")[2] for line in errors[:3]] == [
        "05-notes.txt",
        "11-cut.jpg",
        "nowhere.png",
    ]
    assert "not an image in a known format" in errors[0] and "no such file" in errors[2]
    assert errors[3:] == ["brainmri: 3 of 33 files could not be read (named above)"]


def test_files_that_are_no_images_cost_no_forward_passes(ask, tiny_study, tmp_path, monkeypatch):
    for number, path in enumerate(sorted((tiny_study / "data/raw/Testing").glob("*/*"))[:12]):
        shutil.copy(path, tmp_path / f"{number:02d}{path.suffix}")
        (tmp_path / f"{number:02d}.json").write_text("{}")
    passes = []
    monkeypatch.setattr(
        model, "logits", lambda *args, **options: passes.append(len(args[1])) or logits(*args, **options)
    )
    _, text, errors = ask(tmp_path, "--csv")
    assert passes == [12] and len(rows(text)) == 12 and len(errors) == 13


def test_each_page_of_a_tiff_has_its_own_answer(ask, tiny_study, committed, tmp_path):
    paths = committed["path"][:3]
    first, *others = (Image.open(tiny_study / "data/raw" / path).convert("L") for path in paths)
    first.save(tmp_path / "many.tiff", save_all=True, append_images=others)
    _, text, _ = ask(tmp_path / "many.tiff", "--csv")
    given = [key for key in committed if key.startswith("p_")]
    assert [row["frame"] for row in rows(text)] == ["1", "2", "3"]
    assert [[float(row[key]) for key in given] for row in rows(text)] == committed[given][:3].to_numpy().tolist()


def test_a_photograph_is_called_unlike_and_few_clean_test_images_are(ask, tiny_study, committed):
    _, text, _ = ask(PHOTOS / "china.jpg", PHOTOS / "flower.jpg", "--json")
    assert [found["unlike"] for found in json.loads(text)["images"]] == [True, True]
    _, text, _ = ask(tiny_study / "data/raw/Testing", "--csv")
    clean = set(committed.loc[committed["leaked"] == "none", "path"])
    flags = [int(row["unlike"]) for row in rows(text) if row["path"].partition("data/raw/")[2] in clean]
    assert flags and np.mean(flags) < 0.3
    _, text, _ = ask(PHOTOS / "china.jpg")
    assert "[unlike the training images:" in text


def test_a_copy_of_a_training_image_is_named_however_it_lies(ask, tiny_study, tmp_path):
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    paths = index.loc[index["array"] == "train", "path"].tolist()[::9]
    ways = {"copy": lambda a: a, "mirrored": lambda a: a[:, ::-1], "rotated": lambda a: a.T}
    expected = {}
    for number, path in enumerate(paths):
        with Image.open(tiny_study / "data/raw" / path) as image:
            grey = np.asarray(image.convert("L"))
        kind = list(ways)[number % 3]
        name = f"{number}.jpg"
        Image.fromarray(np.ascontiguousarray(ways[kind](grey))).save(tmp_path / name, quality=60)
        expected[name] = (path, kind)
    _, text, _ = ask(tmp_path, "--csv")
    assert {Path(row["path"]).name: (row["copy_of"], row["copy_kind"]) for row in rows(text)} == expected


def test_gradcam_writes_a_picture_for_each_image_where_it_was(ask, tiny_study, tmp_path):
    folder = tiny_study / "data/raw/Testing"
    status, _, _ = ask(folder, "--gradcam", tmp_path / "maps")
    written = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")}
    assert status == 0 and written == {f"{p.relative_to(folder).as_posix()}.png" for p in folder.rglob("*.*")}


def test_two_files_of_one_name_have_two_pictures(ask, tiny_study, committed, tmp_path):
    for number, path in enumerate(committed["path"][:3]):
        (tmp_path / str(number)).mkdir()
        shutil.copy(tiny_study / "data/raw" / path, tmp_path / str(number) / "a.png")
    ask(*(tmp_path / str(number) / "a.png" for number in range(3)), "--gradcam", tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a-2.png.png", "a-3.png.png", "a.png.png"]


def test_a_study_that_was_not_run_or_does_not_belong_together_is_one_line(ask, tiny_study, tmp_path):
    status, _, errors = ask("a.png", study=tmp_path)
    assert status == 1 and len(errors) == 1 and "dvc repro" in errors[0]
    other = tmp_path / "other"
    shutil.copytree(tiny_study, other)
    about = json.loads((other / "models/predictor.json").read_text())
    (other / "models/predictor.json").write_text(json.dumps(about | {"weights_sha256": "0" * 64}))
    status, _, errors = ask("a.png", study=other)
    assert status == 1 and "is not the file that" in errors[0]
    (other / "models/predictor.json").write_text("{")
    assert "is not JSON" in ask("a.png", study=other)[2][0]
    (other / "data/descriptors.npy").unlink()
    (other / "models/predictor.json").write_text(json.dumps(about))
    assert "descriptors.npy not found" in ask("a.png", study=other)[2][0]


def test_an_empty_folder_is_one_line(ask, tmp_path):
    status, _, errors = ask(tmp_path)
    assert status == 1 and "no file in" in errors[0]


def test_it_says_that_it_is_no_medical_device(tiny_study, committed, capsys):
    main(["predict", str(tiny_study / "data/raw" / committed["path"][0]), "--study", str(tiny_study)])
    assert "Not a medical device" in capsys.readouterr().err
