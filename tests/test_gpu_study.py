"""bench/gpu_study.py, on a CPU and phantoms: that its parts work, that calls add up, and its errors are one line."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, script
from training import Small, chosen, make_study, pictures

from stages.shell.errors import InputError

SCRIPT = ROOT / "bench/gpu_study.py"
PHANTOMS = ["train_per_class=8", "test_per_class=4", "copies={byte: 1, recoded: 1, contrast: 1, mirrored: 1}"]
SMALL = ["--device", "cpu", "--precision", "fp32", "--size", "32", "--epochs", "1", "--short-epochs", "1"]
SMALL += ["--batch-size", "8", "--steps", "1", "--repeats", "1", "--seeds", "1", "--checkpoint-steps", "1"]
SMALL += ["--shards", "2"]
SMALL += ["--set", *(f"fetch.phantom.{each}" for each in PHANTOMS), "split.val_fraction=0.25", "evaluate.bootstrap=0"]


@pytest.fixture(scope="module")
def study() -> Any:
    return script("gpu_study")


@pytest.fixture
def asked(study: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The arguments of a command line."""

    def parsed(*words: str) -> argparse.Namespace:
        monkeypatch.setattr(sys, "argv", ["gpu_study", *SMALL, *words])
        return study.arguments()

    return parsed


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=1500)


@pytest.mark.slow
def test_every_part_runs_and_a_second_call_adds_without_repeating(tmp_path: Path):
    words = [*SMALL, "--out", str(tmp_path / "out.json"), "--scratch", str(tmp_path / "scratch")]
    done = call(tmp_path, *words, "--batch-sizes", "8", "--kills", "2")
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "out.json").read_text())
    assert first["throughput"]["fp32, batch 8"]["trainer"] > 0 and "share_lost" in first["cost"]["fp32, batch 8"]
    assert len(first["determinism"]["alone"]) == 2 and len(set(first["determinism"]["alone"])) == 1
    assert first["shards"]["share_of_one"]["1"] == 1 and first["shards"]["images_per_second"]["4"] > 0
    assert [*first["workers"]["runs"]] == ["1", "2"] and first["workers"]["same"] is True
    assert first["determinism"]["kills"] == first["determinism"]["same_after_kill"] == 2
    assert [row["seed"] for row in first["study"]["leak_free"]["runs"]] == [0]
    assert first["study"]["published"]["all"]["n"] == 1 and first["environments"][0]["cpu"]

    done = call(tmp_path, *words, "--batch-sizes", "8", "64", "--kills", "2")
    assert done.returncode == 0, done.stderr
    second = json.loads((tmp_path / "out.json").read_text())
    for part in ("throughput", "cost"):
        assert "more than the" in second[part].pop("fp32, batch 64")["failed"]
    assert second == first


def test_a_figure_that_is_there_is_not_measured_again(study: Any, asked: Any, tmp_path: Path):
    base = make_study(tmp_path / "base")
    first: dict[str, Any] = {}
    for part in ("throughput", "cost"):
        for found in getattr(study, part)(base, asked("--batch-sizes", "8", "64"), first):
            first[part] = json.loads(json.dumps(found))
    assert first["throughput"]["fp32, batch 8"]["limit"] > 0 and first["cost"]["fp32, batch 8"]["free"] > 0
    assert first["throughput"]["fp32, batch 64"] == {
        "failed": "InputError: batch_size = 64 is more than the 25 training images"
    }
    assert not list(study.throughput(base, asked("--batch-sizes", "64", "8"), first))
    assert not list(study.cost(base, asked("--batch-sizes", "64", "8"), first))


def test_each_run_trains_one_network_also_where_the_study_is_a_cross_validation(study: Any, asked: Any, monkeypatch):
    runs = sys.modules["gpu_runs"]
    several = runs.parse((ROOT / "params.yaml").read_text())
    several["split"] |= {"folds": {"0": "/folds/0", "1": "/folds/1"}, "networks": "folds"}
    monkeypatch.setattr(runs, "parse", lambda text: several if "root:" in text else json.loads(text))
    args = asked("--set")
    assert runs.recipe(args)["split"]["folds"] == {"0": ""}
    args.set = ['split.folds={"0": "/folds/0", "1": "/folds/1"}']
    with pytest.raises(InputError, match="each run trains one network"):
        runs.recipe(args)


def test_speed_is_that_of_the_studys_own_recipe(study: Any, asked: Any, tmp_path: Path):
    schedule = {"train.size_schedule": [[0.0, 16]], "train.freeze_epochs": 1}
    base = make_study(tmp_path / "base", **schedule, **{"train.dropout": 0.5, "augment.rotate": 3, "threads": 1})
    options = sys.modules["gpu_speed"]._options(base, asked(), "fp32", 8, True)
    found = sys.modules["gpu_speed"].speed.params(options)
    assert (found.train.dropout, found.augment.rotate, found.threads, found.batch_size) == (0.5, 3, 1, 8)
    assert (found.train.compile, found.train.size_schedule, found.train.freeze_epochs) == (True, [], 0)


