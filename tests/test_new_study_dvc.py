"""A study made by `new-study`, in the hands of DVC: run, rewritten, queued before it was ever committed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, copy_repository, dvc_environment, make_study, run_stage, set_params

from stages.dialect import parse

LABELS = {"glioma": "no", "meningioma": "1e5", "notumor": "yes", "pituitary": "1-30"}
SPLITS = {"Training": "train", "Testing": "TEST"}
PYTHON = [sys.executable, "-m", "commands"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in folders by names that people have; of each class four training images are for validation."""
    made = make_study(tmp_path_factory.mktemp("phantoms") / "study")
    assert run_stage("fetch", made).returncode == 0
    own = tmp_path_factory.mktemp("images") / "own"
    for path in sorted((made / "data/raw").glob("*/*/*")):
        split, label = path.parts[-3], path.parts[-2]
        target = own / SPLITS[split] / LABELS[label]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in sorted((own / "train").iterdir()):
        (own / "val" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:4]:
            path.rename(own / "val" / folder.name / path.name)
    return own


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@example.org")
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRAINMRI_SOURCE", raising=False)
    folder = copy_repository(tmp_path / "clone", ("studies/", "metrics/", "plots/", "dvc.lock", "models/"))
    set_params(folder, **TINY)
    sh(folder, "git", "init", "-q", "-b", "main")
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "commit", "-qm", "first")
    return folder


def sh(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, text=True, capture_output=True, env=dvc_environment(), timeout=500)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def classes(study: Path) -> list[str]:
    return parse((study / "params.yaml").read_text())["classes"]


def test_a_study_that_was_never_committed_outlives_a_queued_experiment(clone: Path, images: Path):
    sh(clone, *PYTHON, "new-study", "mine", str(images))
    study = clone / "studies/mine"
    (clone / "README.md").write_text("changed, not staged")
    (clone / "LICENSE").write_text("changed and staged")
    sh(clone, "git", "add", "LICENSE")
    before = {path: path.read_bytes() for path in study.iterdir() if path.is_file()}
    status = sh(clone, "git", "status", "--porcelain")
    sh(study, "dvc", "exp", "run", "--queue", "-S", "lr=1e-4")
    assert {path: path.read_bytes() for path in study.iterdir() if path.is_file()} == before
    assert sh(clone, "git", "status", "--porcelain") == status
    assert (clone / "README.md").read_text() == "changed, not staged"
    sh(study, "dvc", "exp", "run", "--queue", "-S", "lr=1e-5")


def test_a_study_with_names_that_yaml_takes_for_something_else_is_rewritten_by_dvc_and_runs_on(
    clone: Path, images: Path
):
    sh(clone, *PYTHON, "new-study", "mine", str(images), "--commit")
    study = clone / "studies/mine"
    names = ["1-30", "1e5", "no", "yes"]
    assert classes(study) == names and sh(clone, "git", "status", "--porcelain") == ""
    sh(study, "dvc", "exp", "run", "-S", "lr=1e-4", "prepare")
    text = (study / "params.yaml").read_text()
    assert "- no\n" in text or "[1-30, '1e5', no, yes]" in text, "DVC dropped no quotes: this shows nothing"
    assert classes(study) == names and parse(text)["lr"] == 1e-4
    assert "Running stage" not in sh(study, "dvc", "repro", "prepare")
    # the seed is fetch's too: it runs anew, in another folder, and finds the images
    assert "Running stage 'fetch'" in sh(study, "dvc", "exp", "run", "--temp", "-S", "seed=1", "prepare")
    sh(study, "dvc", "exp", "run", "-S", "classes=[yes,no,'1e5','1-30']", "prepare")
    assert classes(study) == ["yes", "no", "1e5", "1-30"]


def test_new_study_goes_on_after_an_experiment_rewrote_the_roots_params(clone: Path, images: Path):
    sh(clone, "dvc", "exp", "run", "-S", "lr=1e-4", "fetch")
    sh(clone, *PYTHON, "new-study", "mine", str(images))
    assert parse((clone / "studies/mine/params.yaml").read_text())["lr"] == 1e-4


def test_a_study_with_a_given_validation_set_runs_to_its_report(clone: Path, images: Path):
    sh(clone, *PYTHON, "new-study", "mine", str(images))
    study = clone / "studies/mine"
    sh(study, "dvc", "repro")
    index = (study / "data/prepared/index.csv").read_text().splitlines()[1:]
    assert sum(line.startswith("val,") for line in index) == sum("Validation/" in line for line in index) == 16
    assert "16 others validate" in (study / "models/MODEL_CARD.md").read_text()
    page = (study / "report/index.html").read_text()
    assert "of the validation images have a copy in Training" in page and "Validation" in page
