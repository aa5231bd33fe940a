from __future__ import annotations

import doctest
import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commands import compare
from commands.__main__ import main
from stages.shell.errors import InputError


def written(predicted: str, leaked: str = "none") -> pd.DataFrame:
    """One image a letter; the truth is always x."""
    rows = [(f"Testing/x/{n}.jpg", "x", letter, leaked) for n, letter in enumerate(predicted)]
    return pd.DataFrame(rows, columns=["path", "label", "predicted", "leaked"])


def test_mcnemar_counts_only_images_on_which_one_is_right():
    found = compare.mcnemar(compare.paired(written("xxxxxxxxyy"), written("yyyyyyxxyx")))
    assert (found["both_right"], found["only_a"], found["only_b"], found["both_wrong"]) == (2, 6, 1, 1)
    assert found["p"] == pytest.approx(2 * (1 + 7) / 2**7)  # by hand: at most 1 of 7, either way
    assert (found["accuracy_a"], found["accuracy_b"]) == (0.8, 0.3)


def test_no_difference_is_no_evidence_and_no_image_no_figure():
    same = compare.paired(written("xy"), written("xy"))
    assert compare.mcnemar(same)["p"] == 1.0
    assert "p" not in compare.mcnemar(same[:0])
    assert "no image" in compare.table({"clean": compare.mcnemar(same[:0])}, [])


def test_a_group_without_a_class_says_so_beside_its_number(repository: Path, capsys):
    table = written("xxxy")
    table["label"], table["leaked"] = list("xxyy"), ["none", "none", "byte", "copy"]
    (repository / "data").mkdir()
    table.to_csv(repository / compare.PREDICTIONS, index=False)
    assert main(["compare", ".", "."]) == 0
    found = capsys.readouterr().out
    assert "clean in both: n = 2, no y among them, A " in found and "all: n = 4, A " in found
    assert main(["compare", ".", ".", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert (groups["all"]["absent"], groups["clean in both"]["absent"]) == ([], ["y"])


def of_patients(table: pd.DataFrame, patients: str, groups: str = "") -> pd.DataFrame:
    """A patient a letter, `-` where unknown; likewise the group of copies."""
    empty = [f"own {n}" for n in range(len(table))]
    group = [letter if letter != "-" else own for letter, own in zip(groups or "-" * len(table), empty, strict=True)]
    return table.assign(patient=[letter.strip("-") for letter in patients], patient_in_training="new", group=group)


def test_slices_of_one_patient_count_together():
    a, b = written("xxxxxxxxyy"), written("yyyyyyxxyx")
    pairs = compare.paired(of_patients(a, "AAAAAABBCC"), of_patients(b, "AAAAAABBCC"))
    found = compare.by_patient(pairs)
    # A: -6, B: 0, C: +1; of the four sums +-6 +-1 all are at least 5 from 0
    assert (found["p"], found["patients"], found["stand_ins"]) == (1.0, 3, 0)
    assert found["only_a"] == 6 and compare.mcnemar(pairs)["p"] == 0.125


def test_where_a_patient_is_unknown_the_group_of_copies_stands_in():
    a, b = written("xxxx"), written("yyyy")
    pairs = compare.paired(of_patients(a, "A---", "12--"), of_patients(b, "A---", "122-"))
    found = compare.by_patient(pairs)
    assert (found["patients"], found["stand_ins"], found["p"]) == (1, 2, 0.25)  # -1, -2, -1: 2 of 8 sums are 4 from 0


def test_with_one_slice_a_patient_the_two_tests_agree():
    random = np.random.default_rng(0)
    for n in (1, 7, 60, 700):
        a, b = ("".join(random.choice(list("xxy"), n)) for _ in range(2))
        alone = [table.assign(patient=table["path"], group=table["path"]) for table in (written(a), written(b))]
        pairs = compare.paired(*alone)
        assert compare.by_patient(pairs)["p"] == pytest.approx(compare.mcnemar(pairs)["p"], rel=1e-9)


def test_sign_flips_by_trying_all_of_them():
    random = np.random.default_rng(1)
    for _ in range(20):
        differences = random.integers(-4, 5, 9)
        sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=9)]
        assert compare.sign_flips(differences) == np.mean([each >= abs(differences.sum()) for each in sums])


