"""split.protocol: by_patient: no patient and no group of copies on two sides, the same parts for any order of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, make_study, run_stage, run_stages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.params import load
from stages.prepare import parts
from stages.prepare.schema import Params, Split
from stages.prepare.split import assign
from stages.shell.errors import InputError

CLASSES = ["a", "b"]
ARRAYS = ("train", "val", "test")


def by_patient(count: int = 5, unique: bool = False, fraction: float = 0.1) -> Split:
    one = {"folds": {"0": ""}, "networks": "model.safetensors"}
    return Split(protocol="by_patient", val_fraction=fraction, parts=count, unique=unique, **one)


def sha(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def manifest(
    seed: int, files: int = 400, patients: int = 60, groups: int = 260, known: float = 0.7, across: float = 0.02
) -> pd.DataFrame:
    """A manifest at random: patients with many files and with few, some unknown, some in two classes; and copies."""
    random = np.random.default_rng(seed)
    weights = random.lognormal(0, 1, patients)
    who = random.choice(patients, files, p=weights / weights.sum())
    label = np.where(random.random(files) < 0.03, random.integers(0, 2, files), who % 2)
    split = random.choice(["Training", "Testing", "Validation"], files, p=[0.7, 0.25, 0.05])
    return pd.DataFrame(
        {
            "path": [f"{split[n]}/{CLASSES[label[n]]}/{n:04d}.png" for n in range(files)],
            "split": split,
            "label": [CLASSES[number] for number in label],
            "sha256": [sha(seed, n) for n in range(files)],
            "patient": np.where((who * 7919) % 100 < 100 * known, [f"p{each}" for each in who], ""),
            # mostly a patient's own; some are copies of other patients' files, or of files that nobody knows
            "group": np.where(
                random.random(files) < across,
                10**6 + random.integers(0, 20, files),
                who * 1000 + random.integers(0, groups // patients + 1, files),
            ),
            "width": random.integers(1, 4, files) * 100,
            "height": random.integers(1, 4, files) * 100,
            "format": random.choice(["JPEG", "PNG"], files),
            "status": np.where(random.random(files) < 0.02, "not an image in a known format", "ok"),
        }
    ).assign(twin_kind="none", twin_in_training=0, twin_in_testing=0)


def folds(table: pd.DataFrame, split: Split, seed: int = 0) -> list[pd.DataFrame]:
    return [assign(table, split, seed, CLASSES, fold) for fold in range(split.parts)]


def roles(table: pd.DataFrame, split: Split, seed: int = 0) -> list[dict[str, str]]:
    """Return {sha256: array} of each fold: what a file is, whatever it is called and wherever it stands."""
    names = dict(zip(table["path"], table["sha256"], strict=True))
    found = folds(table, split, seed)
    return [{names[path]: array for path, array in zip(each["path"], each["array"], strict=True)} for each in found]


def crossing(table: pd.DataFrame, found: list[pd.DataFrame]) -> list[str]:
    """Return what stands on two sides: patients and groups of copies, by fold and over the folds' test images."""
    bad = []
    patient = dict(zip(table["path"], table["patient"], strict=True))
    group = dict(zip(table["path"], table["group"], strict=True))
    tests = pd.concat([each[each["array"] == "test"].assign(array=fold) for fold, each in enumerate(found)])
    for name, of in (("patient", patient), ("group", group)):
        for fold, each in enumerate([*found, tests]):
            sides = each.groupby(each["path"].map(of))["array"].nunique()
            bad += [f"{name} {key} in {fold}" for key in sides.index[sides > 1] if key != ""]
    return bad


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 10**6),
    st.integers(0, 2**32 - 1),
    st.integers(2, 6),
    st.booleans(),
    st.sampled_from([0.05, 0.2, 0.5]),
)
def test_no_patient_and_no_group_of_copies_stands_on_two_sides(at, seed, count, unique, fraction):
    table = manifest(at, known=(at % 5) / 4)
    split = by_patient(count, unique, fraction)
    try:
        found = folds(table, split, seed)
    except InputError as error:
        assert "are left after the split" in str(error)
        return
    assert crossing(table, found) == []
    usable = table[table["status"] == "ok"]
    tested = [path for each in found for path in each.loc[each["array"] == "test", "path"]]
    assert len(tested) == len(set(tested)) == (usable["group"].nunique() if unique else len(usable))
    assert all(set(each["path"]) == set(tested) for each in found), "each fold uses the same images"
    for each in found:
        test = each[each["array"] == "test"]
        assert set(test["leaked"]) == {"none"}
        assert (test["patient_in_training"] == np.where(test["patient"] == "", "unknown", "new")).all()


