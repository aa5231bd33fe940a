"""Two of everything at once, on one clone: neither spoils the other's outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import STAGES, TINY, dvc_environment, set_params
from faulting import differing, listing, locked, run

RATES = ["0.01", "0.001", "0.0001"]


@pytest.mark.fault("two runs at once", commands=3 * len(STAGES))
def test_two_repros_on_one_clone_end_with_the_outputs_of_one(repository: Path):
    expected, files = locked(repository), listing(repository / "metrics")
    words = ["dvc", "repro", "--force"]
    both = [
        subprocess.Popen(words, cwd=repository, env=dvc_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    ended = [(child.communicate(timeout=300), child.returncode) for child in both]
    assert 0 in [status for _, status in ended]
    for (out, err), status in ended:
        assert status == 0 or b"lock" in (out + err).lower(), out + err
    done = run(["dvc", "repro", "--quiet"], repository, PATH=dvc_environment()["PATH"])
    assert done.status == 0, done.err
    assert locked(repository) == expected and differing(files, listing(repository / "metrics")) == []


@pytest.mark.fault("two runs at once", commands=3)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "train" else pytest.mark.slow)
        for name in STAGES
        if name not in ("fetch", "prepare")  # DVC's lock is theirs
    ],
)
def test_a_stage_twice_at_once_ends_with_the_outputs_of_one(tiny_study: Path, tmp_path: Path, name: str):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    words = [sys.executable, "-m", f"stages.{name}"]
    environment = dvc_environment() | {"PYTHONPATH": str(Path(__file__).parents[2]), "BRAINMRI_WORKERS": "1"}
    both = [subprocess.Popen(words, cwd=study, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [(child.communicate(timeout=120)[1], child.returncode) for child in both]
    assert 0 in [status for _, status in ended]
    for err, _ in ended:
        assert b"Traceback" not in err, err.decode()
    assert run(words, study).status == 0
    assert differing(listing(tiny_study), listing(study)) == []


@pytest.mark.slow
@pytest.mark.fault("two runs at once", commands=(1 + len(RATES)) * len(STAGES))
def test_a_queue_with_two_workers_gives_each_experiment_its_own_outputs(tmp_path: Path):
    root = Path(__file__).parents[2]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    set_params(clone, **TINY)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qam", "tiny"], cwd=clone, check=True)
    run_dvc = lambda *words: subprocess.run(  # noqa: E731
        ["dvc", *words], cwd=clone, env=dvc_environment(), capture_output=True, text=True, timeout=600
    )
    for rate in RATES:
        assert run_dvc("exp", "run", "--queue", "-S", f"lr={rate}").returncode == 0
    assert run_dvc("queue", "start", "-j", "2").returncode == 0
    end = time.monotonic() + 500
    while "Success" not in (said := run_dvc("queue", "status").stdout) or "Running" in said or "Queued" in said:
        assert time.monotonic() < end and "Failed" not in said, said
        time.sleep(3)
    shown = json.loads(run_dvc("exp", "show", "--json").stdout)
    found = {}
    for row in shown:
        for experiment in row.get("experiments") or []:
            data = experiment["revs"][0]["data"]
            found[str(data["params"]["params.yaml"]["data"]["lr"])] = data["outs"]["models/model.safetensors"]["hash"]
    assert sorted(found) == sorted(RATES) and len(set(found.values())) == len(RATES)