@pytest.mark.parametrize(
    ("error", "compiled", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), False, "OutOfMemoryError: CUDA out of memory"),
        (ValueError("no\n compiler"), True, "ValueError: no compiler"),
        (ValueError("a mistake"), False, None),
    ],
)
def test_short_memory_and_a_failed_compile_are_rows_and_a_mistake_is_not(
    study: Any, error: Exception, compiled: bool, said: str | None
):
    def fails(*_: Any) -> dict[str, float]:
        raise error

    options = argparse.Namespace(batch_size=8, compile=compiled, device="cpu")
    if said is None:
        with pytest.raises(ValueError, match="a mistake"):
            sys.modules["gpu_speed"]._attempted(fails, pictures(8), options)
    else:
        assert sys.modules["gpu_speed"]._attempted(fails, pictures(8), options) == {"failed": said}


def test_kills_go_on_from_those_in_the_json(study: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []

    def alone(_base: Path, _args: Any, digests: list[str]) -> dict[str, Any]:
        return {"alone": [*digests, "same"], "first_checkpoint_s": 1.0, "whole_s": 2.0}

    def kill(_base: Path, _args: Any, found: dict[str, Any]) -> None:
        made.append(found["attempts"])
        found["kills"] += 1
        found["attempts"] += 1

    monkeypatch.setattr(study, "_alone", alone)
    monkeypatch.setattr(study, "_attempt_a_kill", kill)
    base = make_study(tmp_path / "base")
    result: dict[str, Any] = {}
    for kills in ("2", "3", "3"):
        for found in study.determinism(base, asked("--kills", kills), result):
            result["determinism"] = json.loads(json.dumps(found))
    assert made == [0, 1, 2] and result["determinism"]["alone"] == ["same", "same"]
    result["determinism"]["causes"] = "other"
    assert next(study.determinism(base, asked("--kills", "3"), result))["kills"] == 0


def test_seeds_are_added_to_those_in_the_json(study: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    def scores(folder: Path) -> dict[str, Any]:
        made.append(folder.name)
        return {group: {"n": 1, "accuracy": 0.5} for group in study.GROUPS}

    monkeypatch.setattr(study, "passed", lambda *_: {"train": 1.0})
    monkeypatch.setattr(study, "_scores", scores)
    base = make_study(tmp_path / "base")
    result: dict[str, Any] = {"seconds": {"fetch": 1.0, "verify": 2.0}}
    for seeds in ("1", "2"):
        for found in study.study(base, asked("--seeds", seeds), result):
            result["study"] = json.loads(json.dumps(found))
    assert made == ["published-0", "leak_free-0", "published-1", "leak_free-1"]  # and none by unknown patients
    assert result["study"]["published"]["all"] == {"mean": 0.5, "deviation": 0.0, "n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_where_patients_are_known_each_seed_is_run_by_patient_too(study: Any, asked: Any, tmp_path: Path, monkeypatch):
    made: dict[str, dict[str, Any]] = {}

    def passed(_names: Any, folder: Path, _args: Any) -> dict[str, float]:
        made[folder.name] = study.params.read(folder / "params.yaml")["split"]
        return {"train": 1.0}

    monkeypatch.setattr(study, "passed", passed)
    monkeypatch.setattr(study, "_scores", lambda _: {group: {"n": None, "accuracy": None} for group in study.GROUPS})
    base = make_study(tmp_path / "base", **{"fetch.patients": {"table": "patients.csv"}, "split.unique": True})
    found = list(study.study(base, asked("--together", "2"), {"seconds": {"fetch": 1.0, "verify": 2.0}}))[-1]
    assert {name: (split["protocol"], split["unique"]) for name, split in made.items()} == {
        "published-0": ("published", False),
        "leak_free-0": ("leak_free", False),
        "by_patient-0": ("by_patient", True),
    }
    assert found["by_patient"]["patients"] is None and [*found["by_patient"]["runs"][0]][:2] == [
        "seed",
        "zip_to_confusion_s",
    ]


@pytest.mark.parametrize("together", [1, 2])
def test_a_failure_waits_for_what_runs_beside_it_and_starts_no_more(study: Any, together: int):
    begun: list[int] = []

    def run(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise study.TimeUp
        time.sleep(0.2)
        return number

    found = study.side_by_side([functools.partial(run, number) for number in range(6)], together)
    done = []
    with pytest.raises(study.TimeUp):
        for each in found:
            done.append(each)
    assert sorted([0, *done]) == begun and len(begun) < 6


def test_a_stage_that_has_run_in_the_scratch_folder_is_not_run_again(
    study: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    def run(stage: str, *_: Any) -> float:
        if stage == "prepare" and "prepare" not in made:
            made.append(stage)
            raise study.TimeUp
        made.append(stage)
        return 1.0

    monkeypatch.setattr(sys.modules["gpu_runs"], "run", run)
    with pytest.raises(study.TimeUp):
        study.prepared(tmp_path, asked())
    folder = study.prepared(tmp_path, asked())
    assert made == ["fetch", "verify", "prepare", "prepare", "backbone"]
    assert study.prepared(tmp_path, asked()) == folder and len(made) == 5
    assert study.prepared(tmp_path, asked("--lr", "0.1")) != folder and len(made) == 9


def test_another_gpu_or_a_changed_folder_of_images_is_another_scratch_folder(
    study: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = sys.modules["gpu_runs"]
    monkeypatch.setattr(runs, "passed", lambda *_: {})
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/1.png").write_bytes(b"one")
    args = asked("--source", str(tmp_path / "images"))
    first = study.prepared(tmp_path / "scratch", args)
    assert study.prepared(tmp_path / "scratch", args) == first
    monkeypatch.setattr(runs, "hardware", lambda device: f"another {device}")
    second = study.prepared(tmp_path / "scratch", args)
    (tmp_path / "images/a/1.png").write_bytes(b"another")
    assert len({first, second, study.prepared(tmp_path / "scratch", args)}) == 3


def test_its_training_writes_the_bytes_that_the_train_stage_writes(tiny_study: Path, tmp_path: Path):
    folder = tmp_path / "study"
    shutil.copytree(tiny_study, folder, ignore=shutil.ignore_patterns("raw", "model.safetensors", "curves"))
    command = [sys.executable, str(ROOT / "bench/gpu_runs.py"), str(folder)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("models/model.safetensors", "models/curves/history.csv"):
        assert (folder / name).read_bytes() == (tiny_study / name).read_bytes(), name


def test_a_checkpoint_is_written_only_when_it_is_due(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trainer = sys.modules["gpu_runs"].SparingTrainer(Small(), pictures(16), pictures(8), chosen(epochs=2), 0.2, 0.2)
    trainer.store = sys.modules["gpu_runs"].Sparing(tmp_path, "0" * 64)
    trainer.fit(trainer.store)
    assert trainer.state() == {} and trainer.store.last() is None
    trainer.store.saved -= study.SAVE_EVERY
    trainer.store.save(trainer.state(), trainer.progress)
    assert trainer.store.last() == "epoch 3, 0 steps done" and trainer.state() == {}
    assert study.starts(tmp_path)["starts"] == 1 and study.starts(tmp_path)["seconds"] > 0
    monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", "1")
    assert trainer.state()
    assert (
        sys.modules["gpu_runs"].Sparing(tmp_path, "0" * 64).newest()[1].epoch == 2
        and study.starts(tmp_path)["starts"] == 2
    )


def test_the_time_that_is_left_ends(study: Any, asked: Any):
    assert study.left(asked()) is None
    assert 0 < study.left(asked("--minutes", "1")) <= 60
    for minutes, needed in (("0", 0.0), ("1", 61.0)):
        with pytest.raises(study.TimeUp):
            study.left(asked("--minutes", minutes), needed)


def test_what_is_carried_on_the_path_reaches_the_stages(study: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", f"/carried{os.pathsep}/more")
    assert sys.modules["gpu_runs"].variables(A="1")["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/carried", "/more"]
    monkeypatch.delenv("PYTHONPATH")
    assert sys.modules["gpu_runs"].variables()["PYTHONPATH"] == str(ROOT)


def test_figures_of_other_settings_are_not_mixed(study: Any, asked: Any, tmp_path: Path):
    out = tmp_path / "out.json"

    def so_far(*more: str) -> dict[str, Any]:
        args = asked("--out", str(out), *more)
        return study.so_far(args.out, study.settings(args))

    begun = so_far()
    out.write_text(json.dumps(begun | {"cost": {}}))
    more = ["--seeds", "9", "--kills", "9", "--minutes", "1", "--batch-sizes", "4"]
    same = so_far(*more)
    assert same == begun | {"cost": {}} and "20 s" in begun["settings"]["checkpoints"]
    with pytest.raises(InputError, match=r"holds figures of other settings \(lr = 0\.001, not 0\.1; recipe = "):
        so_far("--lr", "0.1")
    out.write_text(json.dumps({"settings": begun["settings"] | {"recipe": "of another params.yaml"}}))
    with pytest.raises(InputError, match=r"holds figures of other settings \(recipe = of another"):
        so_far()


def test_mistakes_are_one_line_and_nothing_is_written(
    study: Any, asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = ["--out", str(tmp_path / "out.json")]
    for words, said in {
        ("--parts", "coffee"): "--parts has 'coffee'",
        ("--set", "train.none=1"): "train.none: params.yaml has no such key",
        ("--set", "no.such=1"): "no.such: params.yaml has no such key",
    }.items():
        monkeypatch.setattr(sys, "argv", ["gpu_study", "--device", "cpu", *words, *out])
        with pytest.raises(InputError, match=said):
            study.main()
    done = call(tmp_path, "--device", "cpu", "--source", str(tmp_path / "none.zip"), *out)
    assert done.returncode == 1 and "none.zip" in done.stderr and done.stderr.startswith("gpu_study: "), done.stderr
    assert not (tmp_path / "out.json").exists()
