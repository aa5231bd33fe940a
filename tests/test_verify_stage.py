"""The verify stage as a person meets it: outputs, bad input in one line, the same bits for any number of workers."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from copying import TWINS, VERIFY, derived, encoded, params, phantom

from stages.files import read_figures
from stages.shell.errors import InputError
from stages.verify.study import examine_study

ROOT = Path(__file__).parents[1]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "data/raw"
    for split, shift in (("Training", 0), ("Testing", 6)):
        for label, start in (("a", 0), ("b", 20)):
            (folder / split / label).mkdir(parents=True)
            for number in range(6):
                (folder / split / label / f"{number}.png").write_bytes(encoded(phantom(11, start + shift + number)))
    (folder / "Testing/a/m.png").write_bytes(encoded(derived(phantom(11, 0), "mirrored_jpeg", 0)))
    return folder


def test_what_a_killed_run_left_is_removed_and_nothing_stays(raw):
    (raw.parent / ".verify.abc.part").mkdir()
    (raw.parent / ".verify.abc.part/views").write_bytes(b"half")
    examine_study(raw, params(), 1)
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


def test_outputs_have_the_agreed_form(raw):
    found = examine_study(raw, params(), 1)
    assert found.manifest.columns.tolist() == [
        "path",
        "split",
        "label",
        "sha256",
        "pixel_sha256",
        "width",
        "height",
        "mode",
        "format",
        "status",
        "patient",
        "group",
        "twin_kind",
        "twin_of",
        "similarity",
        "twin_in_training",
        "twin_in_testing",
        "neighbour_of",
        "neighbour_similarity",
    ]
    assert found.manifest.path.is_monotonic_increasing
    assert found.descriptors.shape == (25, 4, 256)
    assert found.descriptors.dtype == np.int8
    first = found.manifest.iloc[0]
    assert first.sha256 == hashlib.sha256((raw / first.path).read_bytes()).hexdigest()
    assert found.integrity["counts"]["Testing"] == {"a": 7, "b": 6, "all": 13}
    assert found.integrity["leaked"]["by_class"]["a"]["mirrored"] == 1
    json.dumps(found.integrity, allow_nan=False)


def test_what_is_known_of_patients_is_counted(raw):
    people = {"Testing/a/0.png": "x", "Training/a/1.png": "x", "Testing/b/0.png": "y", "Testing/a/m.png": "x"}
    found = examine_study(raw, params(), 1, people)
    assert found.manifest.set_index("path").patient[list(people)].to_dict() == people
    assert found.integrity["patients"] == {
        "patients": 2,
        "files": 4,
        "in_two_classes": 0,
        "test_files": {
            "known": {"a": 2, "b": 0, "all": 2},
            "new": {"a": 0, "b": 1, "all": 1},
            "unknown": {"a": 5, "b": 5, "all": 10},
        },
        "without_copy": {"known": 1, "new": 1, "unknown": 10},
    }
    none = examine_study(raw, params(), 1)
    assert none.integrity["patients"]["test_files"]["unknown"]["all"] == 13
    assert none.manifest.drop(columns="patient").equals(found.manifest.drop(columns="patient"))


def test_same_result_for_any_number_of_workers(raw):
    one, three = (examine_study(raw, params(), workers) for workers in (1, 3))
    assert one.manifest.to_csv() == three.manifest.to_csv()
    assert one.pairs.to_csv() == three.pairs.to_csv()
    assert one.integrity == three.integrity
    assert np.array_equal(one.descriptors, three.descriptors)


def test_index_and_exact_search_agree(raw):
    few = VERIFY.twins.model_copy(update={"exact_up_to": 0})
    exact, indexed = (examine_study(raw, params(twins=twins), 1) for twins in (VERIFY.twins, few))
    assert exact.pairs.to_csv() == indexed.pairs.to_csv()


def test_damaged_file_is_quarantined_by_name(raw):
    (raw / "Training/b/bad.jpg").write_bytes(b"")
    (raw / "Training/b/cut.png").write_bytes(encoded(phantom(11, 3))[:500])
    found = examine_study(raw, params(max_quarantined=2), 1)
    bad = found.manifest[found.manifest.status != "ok"]
    assert bad.path.tolist() == ["Training/b/bad.jpg", "Training/b/cut.png"]
    assert bad.status.tolist()[0] == "empty file (0 bytes)"
    assert found.integrity["quarantined"] == 2
    assert not found.descriptors[bad.index].any()


def test_too_many_damaged_files_stop_the_run(raw):
    (raw / "Training/b/bad.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 files cannot be used, at most 0 .*bad\.jpg: empty"):
        examine_study(raw, params(), 1)


def move(raw, old, new):
    (raw / old).rename(raw / new)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda raw: move(raw, "Training/b", "Training/c"), "no folder 'b'; found a, c"),
        (lambda raw: (raw / "Training/c").mkdir(), r"Training/c is not a class .*expected a, b"),
        (lambda raw: move(raw, "Testing", "Tests"), "no folder 'Testing'"),
        (lambda raw: [file.unlink() for file in (raw / "Testing/b").iterdir()], "Testing/b is empty"),
        (lambda raw: (raw / "Testing/b/deeper").mkdir(), "deeper is not a file"),
    ],
)
def test_unexpected_folders_are_one_clear_line(raw, spoil, line):
    spoil(raw)
    with pytest.raises(InputError, match=line) as error:
        examine_study(raw, params(), 1)
    assert "\n" not in str(error.value)


def test_class_counts_are_asserted(raw):
    examine_study(raw, params(expected={"Training": {"a": 6}, "Testing": {"a": 7, "b": 6}}), 1)
    with pytest.raises(InputError, match="Training/a has 6 files, expected 5"):
        examine_study(raw, params(expected={"Training": {"a": 5}}), 1)


def test_stage_writes_all_outputs_and_fails_without_a_traceback(raw):
    study = raw.parents[1]
    text = json.dumps({"isa": "avx2", "classes": ["a", "b"], "verify": VERIFY.model_dump()})
    (study / "params.yaml").write_text(text)
    (study / "data/patients.csv").write_text(
        "path,patient\nTesting/a/0.png,007\nTraining/a/1.png,007\nTesting/b/0.png,8\n"
    )
    command = [sys.executable, "-m", "stages.verify"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=study, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (study / "data").iterdir()) == [
        "descriptors.npy",
        "manifest.csv",
        "pairs.csv",
        "patients.csv",
        "raw",
    ]
    assert read_figures(study / "metrics/integrity.csv")["files"] == 25
    manifest = pd.read_csv(study / "data/manifest.csv", dtype=str, keep_default_na=False).set_index("path")
    told = manifest.patient[manifest.patient != ""]
    assert told.to_dict() == {"Testing/a/0.png": "007", "Testing/b/0.png": "8", "Training/a/1.png": "007"}
    (study / "params.yaml").write_text(text.replace('"similarity": 0.84', '"similarity": 7'))
    failed = subprocess.run(command, cwd=study, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines() == [failed.stderr.strip()]
    assert "verify.twins.similarity = 7" in failed.stderr


@pytest.fixture
def validated(raw):
    """The same study with a given validation set: two of its own, a copy of a training and one of a test image."""
    for label, start in (("a", 40), ("b", 60)):
        (raw / "Validation" / label).mkdir(parents=True)
        for number in range(2):
            (raw / "Validation" / label / f"{number}.png").write_bytes(encoded(phantom(11, start + number)))
    (raw / "Validation/a/of-training.png").write_bytes((raw / "Training/a/3.png").read_bytes())
    (raw / "Validation/b/of-testing.png").write_bytes(encoded(derived(phantom(11, 27), "mirrored_jpeg", 0)))
    return raw


def test_copies_between_a_given_validation_set_and_the_others_are_found(validated):
    found = examine_study(validated, params(), 1)
    rows = found.manifest.set_index("path")
    assert rows.loc["Validation/a/of-training.png", ["twin_kind", "twin_of"]].tolist() == ["byte", "Training/a/3.png"]
    told = [f"twin_in_{split}" for split in ("training", "testing", "validation")]
    assert rows.loc["Validation/a/of-training.png", told].tolist() == [1, 0, 0]
    assert rows.loc["Training/a/3.png", told].tolist() == [0, 0, 1]
    assert rows.loc["Validation/b/of-testing.png", told].tolist() == [0, 1, 0]
    assert rows.loc["Testing/b/1.png", told].tolist() == [0, 0, 1]
    assert found.integrity["validation"] == {
        "files": 6,
        "files_with_twin_in_training": 1,
        "by_kind": {"byte": 1, "pixel": 0, "copy": 0, "mirrored": 0, "rotated": 0, "all": 1},
        "files_with_twin_in_testing": 1,
    }
    assert found.integrity["counts"]["Validation"] == {"a": 3, "b": 3, "all": 6}


def test_a_given_validation_set_changes_nothing_that_is_said_of_the_others(raw, validated, tmp_path):
    def told(root, exact_up_to):
        found = examine_study(root, params(twins=TWINS.model_copy(update={"exact_up_to": exact_up_to})), 1)
        others = found.manifest[found.manifest.split != "Validation"]
        return others[["path", "twin_in_training", "twin_in_testing"]].values.tolist(), found.integrity["leaked"]

    with_it = [told(raw, many) for many in (30000, 0)]
    (raw / "Validation").rename(tmp_path / "away")
    assert with_it == [told(raw, many) for many in (30000, 0)]


def test_a_class_without_validation_images_is_one_line(validated):
    for path in (validated / "Validation/b").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="Validation/b is empty"):
        examine_study(validated, params(), 1)
    (validated / "Validation/b").rmdir()
    with pytest.raises(InputError, match="has no folder 'b'"):
        examine_study(validated, params(), 1)


def test_expected_counts_of_validation_are_asserted(validated):
    examine_study(validated, params(expected={"Validation": {"a": 3}}), 1)
    with pytest.raises(InputError, match=r"data/raw/Validation/b has 3 files, expected 4"):
        examine_study(validated, params(expected={"Validation": {"b": 4}}), 1)
