"""Adopting on a small pipeline made by hand, with what training proves put in; and, slowly, on the real one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, copy_repository, dvc_environment, set_params
from test_replay import change, cross_validated, git

from commands import record

MAKE = """
import pathlib, sys
for path, text in {"models/model.safetensors": "1", "models/curves/a": "2", "models/trail/00000002.safetensors": "3",
                   "plots/trail.csv": "step\\n0\\n2\\n4\\n"}.items():
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
"""
EVALUATE = (
    "import pathlib\npathlib.Path('metrics').mkdir(exist_ok=True)\npathlib.Path('metrics/test.json').write_text('{}')\n"
)
STAGES = {
    "prepare": {"cmd": "python prepare.py", "deps": ["prepare.py"], "params": ["side"], "outs": ["data.txt"]},
    "train": {
        "cmd": "python train.py",
        "deps": ["train.py", "data.txt"],
        "params": ["lr"],
        "outs": ["models/model.safetensors", "models/curves", "models/trail"],
        "plots": [{"plots/trail.csv": {"cache": False}}],
    },
    "evaluate": {
        "cmd": "python evaluate.py",
        "deps": ["evaluate.py", "models/model.safetensors"],
        "metrics": [{"metrics/test.json": {"cache": False}}],
    },
}
# `brainmri adopt`, where training is not a network's: the trail is taken for checked. Killed at a write, if asked.
ADOPT = """
import os, pathlib, signal, sys
from commands import adopt
from commands.__main__ import main
stretches = [{"begin": 0, "end": 2, "differs": sys.argv[1].split()}]
adopt.spot.checked = lambda *_: {"faults": [], "stretches": stretches, "seed": 7, "all_stretches": 2, "all_steps": 4,
                                 "starts": [0, 2], "chance_missed": 0.0}
def killed(self, target, replace=pathlib.Path.replace, done=[]):
    done.append(target)
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, target)
    if len(done) == 2:  # both are written, the last moment
        os.kill(os.getpid(), signal.SIGKILL)
if int(sys.argv[2]):
    pathlib.Path.replace = killed
sys.exit(main(["adopt", "--spot", "1"]))
"""


def repro(folder: Path) -> str:
    command = [sys.executable, "-m", "dvc", "repro"]
    return subprocess.run(command, cwd=folder, check=True, env=dvc_environment(), capture_output=True, text=True).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of three stages, run and committed, in which a comment was added to the code of training."""
    folder = tmp_path / "one"
    folder.mkdir()
    git(folder, "init", "-q")
    for name, text in {
        "prepare.py": "open('data.txt', 'w').write('1')\n",
        "train.py": MAKE,
        "evaluate.py": EVALUATE,
        "params.yaml": "lr: 1\nside: 2\n",
        "requirements.lock": "",
        ".gitignore": "/data.txt\n/models/\n/logs/\n*.part\n",
        "dvc.yaml": yaml.safe_dump({"stages": STAGES}, sort_keys=False),
    }.items():
        (folder / name).write_text(text)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True, env=dvc_environment())
    repro(folder)
    (folder / "metrics/provenance.json").write_text('{"outputs": {}}\n')
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    change(folder, "train.py", MAKE + "# faster\n")
    return folder


def adopt(folder: Path, differs: str = "", kill: int = 0) -> tuple[int, str]:
    command = [sys.executable, "-c", ADOPT, differs, str(kill)]
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def adopted(folder: Path) -> dict:
    """Return what counts as adopted."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return record.adopted(json.loads((folder / "metrics/provenance.json").read_text()), lock)


def test_a_harmless_change_is_adopted_without_training_and_the_file_says_from_where(folder: Path):
    made = git(folder, "rev-parse", "HEAD~1").strip()
    status, said = adopt(folder)
    assert status == 0 and "adopted: commit dvc.lock and metrics/provenance.json" in said
    assert "Running stage 'prepare'" in said and "Running stage 'evaluate'" in said
    assert "Running stage 'train'" not in said
    assert git(folder, "status", "--porcelain") == " M dvc.lock\n M metrics/provenance.json\n"
    assert "Running stage" not in repro(folder)
    entry = adopted(folder)["train"]
    assert entry["from"] == made and entry["stretches"] == [[0, 2]] and entry["changed"] == ["train.py"]
    assert json.loads((folder / "metrics/provenance.json").read_text())["outputs"] == {}
    git(folder, "commit", "-qam", "adopted")
    status, said = adopt(folder)
    assert status == 0 and "nothing to adopt" in said
    change(folder, "train.py", MAKE + "# faster still\n")
    assert adopt(folder)[0] == 0 and adopted(folder)["train"]["from"] == made, "still of the run that made the weights"


def test_where_a_stretch_differs_nothing_is_written_and_the_step_is_named(folder: Path):
    status, said = adopt(folder, differs="weights optimizer")
    assert status == 1 and "the first differing step: 2 (weights, optimizer)\nnot adopted, nothing was changed" in said
    assert git(folder, "status", "--porcelain") == ""


@pytest.mark.parametrize("stage", ["prepare", "evaluate"])
def test_where_a_cheap_stage_gives_other_bits_nothing_is_written_and_the_output_is_named(folder: Path, stage: str):
    code = (folder / f"{stage}.py").read_text()
    change(folder, f"{stage}.py", code.replace("'1'", "'9'").replace("'{}'", "'{\"a\": 1}'"))
    status, said = adopt(folder)
    out = {"prepare": "data.txt", "evaluate": "metrics/test.json"}[stage]
    assert status == 1 and f"{stage}: {out} DIFFERS" in said, said
    assert git(folder, "status", "--porcelain") == ""


ADOPT_FOLDS = """
import sys
from commands import adopt
from commands.__main__ import main
stretch = {"fold": "1", "begin": 0, "end": 2, "differs": sys.argv[1].split()}
adopt.spot.trainings = adopt.locked.trainings
adopt.spot.checked = lambda *_: {"faults": [], "stretches": [stretch], "seed": 7, "all_stretches": 2, "all_steps": 4,
                                 "starts": {"0": [0], "1": [0]}, "chance_missed": 0.5}