def test_chains_of_patients_and_copies_are_one_head():
    images = pd.DataFrame({"patient": ["x", "", "", "y", "y", "", "z"], "group": [1, 1, 2, 2, 3, 4, 4]})
    assert parts.heads(images) == [0, 0, 1, 1, 1, 2, 2]


def test_files_without_a_patient_are_joined_by_copies_alone():
    assert parts.heads(pd.DataFrame({"patient": ["", "", ""], "group": [0, 1, 0]})) == [0, 1, 0]


@pytest.mark.parametrize("unique", [False, True])
def test_order_and_names_of_files_change_nothing(unique: bool):
    table, split = manifest(3), by_patient(unique=unique)
    renamed = table.sample(frac=1, random_state=1).reset_index(drop=True)
    renamed["path"] = [f"{path.rpartition('/')[0]}/{sha(path)}.png" for path in renamed["path"]]
    renamed["group"] = pd.factorize(renamed["group"])[0]
    assert roles(renamed, split) == roles(table, split)


def test_of_equal_bytes_in_two_classes_the_same_class_is_kept_whatever_the_split():
    images = {"label": ["a", "b"], "sha256": ["1", "1"], "group": [0, 0], "head": [0, 0], "format": ["PNG", "PNG"]}
    images |= {"width": [9, 9], "height": [9, 9]}
    for splits in (("Training", "Testing"), ("Testing", "Training")):
        paths = [f"{split}/{label}/x.png" for split, label in zip(splits, "ab", strict=True)]
        assert parts.least_altered(pd.DataFrame(images | {"path": paths})) == {paths[0]}


def test_which_images_were_training_and_which_testing_changes_nothing():
    table = manifest(4)
    assert roles(table.assign(split="Training"), by_patient()) == roles(table, by_patient())


def test_another_seed_makes_other_parts():
    assert roles(manifest(5), by_patient(), 0) != roles(manifest(5), by_patient(), 1)


def part_of(table: pd.DataFrame) -> dict[str, int]:
    """Return {sha256: the fold that tests it}."""
    return {each: fold for fold, of in enumerate(roles(table, by_patient())) for each in of if of[each] == "test"}


@pytest.mark.parametrize("at", range(4))
def test_parts_are_balanced_by_class(at: int):
    table = manifest(at, files=1500, patients=200, across=0).assign(status="ok")
    part = table["sha256"].map(part_of(table))
    counts = pd.crosstab(table["label"], part)
    assert ((counts.max(axis=1) - counts.min(axis=1)) <= 0.05 * counts.mean(axis=1)).all(), counts


def with_one_more(table: pd.DataFrame, turn: int) -> pd.DataFrame:
    """Return a manifest with a file more: in turn of a head that is there, and of a new one."""
    more = table.sample(1, random_state=turn).assign(sha256=sha("new", turn), group=10**9)
    more["path"] = more["path"].str.replace(".png", "-new.png")
    return pd.concat([table, more if turn % 2 else more.assign(patient="new")], ignore_index=True)


def moved(table: pd.DataFrame, turns: int) -> list[int]:
    """Return how many files of other heads change their part for each file that is added."""
    before, counts = part_of(table), []
    for turn in range(turns):
        more = with_one_more(table, turn)
        after = part_of(more)
        head = dict(zip(more["sha256"], parts.heads(more), strict=True))
        own = head[more["sha256"].iloc[-1]]
        counts.append(sum(before[each] != after[each] for each in before if head[each] != own))
    return counts


def test_a_file_more_moves_few_files_of_other_heads():
    table = manifest(6, files=1500, patients=200).assign(status="ok")
    counts = moved(table, 12)
    assert np.median(counts) <= 0.01 * len(table) and max(counts) < 0.1 * len(table), counts


# --- one picture of each group of copies


def copies(**columns: list[Any]) -> pd.DataFrame:
    """A group of four copies of one head, which has two more pictures."""
    table = pd.DataFrame({"path": list("uvwxyz"), "label": "a", "patient": "p", "group": [0, 0, 0, 0, 1, 2]})
    table = table.assign(sha256=[sha(each) for each in "uvwxyz"], width=100, height=100, format="JPEG")
    table = table.assign(**{name: [*values, values[0], values[0]] for name, values in columns.items()})
    return table.assign(head=parts.heads(table))


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        ({"width": [10, 20, 5, 1], "height": [10, 10, 10, 10]}, "v"),
        ({"width": [10, 10, 10, 10], "height": [1, 1, 2, 2], "format": ["PNG", "PNG", "JPEG", "BMP"]}, "x"),
        ({"sha256": ["9", "8", "1", "7"]}, "w"),
        ({"label": ["a", "b", "b", "b"], "width": [1, 9, 9, 9]}, "u"),  # y and z are a
    ],
    ids=["most pixels", "then lossless", "then the smallest hash", "but first in its head's class"],
)
def test_the_least_altered_of_copies_is_kept(columns: dict[str, list[Any]], kept: str):
    table = copies(**columns)
    if "sha256" in columns:
        table.loc[table["path"].isin(["y", "z"]), "sha256"] = ["y", "z"]
    assert parts.least_altered(table) == {kept, "y", "z"}


