"""Replay on repositories of one small stage, made by hand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from commands import cause, low_bits, outputs
from stages.backbone import network


def git(folder: Path, *words: str) -> str:
    named = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "test")
    named |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "test@example.org")
    words = ("git", *words)
    return subprocess.run(words, cwd=folder, env=os.environ | named, check=True, capture_output=True, text=True).stdout


def repository(folder: Path, code: str) -> Path:
    """Make a repository whose one stage runs `code`, run it, and commit."""
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "make.py").write_text(code)
    (folder / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: python make.py\n    deps: [make.py]\n    outs: [out.txt]\n"
    )
    (folder / "requirements.lock").write_text("")
    (folder / ".gitignore").write_text("/out.txt\n")
    for words in (["init", "-q"], ["config", "core.analytics", "false"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, env=path())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    return folder


def path() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def start(folder: Path, *words: str, scratch: Path | None = None) -> subprocess.Popen[str]:
    environment = path() | {"PYTHONPATH": str(ROOT)} | ({"TMPDIR": str(scratch)} if scratch else {})
    command = [sys.executable, "-m", "commands", "replay", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def replay(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_true_commit_is_the_same(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, out, _ = replay(folder)
    assert status == 0 and "every output is the same" in out


def test_code_changed_without_running_it_is_named_even_where_the_output_is_the_same(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    (folder / "make.py").write_text("open('out.txt', 'w').write('1')  # faster")
    git(folder, "commit", "-qam", "faster")
    status, out, _ = replay(folder)
    assert status == 1 and "changed without running make again: make.py" in out


def test_a_hidden_input_is_called_one(tmp_path: Path):
    folder = repository(tmp_path / "one", "import time; open('out.txt', 'w').write(str(time.time_ns()))")
    status, out, _ = replay(folder, "--json")
    found = json.loads(out)
    assert status == 1 and not found["same"] and "a hidden input" in found["cause"]


SCORED = """
import json, pathlib, yaml
x = yaml.safe_load(open("params.yaml"))["x"]
pathlib.Path("metrics").mkdir(exist_ok=True), pathlib.Path("plots").mkdir(exist_ok=True)
rows = ["a,a"] * (5 + x) + ["b,a"] * (5 - x)
open("metrics/test.json", "w").write(json.dumps({"all": {"accuracy": (5 + x) / 10}}))
open("plots/confusion.csv", "w").write("\\n".join(["actual,predicted", *rows]) + "\\n")
open("out.txt", "w").write("1")
"""


def scored(folder: Path, x: int) -> Path:
    """Make a repository whose stage writes metrics that depend on a parameter."""
    repository(folder, "open('out.txt', 'w').write('1')")
    (folder / "make.py").write_text(SCORED)
    (folder / "params.yaml").write_text(f"x: {x}\n")
    (folder / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: python make.py\n    deps: [make.py]\n    params: [x]\n    outs: [out.txt]\n"
        "    metrics:\n    - metrics/test.json: {cache: false}\n    plots:\n    - plots/confusion.csv: {cache: false}\n"
    )
    return committed(folder, "scored")


def committed(folder: Path, message: str) -> Path:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, check=True, env=path())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)
    return folder


def test_metrics_diff_of_two_branches_is_what_their_replays_give(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    git(folder, "branch", "-m", "main")
    git(folder, "checkout", "-qb", "better")
    (folder / "params.yaml").write_text("x: 4\n")
    committed(folder, "better")
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "main", "better", "--json"]
    said = json.loads(
        subprocess.run(command, cwd=folder, env=path(), check=True, capture_output=True, text=True).stdout
    )
    found = {rev: json.loads(replay(folder, rev, "--json")[1]) for rev in ("main", "better")}
    accuracy = said["metrics/test.json"]["all.accuracy"]
    assert all(each["same"] for each in found.values())
    assert (accuracy["old"], accuracy["new"]) == tuple(found[rev]["now"]["accuracy"] for rev in ("main", "better"))
    assert accuracy["diff"] == pytest.approx(0.3)


def test_metrics_and_lock_forged_to_agree_are_found_out(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    metrics, lock = folder / "metrics/test.json", folder / "dvc.lock"
    before = hashlib.md5(metrics.read_bytes()).hexdigest()
    metrics.write_text('{"all": {"accuracy": 0.9999}}')
    lock.write_text(lock.read_text().replace(before, hashlib.md5(metrics.read_bytes()).hexdigest()))
    git(folder, "commit", "-qam", "forged")
    status, out, _ = replay(folder)
    assert status == 1 and "the first stage whose output differs: make (metrics/test.json)" in out
    assert "accuracy committed: 0.999900" in out and "accuracy now: 0.600000" in out


def test_weights_that_differ_in_their_low_bits_are_called_so(tmp_path: Path):
    torch.manual_seed(0)
    model, meta = network.build(2), network.Meta(["a", "b"], 32, 0.2, 0.2)
    (tmp_path / "models").mkdir()
    network.save(tmp_path / "models/model.safetensors", model, meta)
    committed = hashlib.md5((tmp_path / "models/model.safetensors").read_bytes()).hexdigest()
    cache = tmp_path / ".dvc/cache/files/md5" / committed[:2]
    cache.mkdir(parents=True)
    shutil.copy(tmp_path / "models/model.safetensors", cache / committed[2:])
    for share, small in ((1e-6, True), (0.5, False)):
        other = network.build(2)
        other.load_state_dict(model.state_dict())
        other.conv1.weight.data *= 1 + share
        network.save(tmp_path / "models/model.safetensors", other, meta)
        apart = low_bits.difference(tmp_path, tmp_path, committed)
        assert apart is not None and apart > 0 and (apart <= low_bits.TOLERANCE) == small
    assert low_bits.difference(tmp_path, tmp_path, "0" * 32) is None
    result = {"failed": False, "skipped": [], "changed_files": [], "other_versions": {}, "other_environment": []}
    result |= {"changed_code": {}, "committed": {}, "now": {}, "same": False, "rev": "1", "study": ".", "cause": "x"}
    rows = [outputs.Output("train", low_bits.WEIGHTS, "1", "2")]
    assert "low bits alone" in outputs.table(result | {"weights_differ_by": 1e-6}, rows)
    assert "more than low bits" in outputs.table(result | {"weights_differ_by": 0.1}, rows)


@pytest.mark.parametrize("study", ["/tmp", "..", "studies/none"])
def test_a_study_outside_the_commit_is_refused_and_nothing_is_run(tmp_path: Path, study: str):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, _, err = replay(folder, "--study", study)
    assert status == 1 and err.startswith("brainmri: ") and "expected" in err


def test_an_unknown_commit_and_an_unknown_stage_are_one_line(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    assert "is no commit" in replay(folder, "nowhere")[2]
    assert "--stages bake: no such stage" in replay(folder, "--stages", "bake")[2]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind_and_nothing_running(tmp_path: Path, how: signal.Signals):
    slow = "import os, time\nif 'SLOW' in os.environ:\n    time.sleep(60)\nopen('out.txt', 'w').write('1')"
    folder = repository(tmp_path / "one", slow)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    os.environ["SLOW"] = "1"
    try:
        process = start(folder, scratch=scratch)
    finally:
        del os.environ["SLOW"]
    until = time.monotonic() + 60
    while not sleeping(scratch) and time.monotonic() < until:
        time.sleep(0.1)
    assert sleeping(scratch), "the stage never began"
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(scratch.iterdir()) == [] and not sleeping(scratch)
    assert git(folder, "status", "--porcelain") == "" and git(folder, "worktree", "list").count("\n") == 1


def sleeping(scratch: Path) -> list[str]:
    """Return the processes that work below `scratch`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, where = (entry / "cmdline").read_text(), str((entry / "cwd").readlink())
        except OSError:
            continue
        if "make.py" in words and where.startswith(str(scratch)):
            found.append(words)
    return found


