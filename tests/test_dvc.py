"""The three commands that people type, on a small copy of the repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, STAGES, TINY, copy_repository, dvc_environment, set_params

from commands import dvc_project
from stages.dialect import parse
from stages.files import read_figures


def sh(folder: Path, *words: str) -> str:
    environment = dvc_environment() | dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "test")
    environment |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "test@example.org")
    done = subprocess.run(words, cwd=folder, text=True, capture_output=True, env=environment, timeout=500)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it stands, with a tiny default study that was run and committed."""
    folder = copy_repository(tmp_path_factory.mktemp("clone") / "repository", ("dvc.lock",))
    set_params(folder, **TINY)
    sh(folder, "git", "init", "-q", "-b", "main")  # with no commit yet: a study needs none
    sh(folder, "dvc", "repro")
    sh(folder, "git", "add", "-A")
    sh(folder, "git", "commit", "-qm", "tiny study")
    return folder


def test_nothing_to_do_runs_nothing_and_leaves_git_clean(clone: Path):
    assert "Running stage" not in sh(clone, "dvc", "repro")
    assert sh(clone, "git", "status", "--porcelain") == ""


def test_log_of_a_stage_names_its_outputs_with_the_hashes_of_the_lock_file(clone: Path):
    for stage, entry in parse((clone / "dvc.lock").read_text())["stages"].items():
        log = json.loads((clone / f"logs/{stage}.json").read_text())
        assert log["outputs"] == {out["path"]: out["md5"] for out in entry["outs"]}, stage
        assert log["packages"]["torch"] and log["cpu"] and log["pins"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_exp_run_with_another_lr_trains_and_evaluates_only_and_comes_back_from_the_run_cache(clone: Path):
    first = sh(clone, "dvc", "exp", "run", "-S", "lr=1e-5")
    assert "Running stage 'train@0'" in first and "Running stage 'evaluate'" in first
    for stage in ("fetch", "verify", "prepare", "backbone"):
        assert f"Running stage '{stage}'" not in first
    changed = read_figures(clone / "metrics/scores.csv")
    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "checkout", "-q")
    begun = time.monotonic()
    again = sh(clone, "dvc", "exp", "run", "-S", "lr=0.00001")
    # the card's output lies in Git and is no metric: DVC gives such a stage back from no cache
    assert re.findall(r"Running stage '(.*)'", again) == ["card"], "asked for twice, run twice"
    assert time.monotonic() - begun < 60
    assert read_figures(clone / "metrics/scores.csv") == changed
    sh(clone, "git", "checkout", "-q", ".")
    sh(clone, "dvc", "checkout", "-q")


def test_a_queued_experiment_runs_in_the_background(clone: Path):
    sh(clone, "dvc", "exp", "run", "--queue", "-S", "seed=1", "--name", "another-seed")
    sh(clone, "dvc", "queue", "start")
    until = time.monotonic() + 400
    while "Success" not in (status := sh(clone, "dvc", "queue", "status")):
        assert "Failed" not in status and time.monotonic() < until, status
        time.sleep(2)
    assert "another-seed" in sh(clone, "dvc", "exp", "list")
    assert sh(clone, "git", "status", "--porcelain") == "", "the workspace is not touched"


