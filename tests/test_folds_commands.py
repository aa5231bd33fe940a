"""The commands on a cross-validation of two folds: asked, replayed, recorded, adopted as one study."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, copy_repository, dvc_environment, set_params
from PIL import Image
from test_replay import change, git

from commands import behind, locked, record, retrain, tables, versions
from commands.__main__ import main
from commands.predict import predictor
from commands.predict.model import Model
from commands.serve import study as page
from stages.backbone import network
from stages.backbone.inference import logits
from stages.dialect import parse, written
from stages.evaluate.calibration import probabilities
from stages.files import sha256_file, write_csv
from stages.report.gradcam import gradcam
from stages.shell.errors import InputError

PARTS = {"0": "/folds/0", "1": "/folds/1"}
FOLDS = {"split.folds": PARTS, "split.networks": "folds", "split.protocol": "by_patient", "split.parts": 2}
FEW = {"split.val_fraction": 0.2, "epochs": 2, "train.trail_steps": 2, "train.trail_checkpoints": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose study was run and committed. A test leaves it as it found it."""
    folder = copy_repository(tmp_path_factory.mktemp("two") / "clone", ("studies/", "metrics/", "plots/", "dvc.lock"))
    set_params(folder, **(TINY | FOLDS | FEW))
    git(folder, "init", "-q")
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True, env=dvc_environment())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    return folder