def test_noise_between_patients_is_found_once_in_twenty_by_patient_and_far_more_often_by_image():
    random = np.random.default_rng(2)
    found = {"by_patient": 0, "mcnemar": 0}
    for _ in range(200):
        # of 20 patients with 15 slices each, in either of two equal networks all slices go one way
        right = np.repeat(random.random((2, 20)) < 0.7, 15, axis=1)
        tables = [written("".join(np.where(row, "x", "y"))) for row in right]
        patients = [f"patient {n // 15}" for n in range(300)]
        pairs = compare.paired(*(table.assign(patient=patients, group=table["path"]) for table in tables))
        for name in found:
            found[name] += getattr(compare, name)(pairs)["p"] < 0.05
    assert found["by_patient"] <= 16 and found["mcnemar"] > 80


def test_the_line_says_which_test_it_was_and_an_older_table_without_patients_is_paired_too(repository: Path, capsys):
    assert main(["compare", "one", "two"]) == 0
    assert "(exact McNemar, image by image)" in capsys.readouterr().out
    (repository / "data").mkdir()
    of_patients(written("xxxxxxxx"), "AAAABB--", "------11").to_csv(repository / compare.PREDICTIONS, index=False)
    assert main(["compare", ".", "two"]) == 0
    said = capsys.readouterr().out
    assert "p = 0.5 (exact permutation test, patient by patient, 2 patients; of others 1 groups of copies stand" in said
    assert main(["compare", ".", "two", "--json"]) == 0
    group = json.loads(capsys.readouterr().out)["groups"]["all"]
    assert (group["test"], group["patients"], group["stand_ins"], group["p"]) == ("by_patient", 2, 1, 0.5)


def test_other_images_or_other_truth_are_refused():
    with pytest.raises(InputError, match="1 are only in the first, 0 only in the second"):
        compare.paired(written("xx"), written("x"))
    other = written("xx")
    other["label"] = "z"
    with pytest.raises(InputError, match="other labels"):
        compare.paired(written("xx"), other)


def test_docstring_examples_hold():
    assert doctest.testmod(compare).failed == 0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with commits `one` and `two`, whose predictions lie in DVC's cache, and `lost`, whose do not."""
    monkeypatch.chdir(tmp_path)
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(words, check=True)
    for name, predicted in {"one": "xxxxxxxx", "two": "yyyyyyxx", "lost": "y"}.items():
        data = written(predicted).to_csv(index=False).encode()
        digest = hashlib.md5(data).hexdigest()
        if name != "lost":
            path = tmp_path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        lock = {"stages": {"evaluate": {"outs": [{"path": compare.PREDICTIONS, "md5": digest}]}}}
        (tmp_path / "dvc.lock").write_text(json.dumps(lock))
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "add", "dvc.lock"], check=True)
        subprocess.run(["git", *identity, "commit", "-qm", name], check=True)
        subprocess.run(["git", "tag", name], check=True)
    return tmp_path