def test_causes_are_told_the_likeliest_first():
    code, versions, elsewhere = {"train": ["x.py"]}, {"torch": "1 -> 2"}, ["cpu: a -> b"]
    assert "x.py" in cause.cause("train", code, versions, elsewhere)
    assert "torch 1 -> 2" in cause.cause("evaluate", code, versions, elsewhere)
    assert "cpu: a -> b" in cause.cause("evaluate", code, {}, elsewhere)
    assert "the source gave other bytes" in cause.cause("fetch", {}, {}, [])
    assert "hidden input" in cause.cause("train", {}, {}, [])


def test_another_environment_than_recorded_is_told(tmp_path: Path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "logs").mkdir()
    recorded = {"environments": [{"cpu": "one", "isa": ["avx2"], "stages": ["train"]}]}
    (tmp_path / "metrics/provenance.json").write_text(json.dumps(recorded))
    (tmp_path / "logs/train.json").write_text(json.dumps({"cpu": "another", "isa": ["avx2"], "gpu": None}))
    assert cause.environment_changes(tmp_path, "train") == ["cpu: one -> another"]
    assert cause.environment_changes(tmp_path, "fetch") == []


def test_other_threads_or_another_device_are_told(tmp_path: Path):
    (tmp_path / "metrics").mkdir()
    recorded = {"outputs": {"train": {}}, "settings": {"threads": 2, "device": "cpu"}}
    (tmp_path / "metrics/provenance.json").write_text(json.dumps(recorded))
    lock = {"stages": {"train": {"params": {"params.yaml": {"threads": 4, "device": "cpu"}}}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))
    assert cause.settings_changes(tmp_path, "train") == ["threads: 2 -> 4"]