# --- what cannot be divided


def test_too_few_patients_of_a_class_are_named():
    table = manifest(7)
    few = table[(table["label"] == "a") | table["patient"].isin(["p1", "p3"])]
    with pytest.raises(InputError, match=r"no \w+ images of class b .* fewer split.parts than 5, as it has too few"):
        folds(few, by_patient())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": "published", "unique": True}, "split.unique is for split.protocol: by_patient alone"),
        ({"parts": 1}, "greater than or equal to 2"),
        ({"parts": 2, "folds": {str(n): f"/folds/{n}" for n in range(3)}, "networks": "folds"}, "folds are 3"),
        ({"folds": {"1": ""}}, "one fold is"),
        ({"folds": {"0": "/../../x", "1": "/y"}, "networks": "folds"}, "several folds are"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], expected: str):
    with pytest.raises(ValidationError, match=expected):
        Split.model_validate(by_patient().model_dump() | changes)


def test_a_protocol_with_one_test_set_takes_one_fold():
    two = {"protocol": "published", "folds": {"0": "/folds/0", "1": "/folds/1"}, "networks": "folds"}
    with pytest.raises(InputError, match="has one test set"):
        assign(manifest(0), Split.model_validate(by_patient().model_dump() | two), 0, CLASSES)


# --- the stage


def test_prepare_makes_the_same_bytes_with_any_number_of_processes(tmp_path: Path):
    pattern = {"pattern": "(?P<patient>[0-9a-f]{2}).*", "two_classes": True}
    study = make_study(
        tmp_path / "study", **{"fetch.patients": pattern, "split.protocol": "by_patient", "split.parts": 2}
    )
    run_stages(["fetch", "verify"], study)
    made = []
    for workers in ("1", "3"):
        done = run_stage("prepare", study, BRAINMRI_WORKERS=workers)
        assert (done.returncode, done.stderr) == (0, "")
        made.append({path.name: path.read_bytes() for path in (study / "data/prepared").iterdir()})
    assert made[0] == made[1]
    index = pd.read_csv(study / "data/prepared/index.csv", keep_default_na=False, dtype=str)
    sides = index.groupby("patient")["array"].nunique()
    assert (sides == 1).all() and set(index["patient_in_training"][index["array"] == "test"]) == {"new"}


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("BRAINMRI_SOURCE"), reason="BRAINMRI_SOURCE names no real images")
def test_the_real_study_has_no_patient_and_no_group_of_copies_on_two_sides(tmp_path: Path):
    """And what is known of the published split: docs/patients.md."""
    (tmp_path / "study").mkdir()
    for name in ("params.yaml", "patients.csv"):
        (tmp_path / "study" / name).write_bytes((ROOT / "studies/nickparvar-patients" / name).read_bytes())
    run_stages(["fetch", "verify"], tmp_path / "study")
    table = pd.read_csv(tmp_path / "study/data/manifest.csv", keep_default_na=False, dtype={"patient": str})
    chosen = load(Params, tmp_path / "study/params.yaml")
    found = [assign(table, chosen.split, chosen.seed, chosen.classes, fold) for fold in range(chosen.split.parts)]
    assert crossing(table, found) == []
    counts = pd.DataFrame([each.loc[each["array"] == "test", "label"].value_counts() for each in found])
    assert (counts.max() - counts.min() <= 0.03 * counts.mean() + 1).all(), counts
    assert counts.to_numpy().sum() == table["group"].nunique()
    shuffled = table.sample(frac=1, random_state=0)
    again = assign(shuffled, chosen.split, chosen.seed, chosen.classes, 3).set_index("path")["array"]
    assert again.sort_index().equals(found[3].set_index("path")["array"].sort_index())
    test = table[table["split"] == "Testing"]
    trained = set(table.loc[table["split"] == "Training", "patient"])
    assert (test["patient"] != "").sum() == 788 and set(test["patient"]) <= trained