def test_two_commits_are_compared_by_what_lies_in_the_cache(repository: Path, capsys):
    assert main(["compare", "one", "two", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["groups"]["all"]["only_a"] == 6 and len(found["differ"]) == 6
    assert main(["compare", "one", "two"]) == 0
    assert "p = 0.0312" in capsys.readouterr().out


def test_standing_in_a_study_means_that_study(repository: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    study = repository / "studies/mine"
    (study / "data").mkdir(parents=True)
    (study / "dvc.yaml").touch()
    written("xxxy").to_csv(study / compare.PREDICTIONS, index=False)
    monkeypatch.chdir(study)
    assert main(["compare", ".", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["all"]["n"] == 4
    assert main(["compare", "one", "two"]) == 1
    assert "studies/mine/dvc.lock is not in one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("stages:\n<<<<<<< HEAD\n  a: {}\n", "dvc.lock of HEAD is no YAML (line 3)"),
        ("schema: '2.0'\n", "has no stages"),
        ("stages:\n  evaluate:\n", "has no stages"),
        ("[]\n", "expected keys and values"),
    ],
)
def test_a_lock_file_that_was_committed_damaged_is_one_line(repository: Path, capsys, lock: str, said: str):
    (repository / "dvc.lock").write_text(lock)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "commit", "-qam", "damaged"], check=True)
    assert main(["compare", "HEAD", "one"]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_outside_a_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "one", "two"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("brainmri: fatal: not a git repository") and error.count("\n") == 1
    assert "stand in a clone" in error


def test_a_cache_elsewhere_is_found_and_settings_that_are_damaged_are_one_line(repository: Path, capsys):
    (repository / ".dvc/cache").rename(repository / "elsewhere")
    (repository / ".dvc/config.local").write_text("[cache]\n    dir = ../elsewhere\n")
    assert main(["compare", "one", "two", "--json"]) == 0
    (repository / ".dvc/config").write_text("<<<<<<< HEAD\n[core]\n")
    capsys.readouterr()
    assert main(["compare", "one", "two"]) == 1
    error = capsys.readouterr().err
    assert ".dvc/config: " in error and error.count("\n") == 1


def kept_as_experiment(folder: Path, name: str, commit: str, baseline: str) -> None:
    """Write the reference under which DVC keeps an experiment: its baseline's hash is divided as in .git/objects."""
    digest = subprocess.check_output(["git", "rev-parse", baseline], cwd=folder, text=True).strip()
    ref = f"refs/exps/{digest[:2]}/{digest[2:]}/{name}"
    subprocess.run(["git", "update-ref", ref, commit], cwd=folder, check=True)


def test_an_experiment_is_compared_by_its_name(repository: Path, capsys):
    kept_as_experiment(repository, "rarer-fond", "two", "one")
    assert main(["compare", "one", "rarer-fond", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["all"]["only_a"] == 6


def test_a_branch_comes_before_an_experiment_of_its_name(repository: Path, capsys):
    kept_as_experiment(repository, "rarer-fond", "two", "one")
    subprocess.run(["git", "branch", "rarer-fond", "one"], check=True)
    assert main(["compare", "one", "rarer-fond", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differ"] == []


def test_an_experiments_name_on_two_commits_is_refused_and_both_are_named(repository: Path, capsys):
    kept_as_experiment(repository, "rarer-fond", "two", "one")
    kept_as_experiment(repository, "rarer-fond", "one", "lost")
    assert main(["compare", "one", "rarer-fond"]) == 1
    error = capsys.readouterr().err
    assert "2 experiments are called 'rarer-fond'" in error and error.count("\n") == 1
    for commit in ("one", "two", "lost"):
        assert subprocess.check_output(["git", "rev-parse", commit], text=True)[:7] in error


def test_what_else_dvc_keeps_beside_experiments_is_none(repository: Path, capsys):
    subprocess.run(["git", "update-ref", "refs/exps/exec/EXEC_HEAD", "two"], check=True)
    assert main(["compare", "one", "EXEC_HEAD"]) == 1
    assert "'EXEC_HEAD' is no commit and no experiment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "nowhere"], "'nowhere' is no commit"),
        (["one", "lost"], "not in DVC's cache"),
        (["one", "two", "--study", "studies/none"], "studies/none/dvc.lock is not in one"),
        ([".", "one"], "run `dvc repro`"),
    ],
)
def test_what_cannot_be_compared_is_one_line(repository: Path, capsys, words: list[str], said: str):
    assert main(["compare", *words]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