@pytest.fixture
def here(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(study)
    return study


@pytest.fixture(scope="module")
def model(study: Path) -> Model:
    return Model(study, "cpu")


def index(study: Path, fold: str) -> pd.DataFrame:
    return pd.read_csv(study / f"data/prepared{PARTS[fold]}/index.csv", keep_default_na=False)


def predicted(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "data/predictions.csv", keep_default_na=False, dtype={"fold": str})


def ask(study: Path, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[dict[str, str]]]:
    status = main(["predict", "--csv", "--study", str(study), *map(str, words)])
    return status, list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def networks(study: Path) -> list[tuple[Any, Any, float]]:
    known = json.loads((study / "models/predictor.json").read_text())["folds"]
    return [
        (*network.load(study / f"models{part}/model.safetensors"), known[fold]["temperature"])
        for fold, part in PARTS.items()
    ]


# --- predict and serve


def test_an_answer_is_the_mean_of_what_the_folds_networks_say_alone_and_among_others(study: Path, capsys):
    of_fold = index(study, "1").query("array == 'test'").iloc[[0, 5, -1]]
    images = np.load(study / "data/prepared/folds/1/test.npy")[of_fold["row"]]
    given = [
        probabilities(
            logits(one, images, mean=meta.mean, std=meta.std, batch_size=32, device=next(one.parameters()).device), warm
        )
        for one, meta, warm in networks(study)
    ]
    status, rows = ask(study, capsys, *(study / "data/raw" / path for path in of_fold["path"]))
    mean = (given[0] + given[1]) / 2
    found = np.array([[float(row[key]) for key in row if key.startswith("p_")] for row in rows])
    assert status == 0 and np.array_equal(found, mean) and not np.array_equal(given[0], given[1])
    assert ask(study, capsys, study / "data/raw" / of_fold["path"].iloc[1])[1] == [rows[1]]
    own = predicted(study).set_index("path").loc[of_fold["path"], [key for key in rows[0] if key.startswith("p_")]]
    assert np.array_equal(own.to_numpy(), given[1]), "the row of an image of the study is that of its own fold alone"


def test_in_training_is_what_any_fold_trained_on_and_copies_of_all_that_are_told(study: Path, model: Model, capsys):
    trained = [set(index(study, fold).query("array == 'train'")["path"]) for fold in PARTS]
    assert set(model.training) == trained[0] | trained[1] and len(model.training) == len(set(model.training))
    for mine, others in (trained, trained[::-1]):
        path = sorted(mine - others)[0]
        (row,) = ask(study, capsys, study / "data/raw" / path)[1]
        assert (row["copy_of"], row["copy_kind"]) != ("", "") and float(row["likeness"]) > 0.99


def test_an_image_is_unlike_where_it_is_so_to_at_least_one_fold(study: Path, model: Model, tmp_path: Path, capsys):
    known = json.loads((study / "models/predictor.json").read_text())["folds"].values()
    assert model.lowest == max(each["lowest_likeness"] for each in known)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert [row["unlike"] for row in ask(study, capsys, tmp_path)[1]] == ["1"]


def test_a_heat_map_is_the_mean_of_the_folds_maps(study: Path, model: Model):
    images, classes = np.load(study / "data/prepared/folds/0/test.npy")[:3], np.array([0, 1, 2])
    maps = [gradcam(one, images, classes, mean=meta.mean, std=meta.std) for one, meta, _ in networks(study)]
    found = model.heat(images, classes)
    assert found.dtype == np.float32 and found.max() <= 1 and not np.array_equal(maps[0], maps[1])
    assert np.array_equal(found, (maps[0] + maps[1]) / np.float32(2))


def test_the_page_says_how_many_networks_answer_and_has_examples(model: Model):
    found = page.about(model)
    assert found["networks"] == 2 and found["lowest"] == model.lowest and found["examples"]
    assert sorted(page.examples(model.study, tuple(model.folds))) == sorted(predicted(model.study)["path"])


def without_a_fold(known: dict[str, Any]) -> None:
    known["folds"].clear()


def another_batch(known: dict[str, Any]) -> None:
    known["folds"]["1"]["batch_size"] = 8


def a_path(known: dict[str, Any]) -> None:
    known["folds"]["../../elsewhere"] = known["folds"].pop("1")


def an_unknown_key(known: dict[str, Any]) -> None:
    known["folds"]["1"]["more"] = 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without_a_fold, "folds: Dictionary should have at least 1 item"),
        (another_batch, "its folds have other settings than each other"),
        (a_path, "String should match pattern"),
        (an_unknown_key, "folds.1.more: Extra inputs"),
        (lambda known: known.pop("folds"), "weights_sha256: Field required"),
    ],
)
def test_a_predictor_that_is_not_of_this_code_is_one_line(study: Path, tmp_path: Path, harm, said: str):
    known = json.loads((study / "models/predictor.json").read_text())
    harm(known)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/predictor.json").write_text(json.dumps(known))
    with pytest.raises(InputError, match="is not as this version of the code writes it") as error:
        predictor.read(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_weights_of_another_fold_are_refused(study: Path, capsys):
    one, other = (study / f"models{part}/model.safetensors" for part in PARTS.values())
    one.rename(study / "away")
    other.rename(one)
    try:
        assert main(["predict", "--study", str(study), str(study / "data/raw")]) == 1
    finally:
        one.rename(other)
        (study / "away").rename(one)
    assert "models/folds/0/model.safetensors is not the file that models/predictor.json" in capsys.readouterr().err


# --- what Git has of it


def test_shown_compared_and_recorded_a_cross_validation_is_one_study(here: Path, capsys):
    assert main(["show"]) == 0 and "with the code and settings that lie here" in capsys.readouterr().out
    assert main(["compare", "HEAD", "."]) == 0 and "0 images are classified differently" in capsys.readouterr().out
    assert "phantoms (the default study)" in tables.results(here)
    assert main(["record"]) == 0
    try:
        found = json.loads(record.PROVENANCE.read_text())
        assert {"train@0", "train@1"} <= set(found["outputs"]) and found["settings"]["threads"] == 2
        assert sorted(stage for each in found["environments"] for stage in each["stages"]) == sorted(found["outputs"])
    finally:
        record.PROVENANCE.unlink()


def test_no_part_of_a_folds_images_is_taken_for_code(here: Path):
    lock = locked.stages(here)
    assert set(record.code(lock["train@1"], lock)) >= {"./stages/train"}
    assert not any(path.startswith(("data/", "models/")) for path in record.code(lock["train@1"], lock))
    assert {dep["path"] for dep in locked.given(lock, "train@1")} == {
        "data/prepared/folds/1",
        "models/init.safetensors",
    }


def test_what_older_code_left_in_the_lock_file_is_passed_over_and_what_it_lacks_is_named(here: Path):
    text = Path("dvc.lock").read_text()
    lock = parse(text)
    try:
        left = {"train": lock["stages"]["train@0"], "train@7": lock["stages"]["train@1"]}
        Path("dvc.lock").write_text(written(lock | {"stages": left | lock["stages"]}))
        assert behind.changed(here) == [] and set(locked.trainings(locked.stages(here))) == {"train@0", "train@1"}
        assert main(["record"]) == 0
        assert "train" not in json.loads(record.PROVENANCE.read_text())["outputs"]
        record.PROVENANCE.unlink()
        before = {("train" if name == "train@0" else name): each for name, each in lock["stages"].items()}
        Path("dvc.lock").write_text(written(lock | {"stages": before}))
        assert behind.changed(here) == ["dvc.yaml: stage train@0"]
    finally:
        Path("dvc.lock").write_text(text)
        record.PROVENANCE.unlink(missing_ok=True)


def test_versions_lists_what_the_networks_load(here: Path):
    assert main(["versions"]) == 0
    assert "dvclive" in versions.packages(parse(Path("dvc.yaml").read_text())["stages"]["train"])
    assert git(here, "status", "--porcelain") == ""


# --- the trails


def run(folder: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "commands", *words]
    done = subprocess.run(command, cwd=folder, env=dvc_environment(), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_stretches_of_all_folds_are_trained_again_and_each_line_names_its_fold(study: Path):
    status, said = run(study, "replay", "--spot", "100", "--seed", "1")
    assert status == 0 and "what was checked is the same, bit for bit" in said, said
    steps = {fold: sorted(retrain.read_trail(study / retrain.files(part).trail)) for fold, part in PARTS.items()}
    lines = [f"fold {fold}, step {a} to {b}: same" for fold, of in steps.items() for a, b in pairwise(of)]
    assert [line for line in said.splitlines() if line.endswith(": same")] == lines
    assert "behind starting points fold 0: 0, " in said and "; fold 1: 0, " in said
    status, said = run(study, "replay", "--spot", "1", "--seed", "1", "--json")
    found, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    assert status == 0 and found["chance_missed"] == 3 / 4 and found["stretches"][0]["fold"] in PARTS


def test_a_row_that_is_made_up_is_found_and_its_fold_is_named(study: Path):
    path = study / "plots/folds/1/trail.csv"
    text, lock = path.read_bytes(), (study / "dvc.lock").read_text()
    rows = retrain.read_trail(path)
    rows[2]["optimizer"] = "0" * 64
    write_csv(path, pd.DataFrame(rows.values()))
    forged = lock.replace(md5(text), md5(path.read_bytes()))
    (study / "dvc.lock").write_text(forged.replace(f"size: {len(text)}\n", f"size: {len(path.read_bytes())}\n"))
    git(study, "commit", "-qam", "forged")
    try:
        status, said = run(study, "replay", "--spot", "4")
    finally:
        git(study, "reset", "-q", "--hard", "HEAD~1")
    assert status == 1 and "fold 1, step 0 to 2: DIFFERS" in said, said
    assert "the first differing step: fold 1, 2 (optimizer)" in said


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.mark.slow
def test_replayed_every_fold_is_trained_again_and_all_is_the_same(study: Path):
    status, said = run(study, "replay")
    assert status == 0 and "Running stage 'train@0'" in said and "Running stage 'train@1'" in said, said
    assert said.endswith("every output is the same, bit for bit\n")


@pytest.mark.slow
def test_a_comment_is_adopted_for_every_fold(study: Path):
    optimizer = (study / "stages/train/optimizer.py").read_text()
    change(study, "stages/train/optimizer.py", f"{optimizer}# a comment\n")
    try:
        status, said = run(study, "adopt", "--spot", "3")
        assert status == 0, said
        assert (
            "Running stage"
            not in subprocess.run(
                ["dvc", "repro"], cwd=study, check=True, env=dvc_environment(), capture_output=True, text=True
            ).stdout
        )
        entries = record.adopted(json.loads((study / record.PROVENANCE).read_text()), locked.stages(study))
        assert set(entries) == {"train@0", "train@1"}
        assert sum(len(entry["stretches"]) for entry in entries.values()) == 3
    finally:
        git(study, "reset", "-q", "--hard", "HEAD~1")
        (study / record.PROVENANCE).unlink(missing_ok=True)


# --- export


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ([], "export: this study is a cross-validation: say which network with --fold N, N being one of 0, 1"),
        (["--fold", "7"], "export: no fold 7 in this study: say which network with --fold N, N being one of 0, 1"),
    ],
)
def test_export_wants_to_know_which_network(study: Path, tmp_path: Path, capsys, asked: list[str], line: str):
    assert main(["export", "zip", str(tmp_path / "a.zip"), "--study", str(study), *asked]) == 1
    assert capsys.readouterr().err == f"brainmri: {line}\n" and list(tmp_path.iterdir()) == []


