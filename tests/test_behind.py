"""Where code or settings went on after a study was run, the commit that made its figures is named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from commands import behind, show, tables
from stages.shell.errors import InputError
from stages.shell.provenance import dvc_hash

STAGE = {
    "cmd": "PYTHONPATH=${root} python -m stages.make",
    "deps": ["${root}/make.py", "data/in"],
    "params": ["lr", {"versions.yaml": ["torch"]}],
    "outs": ["out"],
}


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.check_output(["git", *who, *words], cwd=folder, text=True, stderr=subprocess.DEVNULL).strip()


def run(study: Path) -> None:
    """Write the lock that DVC would."""
    values = yaml.safe_load((study / "params.yaml").read_text())
    versions = yaml.safe_load((study / "versions.yaml").read_text())
    code = {"path": "../../make.py", "md5": dvc_hash(study / "../../make.py")}
    entry = {
        "cmd": "PYTHONPATH=../.. python -m stages.make",
        "deps": [code, {"path": "data/in", "md5": "0"}],
        "params": {"params.yaml": {"lr": values["lr"]}, "versions.yaml": {"torch": versions["torch"]}},
    }
    (study / "dvc.lock").write_text(yaml.safe_dump({"stages": {"make": entry}}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study that was run and committed, with a commit after it."""
    root = tmp_path / "clone"
    study = root / "studies/a"
    study.mkdir(parents=True)
    (root / "make.py").write_text("1\n")
    (study / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": STAGE}}))
    (study / "params.yaml").write_text("root: ../..\nlr: 0.1\nseed: 1\n")
    (study / "versions.yaml").write_text("torch: 2.14.1\nruff: 1.0.0\n")
    run(study)
    git(root, "init", "-q")
    commit(root)
    (root / "other").write_text("")
    commit(root)
    return study


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "more")
    return git(root, "rev-parse", "HEAD")[: behind.DIGITS]


CHANGES = {
    "code": ("../../make.py", "1\n", "2\n", "../../make.py"),
    "a parameter": ("params.yaml", "lr: 0.1", "lr: 0.2", "params.yaml: lr"),
    "a version": ("versions.yaml", "2.14.1", "2.15.0", "versions.yaml: torch"),
    "the command": ("dvc.yaml", "stages.make", "stages.other", "dvc.yaml: cmd"),
    "a dependency": ("dvc.yaml", "data/in", "data/more", "data/more"),
    "what it does not read": ("params.yaml", "seed: 1", "seed: 2", None),
    "what it does not load": ("versions.yaml", "ruff: 1.0.0", "ruff: 2.0.0", None),
}


@pytest.mark.parametrize(("path", "before", "after", "said"), CHANGES.values(), ids=CHANGES)
def test_what_was_changed_since_the_study_was_run_is_named(
    study: Path, path: str, before: str, after: str, said: str | None
):
    assert behind.changed(study) == []
    text = (study / path).read_text()
    assert before in text
    (study / path).write_text(text.replace(before, after))
    assert (said in behind.changed(study)) if said else (behind.changed(study) == [])


def test_the_commit_is_the_one_that_brought_the_lock(study: Path):
    root = study.parent.parent
    assert behind.made_by(study) == git(root, "rev-parse", "HEAD~1")[: behind.DIGITS]
    (root / "make.py").write_text("2\n")
    commit(root)
    assert behind.made_by(study) == git(root, "rev-parse", "HEAD~2")[: behind.DIGITS]
    run(study)
    assert behind.made_by(study) is None  # not committed
    new = commit(root)
    assert behind.made_by(study) == new


def test_the_table_names_the_commit_where_a_study_is_behind_and_stays_as_it_is_in_a_shallow_clone(
    study: Path, tmp_path: Path
):
    root, title = study.parent.parent, "](studies/a) |"
    assert tables._made_by(study, title, "") == "this commit"
    (root / "make.py").write_text("2\n")
    commit(root)
    made = tables._made_by(study, title, "")
    assert made == f"`{git(root, 'rev-parse', 'HEAD~2')[: behind.DIGITS]}`"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{root}", "shallow")
    shallow = tmp_path / "shallow/studies/a"
    assert behind.changed(shallow) == ["../../make.py"] and behind.made_by(shallow) is None
    before = f"| [a study](studies/a) | 98% | 97% | none | {made} |\n"
    assert tables._made_by(shallow, title, before) == made
    assert tables._made_by(shallow, title, "") == "a run that is not committed"
    shutil.rmtree(shallow.parent.parent / ".git")
    assert tables._made_by(shallow, title, before) == made


def test_a_stage_without_parameters_or_dependencies_counts_and_a_list_to_repeat_over_is_one_line(study: Path):
    pipeline = yaml.safe_load((study / "dvc.yaml").read_text())
    pipeline["stages"]["bare"] = {"cmd": "true"}
    (study / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    lock = yaml.safe_load((study / "dvc.lock").read_text())
    lock["stages"]["bare"] = {"cmd": "true"}
    (study / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert behind.changed(study) == []
    pipeline["stages"]["many"] = {"foreach": ["a", "b"], "do": {"cmd": "true"}}
    (study / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    with pytest.raises(InputError, match=r"dvc\.yaml: expected stages with cmd"):
        behind.changed(study)


def test_show_says_which_commit_made_the_figures_and_what_was_changed_since(study: Path):
    root = study.parent.parent
    made = git(root, "rev-parse", "HEAD~1")[: behind.DIGITS]
    assert show._standing(study) == f"\nmade by commit {made}, with the code and settings that lie here"
    (root / "make.py").write_text("2\n")
    said = show._standing(study)
    assert f"made by commit {made}; changed since: ../../make.py: `brainmri replay {made}` re-makes them" in said
    run(study)
    assert "not in Git's history here, with the code and settings that lie here" in show._standing(study)