@pytest.fixture(scope="module")
def study(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in a clone of the clone, never run: its first experiment runs all of it."""
    another = tmp_path_factory.mktemp("study") / "repository"
    sh(clone, "git", "clone", "-q", str(clone), str(another))
    clone, folder = another, another / "studies/tiny"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", "versions.yaml"):
        shutil.copy(clone / name, folder)
    set_params(folder, root="../..")
    dvc_project.make(folder, clone)
    (folder / ".gitignore").write_text("/data/\n/models/*\n!/models/MODEL_CARD.md\n/logs/\n/report/\n")
    sh(clone, "git", "add", "-A")
    sh(clone, "git", "commit", "-qm", "another study")
    return folder


@pytest.mark.slow  # a minute; the same at the root, above, is not
def test_an_experiment_queued_in_a_study_runs_that_studys_pipeline(study: Path):
    sh(study, "dvc", "exp", "run", "--queue", "-S", "seed=3", "--name", "in-the-study")
    sh(study, "dvc", "queue", "start")
    until = time.monotonic() + 400
    while "Success" not in (status := sh(study, "dvc", "queue", "status")).partition("in-the-study")[2].split("\n")[0]:
        assert "Failed" not in status and time.monotonic() < until, status
        time.sleep(2)
    refs = sh(study, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (made,) = [ref for ref in refs if ref.endswith("/in-the-study")]
    changed = sh(study, "git", "diff", "--name-only", "HEAD", made).split()
    assert "studies/tiny/metrics/test.json" in changed and "metrics/test.json" not in changed


def plainly(folder: Path, remote: Path) -> None:
    """Type every plain command of DVC in a study that was run and committed; none fails, warns or speaks of another."""
    head = sh(folder, "git", "rev-parse", "HEAD")
    assert sh(folder, "dvc", "status") == "Data and pipelines are up to date.\n"
    assert sh(folder, "dvc", "repro").count("didn't change, skipping") == len(STAGES)
    assert "ERROR" not in sh(folder, "dvc", "checkout")
    sh(folder, "dvc", "remote", "add", "-d", "store", str(remote))
    assert "pushed" in sh(folder, "dvc", "push")
    shutil.rmtree(folder / "data/prepared")
    assert re.search(r"^A\s+data/prepared", sh(folder, "dvc", "pull"), re.MULTILINE)
    sh(folder, "git", "checkout", "-q", ".")
    assert sh(folder, "dvc", "dag").count("| train@0 |") == 1
    ran = sh(folder, "dvc", "exp", "run", "-S", "report.errors=3", "--name", "three-errors")
    assert "WARNING" not in ran
    sh(folder, "git", "checkout", "-q", "."), sh(folder, "dvc", "checkout", "-q")
    sh(folder, "dvc", "exp", "apply", "three-errors")
    assert "errors: 3" in (folder / "params.yaml").read_text()
    sh(folder, "dvc", "exp", "save", "--name", "kept")
    assert "kept" in sh(folder, "dvc", "exp", "list")
    sh(folder, "git", "checkout", "-q", "."), sh(folder, "dvc", "checkout", "-q")
    values = json.loads(sh(folder, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert sorted(values) == ["metrics/sensitivity.json", "metrics/test.json"], "of this study, and no other"
    assert len(sh(folder, "dvc", "exp", "show", "--csv").splitlines()[0].split(",lr")[0].split(",")) <= 5 + 16
    for words in (["dvc", "metrics", "show"], ["dvc", "metrics", "diff", "main"], ["dvc", "params", "diff", "main"]):
        assert all(len(line) <= 160 for line in sh(folder, *words).splitlines())
    assert sh(folder, "git", "rev-parse", "HEAD") == head and sh(folder, "git", "status", "--porcelain") == ""


def test_plain_commands_end_well_where_the_other_studies_were_never_run(clone: Path, tmp_path: Path):
    plainly(clone, tmp_path / "store")


@pytest.mark.slow  # a minute and a half; the same at the root, above, is not
def test_plain_commands_end_well_in_a_study(study: Path, tmp_path: Path):
    sh(study, "dvc", "repro")
    sh(study, "git", "add", "-A")
    sh(study, "git", "commit", "-qm", "the study was run")
    plainly(study, tmp_path / "store")
    assert not (study / ".dvc/cache").exists(), "the cache is the root's"


def test_compiled_files_are_never_written_where_a_study_would_hash_them(clone: Path):
    written = [path for path in (clone / "stages").rglob("__pycache__") if path.parent != clone / "stages"]
    assert written == []


def test_templates_of_every_study_are_those_of_the_root():
    for folder in ROOT.glob("studies/*/.dvc"):
        for name in ("plots", ".gitignore"):
            path = ROOT / ".dvc" / name
            for file in path.iterdir() if path.is_dir() else [path]:
                assert (folder / file.relative_to(ROOT / ".dvc")).read_bytes() == file.read_bytes()
        assert (folder.parent / ".dvcignore").read_bytes() == (ROOT / ".dvcignore").read_bytes()
        assert (folder / "config").read_text() == dvc_project.CONFIG


@pytest.mark.slow
@pytest.mark.fault("a training run, killed and resumed", commands=12)
def test_an_experiment_killed_in_its_temporary_workspace_goes_on_in_another(study: Path):
    words = ["dvc", "exp", "run", "--temp", "-S", "seed=5", "-S", "epochs=10"]
    checkpoints = study.parent.parent / ".dvc/cache/checkpoints"
    running = subprocess.Popen(words, cwd=study, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not list(checkpoints.rglob("000001-*.safetensors")):
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    running.kill()
    running.wait()
    time.sleep(1)  # in which the trainer sees that it is alone
    assert "going on from a checkpoint at epoch" in sh(study, *words)


def test_metrics_diff_between_branches_shows_the_change(clone: Path):
    sh(clone, "git", "checkout", "-qb", "hotter")
    text = (clone / "params.yaml").read_text()
    assert "lr: 0.001" in text
    (clone / "params.yaml").write_text(text.replace("lr: 0.001", "lr: 0.01"))
    sh(clone, "dvc", "repro")
    sh(clone, "git", "commit", "-qam", "hotter")
    rows = json.loads(sh(clone, "dvc", "metrics", "diff", "main", "--json"))
    assert "diff" in rows["metrics/test.json"]["log_loss"]
    assert "0.01" in sh(clone, "dvc", "exp", "show", "--csv")
    assert "index.html" in sh(clone, "dvc", "plots", "diff", "main")
    assert "index.html" in sh(clone, "dvc", "plots", "show")
    sh(clone, "git", "checkout", "-q", "main")
    sh(clone, "dvc", "checkout", "-q")


@pytest.mark.slow  # two minutes; the same on a study of a second is in test_replay.py
def test_replay_says_same_for_a_true_commit_and_names_the_stage_of_a_forged_one(clone: Path):
    done = subprocess.run(
        [sys.executable, "-m", "commands", "replay", "--json"], cwd=clone, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["same"] is True
    sh(clone, "git", "checkout", "-qb", "forged")
    import hashlib

    metrics, lock = clone / "metrics/test.json", clone / "dvc.lock"
    before = hashlib.md5(metrics.read_bytes()).hexdigest()
    metrics.write_text(metrics.read_text().replace('"accuracy": 0.', '"accuracy": 0.9', 1))
    lock.write_text(lock.read_text().replace(before, hashlib.md5(metrics.read_bytes()).hexdigest()))
    sh(clone, "git", "commit", "-qam", "a better accuracy")
    done = subprocess.run([sys.executable, "-m", "commands", "replay"], cwd=clone, text=True, capture_output=True)
    sh(clone, "git", "checkout", "-q", "main")
    assert done.returncode == 1
    assert "the first stage whose output differs: evaluate (metrics/test.json)" in done.stdout


def test_the_model_registry_gives_the_weights_by_name_and_version(clone: Path, tmp_path: Path):
    sh(clone, "dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    sh(clone, "git", "commit", "-qam", "a remote")
    sh(clone, "dvc", "push", "models/model.safetensors")
    sh(clone, "git", "tag", "-a", "resnet50@v1.0.0", "-m", "first")
    weights = (clone / "models/model.safetensors").read_bytes()
    sh(tmp_path, "dvc", "artifacts", "get", str(clone), "resnet50", "--rev", "v1.0.0")
    assert (tmp_path / "model.safetensors").read_bytes() == weights