def test_the_zip_of_a_fold_answers_as_that_fold_was_scored(study: Path, tmp_path: Path, capsys):
    assert main(["export", "zip", str(tmp_path / "a.zip"), "--study", str(study), "--fold", "1"]) == 0
    path = index(study, "1").query("array == 'test'")["path"].iloc[0]
    capsys.readouterr()
    assert main(["predict", "--csv", "--model", str(tmp_path / "a.zip"), str(study / "data/raw" / path)]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    known = predicted(study).set_index("path").loc[path]
    assert all(float(row[key]) == known[key] for key in row if key.startswith("p_"))
    assert row["nearest"] in set(index(study, "1").query("array == 'train'")["path"])


def test_every_form_of_a_fold_has_its_weights_and_says_whose_they_are(study: Path, tmp_path: Path, capsys):
    pytest.importorskip("onnxruntime", reason="the extra `export`")
    hub = pytest.importorskip("huggingface_hub", reason="the extra `export`")
    for form in ("hub", "onnx", "torchvision"):
        assert main(["export", form, str(tmp_path / form), "--study", str(study), "--fold", "1"]) == 0
    weights = study / "models/folds/1/model.safetensors"
    assert (tmp_path / "hub/model.safetensors").read_bytes() == weights.read_bytes()
    assert json.loads((tmp_path / "hub/config.json").read_text())["fold"] == "1"
    card = hub.ModelCard.load(tmp_path / "hub/README.md").content
    assert "**The network of fold 1** of a cross-validation" in card and "folds/" not in card
    assert card.count("- sha256 of `model.safetensors`: `") == 1 and sha256_file(weights) in card
    assert "test images: " in capsys.readouterr().out, "ONNX is held against torch on the images that fold 1 tests"
