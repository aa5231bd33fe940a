"""A cross-validation in one `dvc repro`: every picture is scored once, by a network that never saw it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, copy_repository, dvc_environment, set_params

from stages.evaluate import folds
from stages.files import read_figures

PARTS = {"0": "/folds/0", "1": "/folds/1", "2": "/folds/2"}
# in the place of a protocol that has folds: groups of copies by their number
SPLIT = """

def assign(manifest, split, seed, classes, fold=0):
    images = manifest[manifest["status"] == "ok"].copy()
    n = len(split.folds)
    images["array"] = "train"
    images.loc[images["group"] % n == fold, "array"] = "test"
    images.loc[(images["group"] % n != fold) & (images["group"] % 5 == 0), "array"] = "val"
    images["leaked"] = "none"
    images["row"] = images.groupby("array").cumcount()
    return images[["array", "row", "path", "label", "group", "leaked"]]
"""


def dvc(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["dvc", *words], cwd=folder, text=True, capture_output=True, env=dvc_environment(), timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("folds") / "clone", ("studies/", "metrics/", "plots/", "dvc.lock"))
    with (folder / "stages/prepare/split.py").open("a") as file:
        file.write(SPLIT)
    set_params(folder, **TINY, **{"split.folds": PARTS, "split.networks": "folds"})
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "repro")
    return folder


def weights(study: Path) -> dict[str, str]:
    return {
        fold: hashlib.sha256((study / f"models{part}/model.safetensors").read_bytes()).hexdigest()
        for fold, part in PARTS.items()
    }


def test_every_picture_is_scored_once_by_a_network_that_did_not_train_on_it(study: Path):
    predicted = pd.read_csv(study / "data/predictions.csv", keep_default_na=False, dtype={"fold": str})
    usable = pd.read_csv(study / "data/manifest.csv", keep_default_na=False).query("status == 'ok'")
    assert sorted(predicted["path"]) == sorted(usable["path"])
    for fold, part in PARTS.items():
        index = pd.read_csv(study / f"data/prepared{part}/index.csv", keep_default_na=False)
        mine = predicted.loc[predicted["fold"] == fold, "path"]
        assert len(mine) and not set(mine) & set(index.loc[index["array"] != "test", "path"])
    metrics = read_figures(study / "metrics/scores.csv")
    assert metrics["all"]["n"] == len(predicted) == sum(metrics["folds"]["n"].values())
    assert set(metrics["temperature"]) == set(PARTS)
    right = (predicted["label"] == predicted["predicted"]).groupby(predicted["fold"]).mean()
    assert metrics["folds"]["accuracy"]["mean"] == pytest.approx(right.mean(), abs=1e-6)
    assert metrics["folds"]["accuracy"]["std"] == pytest.approx(right.std(), abs=1e-6)


def test_a_fold_is_trained_again_alone_where_only_its_weights_are_missing(study: Path):
    before = weights(study)
    lost = study / "models/folds/1/model.safetensors"
    digest = hashlib.md5(lost.read_bytes()).hexdigest()
    lost.unlink()
    (study / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}").unlink()
    assert re.findall(r"Running stage '(.*)'", dvc(study, "repro")) == ["train@1"]
    assert weights(study) == before and len(set(before.values())) == len(before)


def test_folds_trained_side_by_side_have_the_bits_of_one_after_the_other(study: Path, tmp_path: Path):
    shutil.copytree(study, tmp_path / "clone", symlinks=True)
    commands = [["dvc", "repro", "--force", "--no-run-cache", "--single-item", f"train@{fold}"] for fold in "01"]
    running = [
        subprocess.Popen(command, cwd=tmp_path / "clone", env=dvc_environment(), stdout=subprocess.DEVNULL)
        for command in commands
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert weights(tmp_path / "clone") == weights(study)


def test_what_other_folds_left_is_swept_and_what_is_of_a_fold_stays(tmp_path: Path):
    for name in ("history.csv", "folds/0/history.csv", "folds/1/a/b", "folds/2/history.csv", "other/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    folds.sweep(tmp_path, ["/folds/0", "/folds/1"])
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == ["folds/0/history.csv", "folds/1/a/b"]


def test_spread_over_folds_is_that_of_each_by_itself():
    given = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    found = folds.spread(np.array([0, 1, 1, 1]), given, np.array(["0", "0", "1", "1"]), ["a", "b"])
    assert found["accuracy"] == {"mean": 0.75, "std": 0.353553, "of": {"0": 1.0, "1": 0.5}}
    assert found["n"] == {"0": 2, "1": 2} and found["auc"]["of"] == {"0": 1.0}
