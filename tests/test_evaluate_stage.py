"""The stage as DVC runs it, on a network with random weights and images of noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, run_stage, set_params
from PIL import Image
from sklearn.metrics import accuracy_score

from stages.backbone import network
from stages.files import read_figures
from stages.params import Group, load

CLASSES = ["glioma", "1", "NA"]  # names that a careless reader takes for numbers or nothing
EVALUATE = {"batch_size": 4, "mirror": False, "temperature_scaling": True, "bootstrap": 20, "bins": 5, "apart": []}
OUTPUTS = ["data/predictions.csv", "metrics/test.json", "metrics/sensitivity.json", "metrics/scores.csv"]


def study(folder: Path, classes: list[str] = CLASSES, test: int = 10, leaked: str = "byte") -> Path:
    """Make what the stage reads."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    (folder / "data/prepared").mkdir(parents=True)
    (folder / "models/curves").mkdir(parents=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(folder, evaluate=EVALUATE, classes=classes)
    rows = []
    for array, n in (("train", 6), ("val", 6), ("test", test)):
        np.save(folder / f"data/prepared/{array}.npy", random.integers(0, 256, (n, 32, 32), np.uint8))
        for row in range(n):
            label = classes[row % len(classes)]
            kind = leaked if array == "test" and row % 3 == 0 else "none"
            path = f"{array}/{label}/{row}.png"
            rows.append((array, row, path, label, row, kind))
            (folder / "data/raw" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (20, 20 + row), np.uint8)).save(folder / "data/raw" / path)
    columns = ["array", "row", "path", "label", "group", "leaked"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "data/prepared/index.csv", index=False)
    listed = pd.DataFrame({"path": [row[2] for row in rows], "format": "PNG", "width": 1, "height": 1})
    listed.to_csv(folder / "data/manifest.csv", index=False)
    np.save(folder / "data/descriptors.npy", random.integers(-50, 51, (len(rows), 3, 256), np.int8))
    meta = network.Meta(classes, 32, 0.2, 0.2)
    network.save(folder / "models/model.safetensors", network.build(len(classes)), meta)
    history = {"epoch": [0], "lr": [0.1], "train_loss": [1.0], "val_loss": [1.0], "val_accuracy": [0.5]}
    pd.DataFrame(history).to_csv(folder / "models/curves/history.csv", index=False)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    files = [folder / name for name in OUTPUTS] + sorted((folder / "plots").iterdir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = study(tmp_path_factory.mktemp("evaluate") / "study")
    ran = run_stage("evaluate", folder)
    assert ran.returncode == 0, ran.stderr
    return folder, ran


def test_stage_is_quiet_but_for_the_scores(done):
    _, ran = done
    assert ran.stderr == ""
    assert "accuracy" in ran.stdout and "confusion matrix" in ran.stdout


def test_second_run_elsewhere_writes_the_same_bytes(done, tmp_path):
    folder, _ = done
    again = study(tmp_path / "another name")
    assert run_stage("evaluate", again, PYTHONHASHSEED="7", TZ="Asia/Tokyo", LANG="tr_TR.UTF-8").returncode == 0
    assert written(again) == written(folder)


def test_scores_follow_from_the_predictions_alone(done):
    folder, _ = done
    table = pd.read_csv(folder / "data/predictions.csv", dtype={"label": str, "predicted": str}, keep_default_na=False)
    metrics = read_figures(folder / "metrics/scores.csv")
    clean = table[table["leaked"] == "none"]
    assert metrics["clean"]["n"] == len(clean) == 6
    assert metrics["clean"]["accuracy"] == round(accuracy_score(clean["label"], clean["predicted"]), 6)
    assert json.loads((folder / "metrics/sensitivity.json").read_text()) == metrics["all"]["sensitivity"]
    headline = json.loads((folder / "metrics/test.json").read_text())
    assert headline["accuracy"] == metrics["all"]["accuracy"] and headline["leaked"] == 4
    assert headline["clean_accuracy"] == metrics["clean"]["accuracy"]
    assert set(metrics["all"]["sensitivity"]) == set(CLASSES)
    assert 0.05 <= metrics["temperature"] <= 20


def test_parameters_change_what_they_say(done, tmp_path):
    folder, _ = done
    other = study(tmp_path / "other")
    changed = {"mirror": True, "temperature_scaling": False, "bootstrap": 0}
    set_params(other, **{f"evaluate.{key}": value for key, value in changed.items()})
    assert run_stage("evaluate", other).returncode == 0
    metrics = read_figures(other / "metrics/scores.csv")
    assert metrics["temperature"] == 1.0 and "auc_low" not in metrics["all"]
    assert written(other)["data/predictions.csv"] != written(folder)["data/predictions.csv"]


def test_patients_in_the_index_reach_predictions_scores_and_console(tmp_path):
    folder = study(tmp_path / "study", test=12)
    set_params(folder, **{"evaluate.apart": ["NA"]})
    path = folder / "data/prepared/index.csv"
    index = pd.read_csv(path, keep_default_na=False)
    index["patient"] = [f"00{row // 6}" if label != "NA" else "" for row, label in enumerate(index["label"])]
    index["patient_in_training"] = ["known" if patient else "unknown" for patient in index["patient"]]
    index.to_csv(path, index=False)
    ran = run_stage("evaluate", folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    predicted = pd.read_csv(folder / "data/predictions.csv", dtype=str, keep_default_na=False)
    assert predicted["patient"].tolist() == index.loc[index["array"] == "test", "patient"].tolist()
    metrics = read_figures(folder / "metrics/scores.csv")
    assert (metrics["known_patients"]["n"], metrics["unknown_patients"]["n"], metrics["others"]["n"]) == (8, 4, 8)
    assert metrics["new_patients"] == {"n": 0} and metrics["patients"]["n"] == 2
    assert json.loads((folder / "metrics/test.json").read_text())["patient_accuracy"] == metrics["patients"]["accuracy"]
    assert "stand in" in ran.stdout


@pytest.mark.parametrize("test,leaked", [(1, "none"), (0, "none")], ids=["one image", "no image"])
def test_small_test_sets_are_no_error_and_no_warning(tmp_path, test, leaked):
    folder = study(tmp_path / "study", test=test, leaked=leaked)
    ran = run_stage("evaluate", folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    metrics = read_figures(folder / "metrics/scores.csv")
    assert metrics["leaked"] == {"n": 0} and metrics["clean"]["n"] == test
    assert (folder / "plots/confusion.svg").stat().st_size > 1000


def test_network_of_other_classes_is_refused_in_one_line(tmp_path):
    folder = study(tmp_path / "study")
    set_params(folder, classes=["glioma", "NA", "1"])
    ran = run_stage("evaluate", folder)
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1
    assert "dvc repro" in ran.stderr and not (folder / "metrics").exists() and not (folder / "plots").exists()


@pytest.mark.parametrize(
    "key,value",
    [
        ("batch_size", 0),
        ("mirror", "perhaps"),
        ("bootstrap", -1),
        ("bins", 1),
        ("temperature_scaling", None),
        ("bins", "1e400"),
        ("apart", ["glioma", "oedema"]),
        ("apart", ["glioma", "meningioma", "notumor"]),
        ("apart", "notumor"),
    ],
)
def test_wrong_parameter_is_one_line_naming_it(tmp_path, key, value):
    from stages.evaluate.schema import Params
    from stages.shell.errors import InputError

    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_params(tmp_path, evaluate=EVALUATE | {key: value})
    with pytest.raises(InputError, match=f"evaluate.{key}") as error:
        load(Params, tmp_path / "params.yaml")
    assert "\n" not in str(error.value)
    assert issubclass(Params, Group)


def test_classes_whose_letters_no_picture_can_have_are_named_once_and_nothing_else_is_said(tmp_path):
    classes = ["脑膜瘤", "glioma", "ग्लियोमा"]
    said = run_stage("evaluate", study(tmp_path / "study", classes))
    assert said.returncode == 0, said.stderr
    lines = [line for line in said.stderr.splitlines() if "requirements.lock" not in line]
    assert len(lines) == 1 and lines[0].startswith("evaluate: pictures write 'class 1' for '脑膜瘤'"), said.stderr
    assert all(name in (tmp_path / "study/plots/confusion.csv").read_text() for name in classes)
