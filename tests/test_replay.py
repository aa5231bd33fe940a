"""Replay on repositories of one to three small stages, made by hand."""

from __future__ import annotations

import doctest
import errno
import hashlib
import io
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
import yaml
from conftest import ROOT, dvc_environment

from commands import cause, clone, ending, low_bits, outputs
from commands import replay as replaying
from commands.__main__ import main
from stages.backbone import network
from stages.dialect import parse, written


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
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, env=dvc_environment())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    return folder


def start(folder: Path, *words: str, scratch: Path | None = None) -> subprocess.Popen[str]:
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT)} | ({"TMPDIR": str(scratch)} if scratch else {})
    heard = "--default-signal=INT,TERM,HUP"  # also where the tests run under nohup or in the background
    command = ["env", heard, sys.executable, "-m", "commands", "replay", *words]
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
    assert status == 0
    assert out.endswith(", the study in the repository's root: every output is the same, bit for bit\n")


def test_standing_in_a_study_or_below_means_that_study(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    study = folder / "studies/mine"
    study.mkdir(parents=True)
    for name in ("make.py", "dvc.yaml", ".gitignore"):
        shutil.copy(folder / name, study)
    (study / "make.py").write_text("open('out.txt', 'w').write('mine')")
    committed(study, "a study")
    status, out, _ = replay(study)
    assert status == 0 and "Running stage 'make'" in out
    assert out.endswith(", study studies/mine: every output is the same, bit for bit\n")
    (folder / "notes").mkdir()
    (study / "plots").mkdir()
    for where, words, name in (
        (study, ["--study", "."], "."),
        (folder / "notes", [], "."),
        (study / "plots", [], "studies/mine"),
    ):
        status, out, _ = replay(where, "--json", *words)
        assert status == 0 and json.loads(out)["study"] == name


def test_an_experiment_is_replayed_by_the_name_that_dvc_gave_it(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    words = ["exp", "run", "-q", "-S", "x=2", "--name", "rarer-fond"]
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, env=dvc_environment())
    listed = [sys.executable, "-m", "dvc", "exp", "list", "--sha-only"]
    status, out, _ = replay(folder, "rarer-fond", "--json")
    assert status == 0
    assert json.loads(out)["rev"] == subprocess.check_output(listed, cwd=folder, text=True).strip()


def test_code_changed_without_running_it_is_named_even_where_the_output_is_the_same(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    change(folder, "make.py", "open('out.txt', 'w').write('1')  # faster")
    status, out, _ = replay(folder)
    assert status == 2 and "changed without running make again: make.py" in out


def test_a_parameter_and_a_command_changed_without_running_are_named_even_where_no_output_differs(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    (folder / "make.py").write_text("open('out.txt', 'w').write('1')")
    declared = parse((folder / "dvc.yaml").read_text())["stages"]["make"]
    stage = {key: declared[key] for key in ("cmd", "deps", "params", "outs")}
    (folder / "dvc.yaml").write_text(written({"stages": {"make": stage}}))
    committed(folder, "reads no parameter")
    change(folder, "params.yaml", "x: 2\n")
    status, out, _ = replay(folder)
    assert status == 2 and "make   out.txt" in out and "DIFFERS" not in out
    assert "changed without running make again: params.yaml: x\n" in out
    change(folder, "dvc.yaml", written({"stages": {"make": stage | {"cmd": "python -B make.py"}}}))
    status, out, _ = replay(folder, "--stages", "make")
    assert status == 2 and "changed without running make again: params.yaml: x, dvc.yaml: cmd\n" in out


def test_a_parameter_changed_without_running_is_the_cause_and_not_a_hidden_input(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    change(folder, "params.yaml", "x: 2\n")
    status, out, _ = replay(folder)
    assert status == 2 and "the likely cause: changed without running make again: params.yaml: x\n" in out


def test_a_metric_that_is_not_the_one_in_the_lock_file_is_named(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    change(folder, "metrics/test.json", '{"accuracy": 0.9999}')
    status, out, _ = replay(folder)
    assert status == 2 and "changed without running make again: metrics/test.json\n" in out
    assert "accuracy committed: 0.999900" in out and "accuracy now: 0.600000" in out


def test_a_hidden_input_is_called_one(tmp_path: Path):
    folder = repository(tmp_path / "one", "import time; open('out.txt', 'w').write(str(time.time_ns()))")
    status, out, _ = replay(folder, "--json")
    found = json.loads(out)
    assert status == 1 and not found["same"] and "a hidden input" in found["cause"]


def test_another_package_version_is_told_and_is_the_likely_cause_where_bits_differ(tmp_path: Path):
    for name, code, differs in (("same", "'1'", False), ("other", "str(time.time_ns())", True)):
        folder = repository(tmp_path / name, f"import time; open('out.txt', 'w').write({code})")
        change(folder, "requirements.lock", "pyyaml==0.0.1\n")
        status, out, _ = replay(folder)
        assert status == int(differs)
        assert f"other version than requirements.lock: pyyaml 0.0.1 -> {yaml.__version__}\n" in out
        assert ("the likely cause: other package versions than requirements.lock: pyyaml 0.0.1" in out) == differs


def test_a_file_that_git_has_and_no_stage_declares_is_told_as_git_tells_it(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1'); open('notes.txt', 'w').write('1')")
    change(folder, "notes.txt", "2")
    status, out, _ = replay(folder, "--json")
    found = json.loads(out)
    assert status == 1 and not found["same"] and found["changed_files"] == [" M notes.txt"]


def chain(folder: Path) -> Path:
    """Make a repository of three stages, one after another, of which the second can fail, and one apart."""
    repository(folder, "open('out.txt', 'w').write('1')")
    copy = "open(sys.argv[2], 'w').write(open(sys.argv[1]).read())"
    (folder / "copying.py").write_text(f"import os, sys\nif 'FAIL' in os.environ:\n    sys.exit('torn')\n{copy}\n")
    stages = parse((folder / "dvc.yaml").read_text())["stages"]
    stages |= {
        "first": {"cmd": "python copying.py out.txt one.txt", "deps": ["copying.py", "out.txt"], "outs": ["one.txt"]}
    }
    stages |= {"second": {"cmd": "cp one.txt two.txt", "deps": ["one.txt"], "outs": ["two.txt"]}}
    stages |= {"apart": {"cmd": "cp copying.py three.txt", "deps": ["copying.py"], "outs": ["three.txt"]}}
    (folder / "dvc.yaml").write_text(written({"stages": stages}))
    return committed(folder, "chain")


def test_what_a_failed_stage_and_those_after_it_did_not_make_is_not_called_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = chain(tmp_path / "one")
    monkeypatch.setenv("FAIL", "1")
    status, out, _ = replay(folder, "--json", "--stages", "second")
    found = json.loads(out)
    assert status == 2 and found["failed"] and found["skipped"] == ["second"] and "cause" not in found
    assert {each["path"]: bool(each["now"]) for each in found["outputs"]} == {
        "out.txt": True,
        "one.txt": False,
        "two.txt": False,
    }
    assert replay(folder, "--stages", "second")[1].count("NOT MADE") == 2


def test_stages_makes_those_and_what_they_need_and_no_other(tmp_path: Path):
    status, out, _ = replay(chain(tmp_path / "one"), "--json", "--stages", "first")
    found = json.loads(out)
    assert status == 0 and found["same"] and found["skipped"] == []
    assert [(each["stage"], each["same"]) for each in found["outputs"]] == [("make", True), ("first", True)]


@pytest.mark.parametrize(
    ("said", "finished"),
    [
        ("Running stage 'a':\nERROR: failed to reproduce 'b': missing data 'source': x", ["a"]),
        ("Running stage 'a':\n\nRunning stage 'x/dvc.yaml:b':\nERROR: failed to reproduce 'x/dvc.yaml:b': torn", ["a"]),
        ("Running stage 'a':\n\nRunning stage 'b':\nKilled", ["a"]),
        ("ERROR: cannot lock", []),
    ],
)
def test_a_stage_that_failed_did_not_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, finished: list[str]
):
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/__main__.py").write_text(f"import sys; sys.exit(print({said!r}) or 1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ran = clone.repro(tmp_path, [], io.StringIO())
    assert ran.failed and ran.finished == finished


SCORED = """
import json, pathlib, yaml
x = yaml.safe_load(open("params.yaml"))["x"]
pathlib.Path("metrics").mkdir(exist_ok=True), pathlib.Path("plots").mkdir(exist_ok=True)
rows = ["a,a"] * (5 + x) + ["b,a"] * (5 - x)
open("metrics/test.json", "w").write(json.dumps({"accuracy": (5 + x) / 10}))
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


def change(folder: Path, name: str, text: str) -> None:
    """Commit another text of a file without running anything."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-qm", "changed by hand")


def committed(folder: Path, message: str) -> Path:
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, check=True, env=dvc_environment())
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
        subprocess.run(command, cwd=folder, env=dvc_environment(), check=True, capture_output=True, text=True).stdout
    )
    found = {rev: json.loads(replay(folder, rev, "--json")[1]) for rev in ("main", "better")}
    accuracy = said["metrics/test.json"]["accuracy"]
    assert all(each["same"] for each in found.values())
    assert (accuracy["old"], accuracy["new"]) == tuple(found[rev]["now"]["accuracy"] for rev in ("main", "better"))
    assert accuracy["diff"] == pytest.approx(0.3)


def test_metrics_and_lock_forged_to_agree_are_found_out(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    metrics, lock = folder / "metrics/test.json", folder / "dvc.lock"
    before = hashlib.md5(metrics.read_bytes()).hexdigest()
    metrics.write_text('{"accuracy": 0.9999}')
    lock.write_text(lock.read_text().replace(before, hashlib.md5(metrics.read_bytes()).hexdigest()))
    git(folder, "commit", "-qam", "forged")
    status, out, _ = replay(folder)
    assert status == 1 and "the first stage whose output differs: make (metrics/test.json)" in out
    assert "accuracy committed: 0.999900" in out and "accuracy now: 0.600000" in out


def test_where_two_trainings_part_is_named(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    code = (
        "import os, time\nos.makedirs('plots', exist_ok=True)\nrows = ['0,0,,a,,,b', f'2,0,1.5,{time.time_ns()},,,b']\n"
    )
    header = "step,epoch,train_loss,weights,average,best,optimizer"
    code += f"open('plots/trail.csv', 'w').write('\\n'.join([{header!r}, *rows]) + '\\n')\n"
    (folder / "make.py").write_text(code)
    stage = {"cmd": "python make.py", "deps": ["make.py"], "plots": [{"plots/trail.csv": {"cache": False}}]}
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    stages["make"]["cmd"] = "touch out.txt"
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages | {"train": stage}}))
    status, out, _ = replay(committed(folder, "a trail"))
    assert status == 1 and "the first step of the trail that differs: 2 (weights)\n" in out


FOLD = """
import os, pathlib, sys, time
part = sys.argv[1]
hashes = "b" if part == "/folds/0" else str(time.time_ns()) if "HIDDEN" in pathlib.Path("make.py").read_text() else "c"
for path, text in {f"plots{part}/trail.csv": "HEADER\\n0,0,,a,,,b\\n2,0,1.5," + hashes + ",,,b\\n",
                   f"models{part}/model.safetensors": hashes}.items():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
""".replace("HEADER", "step,epoch,train_loss,weights,average,best,optimizer")


def cross_validated(folder: Path, code: str) -> Path:
    """Make a repository in which two folds are trained on parts of one output, and looked at together."""
    repository(folder, "open('out.txt', 'w').write('1')")
    (folder / "make.py").write_text(code)
    (folder / "train.py").write_text(FOLD)
    (folder / "params.yaml").write_text('folds: {"0": /folds/0, "1": /folds/1}\n')
    (folder / ".gitignore").write_text("/data/\n/models/\n/seen.txt\n")
    make = "import pathlib\nfor n in '01':\n    path = pathlib.Path(f'data/prepared/folds/{n}/a')\n"
    make += "    path.parent.mkdir(parents=True, exist_ok=True)\n    path.write_text(n)\n"
    (folder / "make.py").write_text(make + code)
    train = {
        "cmd": 'python train.py "${item}"',
        "deps": ["train.py", "data/prepared${item}"],
        "outs": ["models${item}/model.safetensors"],
        "plots": [{"plots${item}/trail.csv": {"cache": False}}],
    }
    stages = {"make": {"cmd": "python make.py", "deps": ["make.py"], "outs": ["data/prepared"]}}
    stages["train"] = {"foreach": "${folds}", "do": train}
    stages["look"] = {"cmd": "cat models/folds/*/* > seen.txt", "deps": ["models/folds"], "outs": ["seen.txt"]}
    (folder / "dvc.yaml").write_text(written({"stages": stages}))
    return committed(folder, "two folds")


def test_every_fold_is_replayed_by_the_name_of_all_or_its_own_with_what_it_needs(tmp_path: Path):
    folder = cross_validated(tmp_path / "one", "")
    for asked, trained in ((["train"], ["train@0", "train@1"]), (["train@1"], ["train@1"]), (["look"], None)):
        status, out, _ = replay(folder, "--json", "--stages", *asked)
        found = json.loads(out)
        stages = list(dict.fromkeys(each["stage"] for each in found["outputs"]))
        assert status == 0 and found["same"] and "trainings_part_at" not in found
        assert sorted(stages) == sorted(["make", *(trained or ["train@0", "train@1", "look"])])


def test_of_several_trainings_the_fold_that_parts_is_named(tmp_path: Path):
    folder = cross_validated(tmp_path / "one", "# HIDDEN\n")
    status, out, _ = replay(folder)
    assert status == 1 and "the first step of fold 1's trail that differs: 2 (weights)\n" in out
    assert "the first stage whose output differs: train@1 (models/folds/1/model.safetensors)" in out


def test_a_commit_whose_lock_file_has_the_stages_older_name_is_no_proof_and_says_what_never_ran(tmp_path: Path):
    folder = cross_validated(tmp_path / "one", "")
    lock = (folder / "dvc.lock").read_text()
    change(folder, "dvc.lock", lock.replace("  train@1:\n", "  train:\n"))
    status, out, _ = replay(folder)
    assert status == 2 and "changed without running train@1 again" in out
    status, out, err = replay(folder, "--spot", "1")
    assert status == 2 and "wrote no trail" in err and err.count("\n") == 1
    change(folder, "dvc.lock", f"{lock}  train:\n    cmd: python -m stages.train\n")
    status, out, _ = replay(folder)
    assert status == 0 and "stage train did not run" not in out, out  # DVC passes over it


def test_spot_and_stages_do_not_go_together(tmp_path: Path, capsys):
    assert main(["replay", "--spot", "1", "--stages", "train"]) == 2
    assert "--spot and --stages: give one of them" in capsys.readouterr().err


def test_a_commit_without_a_trail_is_one_line(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, out, err = replay(folder, "--spot", "1")
    assert status == 2 and out == "" and "wrote no trail" in err and err.count("\n") == 1


def test_scores_of_a_stage_that_did_not_run_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = scored(tmp_path / "one", 1)
    (folder / "make.py").write_text("import os\nif 'FAIL' in os.environ:\n    raise SystemExit(1)\n" + SCORED)
    stages = parse((folder / "dvc.yaml").read_text())["stages"]
    stages = {"apart": {"cmd": "cp params.yaml apart.txt", "deps": ["params.yaml"], "outs": ["apart.txt"]}} | stages
    (folder / "dvc.yaml").write_text(written({"stages": stages}))
    committed(folder, "two stages")
    status, out, _ = replay(folder, "--stages", "apart")
    assert status == 0 and "accuracy" not in out
    monkeypatch.setenv("FAIL", "1")
    status, out, _ = replay(folder)
    assert status == 2 and "accuracy committed: 0.600000" in out and "accuracy now" not in out


def test_weights_that_differ_in_their_low_bits_are_called_so(tmp_path: Path):
    torch.manual_seed(0)
    model, meta = network.build(2), network.Meta(["a", "b"], 32, 0.2, 0.2)
    (tmp_path / "models").mkdir()
    network.save(tmp_path / "models/model.safetensors", model, meta)
    committed = hashlib.md5((tmp_path / "models/model.safetensors").read_bytes()).hexdigest()
    cache = tmp_path / ".dvc/cache/files/md5" / committed[:2]
    cache.mkdir(parents=True)
    shutil.copy(tmp_path / "models/model.safetensors", cache / committed[2:])
    weights = "models/model.safetensors"
    for share, small in ((1e-6, True), (0.5, False)):
        other = network.build(2)
        other.load_state_dict(model.state_dict())
        other.conv1.weight.data *= 1 + share
        network.save(tmp_path / "models/model.safetensors", other, meta)
        apart = low_bits.difference(tmp_path, tmp_path, weights, committed)
        assert apart is not None and apart > 0 and (apart <= low_bits.TOLERANCE) == small
    assert low_bits.difference(tmp_path, tmp_path, weights, "0" * 32) is None
    result = {"failed": False, "skipped": [], "changed_files": [], "other_versions": {}, "other_environment": []}
    result |= {"changed_code": {}, "committed": {}, "now": {}, "same": False, "rev": "1", "study": ".", "cause": "x"}
    rows = [outputs.Output("train@0", weights, "1", "2")]
    assert "low bits alone" in outputs.table(result | {"weights_differ_by": 1e-6}, rows)
    assert "more than low bits" in outputs.table(result | {"weights_differ_by": 0.1}, rows)


@pytest.mark.parametrize("study", ["/tmp", "..", "studies/none"])
def test_a_study_outside_the_commit_is_refused_and_nothing_is_run(tmp_path: Path, study: str):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, _, err = replay(folder, "--study", study)
    assert status == 2 and err.startswith("brainmri: ") and "expected" in err


def test_an_unknown_commit_and_an_unknown_stage_are_one_line(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    for words, line in ((["nowhere"], "is no commit"), (["--stages", "bake"], "--stages bake: no such stage")):
        status, _, err = replay(folder, *words)
        assert status == 2 and line in err and err.count("\n") == 1
    change(folder, "dvc.yaml", "stages: [\n")
    status, _, err = replay(folder)
    assert status == 2 and err.startswith("brainmri: DVC cannot read the commit's dvc.yaml: ")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("dvc.lock", "<<<<<<< HEAD\nstages: {}\n", "the commit's dvc.lock is no YAML (line 2)"),
        ("dvc.lock", "schema: '2.0'\n", "the commit's dvc.lock has no stages"),
        ("metrics/provenance.json", "<<<<<<< HEAD\n{}\n", "metrics/provenance.json is no JSON (line 1)"),
    ],
)
def test_what_was_committed_in_the_middle_of_a_merge_is_one_line_before_anything_is_run(
    tmp_path: Path, name: str, text: str, said: str
):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    change(folder, name, text)
    status, out, err = replay(folder)
    assert status == 2 and said in err and err.count("\n") == 1 and out == ""


def test_metrics_that_were_committed_damaged_are_named_and_no_accuracy_is_told(tmp_path: Path):
    folder = scored(tmp_path / "one", 1)
    change(folder, "metrics/test.json", "<<<<<<< HEAD\n")
    status, out, _ = replay(folder)
    assert status == 2 and "changed without running make again: metrics/test.json\n" in out
    assert "accuracy committed" not in out and "accuracy now: 0.600000" in out


def test_outside_a_repository_is_one_line(tmp_path: Path):
    status, _, err = replay(tmp_path)
    assert status == 2 and err.startswith("brainmri: fatal: not a git repository") and err.count("\n") == 1


def test_an_error_of_our_own_is_not_taken_for_other_bits(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(replaying, "unwind_when_ended", lambda: None)
    monkeypatch.setattr(replaying, "find_root", lambda: {}["x"])
    assert main(["replay"]) == 2 and "KeyError" in capsys.readouterr().err


def test_a_disk_that_is_full_is_one_line_and_not_taken_for_other_bits(monkeypatch: pytest.MonkeyPatch, capsys):
    def full() -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/clone")

    monkeypatch.setattr(replaying, "unwind_when_ended", lambda: None)
    monkeypatch.setattr(replaying, "find_root", full)
    assert main(["replay"]) == 2
    said = "brainmri: replay: /tmp/clone: No space left on device; mend that and run it again\n"
    assert capsys.readouterr().err == said


def test_help_says_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 if all is the same, bit for bit; 1 if outputs differ; 2 if" in said


@pytest.mark.parametrize(
    ("gave", "known", "status"),
    [(0, True, 0), (1, True, 1), (1, False, 0), (2, True, 2), (2, False, 2), (127, False, 127)],
)
def test_ci_forgives_other_bits_on_an_unknown_cpu_and_nothing_else(tmp_path: Path, gave: int, known: bool, status: int):
    """`.ci/run` itself, where make does nothing and brainmri only exits."""
    for name in ("docs", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "docs/reproducibility.md").write_text(f"| {'this one' if known else 'another'} | same bits |\n")
    stubs = {
        "make": "true",
        "chromium": "true",
        "python": "echo this one",
        "brainmri": f'[ "$*" = "replay HEAD" ] && exit {gave}',
    }
    for name, does in stubs.items():
        (tmp_path / ".venv/bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    found = f"{tmp_path}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci/run"], env=os.environ | {"PATH": found}, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert bool(done.stderr) == (gave != 0)


@pytest.mark.parametrize(
    "how",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGHUP, signal.SIGTERM]],
    ids=lambda how: "+".join(each.name for each in how),
)
def test_interrupted_it_leaves_nothing_behind_and_nothing_running(tmp_path: Path, how: list[signal.Signals]):
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
    while not any("make.py" in words for words in working(scratch)) and time.monotonic() < until:
        time.sleep(0.1)
    assert any("dvc\0repro" in words for words in working(scratch)), "the stage never began"
    for each in how:
        process.send_signal(each)
        time.sleep(0.002)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(scratch.iterdir()) == [] and not working(scratch)
    assert git(folder, "status", "--porcelain") == "" and git(folder, "worktree", "list").count("\n") == 1


def test_nohup_stays_in_force(monkeypatch: pytest.MonkeyPatch):
    before = {each: signal.getsignal(each) for each in ending.ENDING}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending.unwind_when_ended()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN != signal.getsignal(signal.SIGTERM)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def working(scratch: Path) -> list[str]:
    """Return the command lines of the processes that work below `scratch`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, where = (entry / "cmdline").read_text(), str((entry / "cwd").readlink())
        except OSError:
            continue
        if where.startswith(str(scratch)):
            found.append(words)
    return found


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(cause).failed == 0


def test_causes_are_told_the_likeliest_first():
    code, versions, elsewhere = {"train": ["x.py"]}, {"torch": "1 -> 2"}, ["cpu: a -> b"]
    assert cause.cause("train", code, versions, elsewhere) == "changed without running train again: x.py"
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