sys.exit(main(["adopt", "--spot", "1"]))
"""


def test_folds_are_adopted_together_each_with_its_stretches_and_one_that_differs_is_named(tmp_path: Path):
    folder = cross_validated(tmp_path / "one", "")
    change(folder, "train.py", (folder / "train.py").read_text() + "# faster\n")
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for differs, status in (("weights", 1), ("", 0)):
        command = [sys.executable, "-c", ADOPT_FOLDS, differs]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        if status:
            assert "the first differing step: fold 1, 2 (weights)\nnot adopted" in done.stdout
            assert git(folder, "status", "--porcelain") == ""
    assert "Running stage" not in repro(folder)
    made = git(folder, "rev-parse", "HEAD~1").strip()
    found = {stage: (entry["from"], entry["stretches"]) for stage, entry in adopted(folder).items()}
    assert found == {"train@0": (made, []), "train@1": (made, [[0, 2]])}


def test_a_fold_that_was_trained_on_other_images_than_its_part_has_is_not_adopted(tmp_path: Path):
    folder = cross_validated(tmp_path / "one", "")
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    (dep,) = (dep for dep in lock["stages"]["train@1"]["deps"] if dep["path"].startswith("data/"))
    change(folder, "dvc.lock", (folder / "dvc.lock").read_text().replace(dep["md5"], f"{'0' * 32}.dir"))
    change(folder, "train.py", (folder / "train.py").read_text() + "# faster\n")
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", ADOPT_FOLDS, ""]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "data/prepared/folds/1 is another now (train@1)" in done.stderr
    assert git(folder, "status", "--porcelain") == ""


def command(folder: Path) -> None:
    stages = STAGES | {"train": STAGES["train"] | {"cmd": "python -B train.py"}}
    change(folder, "dvc.yaml", yaml.safe_dump({"stages": stages}, sort_keys=False))


def without_trail(folder: Path) -> None:
    stages = STAGES | {"train": {key: what for key, what in STAGES["train"].items() if key != "plots"}}
    change(folder, "dvc.yaml", yaml.safe_dump({"stages": stages}, sort_keys=False))
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    lock["stages"]["train"]["outs"] = [o for o in lock["stages"]["train"]["outs"] if o["path"] != "plots/trail.csv"]
    change(folder, "dvc.lock", yaml.safe_dump(lock))


def other_data(folder: Path) -> None:
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    next(dep for dep in lock["stages"]["train"]["deps"] if dep["path"] == "data.txt")["md5"] = "0" * 32
    change(folder, "dvc.lock", yaml.safe_dump(lock))


def lost(folder: Path) -> None:
    for path in [*folder.rglob("model.safetensors"), *(folder / ".dvc/cache/files").rglob("*")]:
        if path.is_file():
            path.chmod(0o644)
            path.unlink()


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda folder: change(folder, "params.yaml", "lr: 2\nside: 2\n"), "changed: params.yaml: lr of train;"),
        (lambda folder: change(folder, "params.yaml", "lr: 1\nside: 3\n"), "changed: params.yaml: side of prepare;"),
        (command, "changed: dvc.yaml: cmd of train;"),
        (lambda folder: change(folder, "plots/trail.csv", "step\n"), "changed: plots/trail.csv of train;"),
        (other_data, "changed: data.txt after it was used;"),
        (without_trail, "wrote no trail"),
        (
            lambda folder: change(folder, "requirements.lock", "pyyaml==0.0.1\n"),
            "pyyaml is not as in",
        ),
        (lambda folder: (folder / "train.py").write_text("1"), "git status is not clean (M train.py): commit first"),
        (lambda folder: (folder / "dvc.lock").unlink(), "git status is not clean"),
        (lost, "models/model.safetensors with hash c4ca4238a0b9 is neither in DVC's cache nor in"),
    ],
)
def test_what_cannot_be_adopted_is_one_line_and_nothing_is_written(folder: Path, harm, line: str):
    harm(folder)
    before = git(folder, "status", "--porcelain")
    status, said = adopt(folder)
    assert status == 2 and line in said and "Traceback" not in said
    assert said.count("brainmri: ") == 1
    assert git(folder, "status", "--porcelain") == before


@pytest.mark.fault("an adoption, killed", commands=3)
@pytest.mark.parametrize("moment", [1, 2, 3])
def test_killed_while_it_writes_nothing_is_half_adopted_and_the_next_one_goes_through(folder: Path, moment: int):
    """Before provenance is in its place, between the two, and once both are."""
    assert adopt(folder, kill=moment)[0] == -signal.SIGKILL
    whole = git(folder, "diff", "--name-only").split() == ["dvc.lock", "metrics/provenance.json"]
    assert whole == (moment == 3) == bool(adopted(folder))
    assert ("Running stage" not in repro(folder)) if whole else adopt(folder)[0] == 0
    assert adopted(folder) and not list(folder.rglob("*.part"))


@pytest.mark.fault("an adoption, killed", commands=40)
@pytest.mark.slow
def test_killed_at_20_random_moments_nothing_is_half_adopted(
    folder: Path, tmp_path: Path, record_property, monkeypatch
):
    record_property("cases", 20)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    begun = time.monotonic()
    assert adopt(folder, differs="weights")[0] == 1
    whole, dice = time.monotonic() - begun, random.Random(0)
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for _ in range(20):
        command = [sys.executable, "-c", ADOPT, "", "0"]
        running = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(dice.uniform(0, whole))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        changed = git(folder, "diff", "--name-only").split()
        assert changed in ([], ["metrics/provenance.json"], ["dvc.lock", "metrics/provenance.json"])
        assert bool(adopted(folder)) == ("dvc.lock" in changed)
        git(folder, "checkout", "-q", ".")
    assert adopt(folder)[0] == 0 and adopted(folder)
    assert list((tmp_path / "scratch").iterdir()) == []


# --- the pipeline itself


def run(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "commands", *words], cwd=folder, env=dvc_environment(), capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two shards by two workers"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("adopt") / "one", ("studies/", "metrics/", "plots/", "dvc.lock"))
    few = {"epochs": 2, "train.trail_steps": 2, "train.trail_checkpoints": 1, "train.shards": request.param}
    set_params(folder, **(TINY | few))
    git(folder, "init", "-q")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BRAINMRI_TRAINERS", str(request.param))
        repro(folder)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    return folder


@pytest.mark.slow
def test_a_commits_trail_holds_and_forged_weights_do_not(trained: Path):
    status, said = run(trained, "replay", "--spot", "2", "--seed", "1")
    assert status == 0 and "what was checked is the same, bit for bit" in said
    status, said = run(trained, "replay", "--spot", "2", "--json")
    assert status == 0 and '"faults": []' in said
    lost = next((trained / ".dvc/cache/files").rglob(md5_of(trained, "models/model.safetensors")[2:]))
    true = lost.read_bytes()
    lost.chmod(0o644)
    lost.write_bytes(true[:-4] + b"\0\0\0\0")
    (trained / "models/model.safetensors").rename(trained / "away")
    try:
        status, said = run(trained, "replay", "--spot", "2")
        assert status == 2 and "is neither in DVC's cache nor in" in said and "dvc pull" in said
    finally:
        lost.write_bytes(true)
        (trained / "away").rename(trained / "models/model.safetensors")


def md5_of(folder: Path, path: str) -> str:
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["train@0"]["outs"]
    return str(next(out["md5"] for out in lock if out["path"] == path))


@pytest.mark.slow
def test_a_comment_is_adopted_and_another_epsilon_is_not(trained: Path):
    optimizer = (trained / "stages/train/optimizer.py").read_text()
    change(trained, "stages/train/optimizer.py", optimizer.replace("lr=params.lr,", "lr=params.lr,\n        eps=1e-7,"))
    status, said = run(trained, "adopt", "--spot", "2")
    assert status == 1 and "the first differing step: 2 (train_loss, weights, average, optimizer)" in said
    assert git(trained, "status", "--porcelain") == ""
    change(trained, "stages/train/optimizer.py", f"{optimizer}# a comment\n")
    status, said = run(trained, "adopt", "--spot", "2")
    assert status == 0, said
    assert "Running stage" not in repro(trained)
    changed = git(trained, "status", "--porcelain").split()
    assert "dvc.lock" in changed and "metrics/provenance.json" in changed and len(changed) == 4
    assert adopted(trained)["train@0"]["changed"] == ["stages/train"]
