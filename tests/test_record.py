from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT

from commands import locked, record
from commands.__main__ import main
from stages.dialect import parse, written

STUDIES = [path.parent for path in (ROOT / "dvc.lock", *sorted(ROOT.glob("studies/*/dvc.lock")))]
OUTPUTS = {"prepare": {"data/prepared": "1.dir"}, "train": {"models/model.safetensors": "2", "models/curves": "3.dir"}}
HERE, THERE = {"cpu": "this one", "gpu": None}, {"cpu": "another", "gpu": None}


def write_lock(outputs: dict[str, dict[str, str]]) -> None:
    stages = {s: {"outs": [{"path": p, "md5": h} for p, h in hashes.items()]} for s, hashes in outputs.items()}
    stages["train"]["params"] = {"params.yaml": {"device": "cpu", "precision": "fp32", "threads": 2, "lr": 0.1}}
    Path("dvc.lock").write_text(written({"stages": stages}))


def write_log(stage: str, outputs: dict[str, str], environment: dict) -> None:
    Path("logs").mkdir(exist_ok=True)
    Path(f"logs/{stage}.json").write_text(json.dumps(environment | {"seconds": 1.5, "outputs": outputs}))


def provenance() -> dict:
    return json.loads(Path("metrics/provenance.json").read_text())


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_what_is_committed_speaks_of_the_outputs_in_the_lock_beside_it(study: Path):
    outputs = {
        stage: {out["path"]: out["md5"] for out in entry.get("outs", [])}
        for stage, entry in locked.stages(study).items()
    }
    known = json.loads((study / "metrics/provenance.json").read_text())
    assert known["outputs"] == outputs, f"stand in {study} and run `brainmri record`"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_lock(OUTPUTS)
    for stage, outputs in OUTPUTS.items():
        write_log(stage, outputs, HERE)
    return tmp_path


def test_outputs_are_recorded_with_the_environment_that_made_them_and_no_time(study: Path):
    assert main(["record"]) == 0
    assert provenance() == {
        "outputs": OUTPUTS,
        "environments": [HERE | {"stages": ["prepare", "train"]}],
        "settings": {"device": "cpu", "precision": "fp32", "threads": 2},
    }


def test_the_same_bits_on_another_machine_leave_the_file_alone(study: Path):
    main(["record"])
    before = Path("metrics/provenance.json").read_bytes()
    for stage, outputs in OUTPUTS.items():
        write_log(stage, outputs, THERE)
    main(["record"])
    assert Path("metrics/provenance.json").read_bytes() == before


def test_other_bits_are_recorded_for_the_stage_that_made_them_and_the_rest_is_kept(study: Path):
    main(["record"])
    changed = OUTPUTS | {"train": {"models/model.safetensors": "9", "models/curves": "3.dir"}}
    write_lock(changed)
    write_log("train", changed["train"], THERE)
    Path("logs/prepare.json").unlink()
    main(["record"])
    assert provenance()["environments"] == [HERE | {"stages": ["prepare"]}, THERE | {"stages": ["train"]}]


def test_no_machine_is_named_for_what_came_from_the_cache(study: Path):
    write_lock(
        OUTPUTS | {"train": {"models/model.safetensors": "9", "models/curves": "3.dir"}}
    )  # the log has other bits
    main(["record"])
    assert provenance()["environments"] == [HERE | {"stages": ["prepare"]}]


def test_a_stage_that_came_from_the_cache_is_added_when_its_log_is_there_and_the_rest_is_kept(study: Path):
    train = Path("logs/train.json").read_bytes()
    Path("logs/train.json").unlink()
    main(["record"])
    assert provenance()["environments"] == [HERE | {"stages": ["prepare"]}]
    Path("logs/train.json").write_bytes(train)
    write_log("prepare", OUTPUTS["prepare"], THERE)
    main(["record"])
    assert provenance()["environments"] == [HERE | {"stages": ["prepare", "train"]}]


def test_a_folder_without_a_lock_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record"]) == 1
    assert "stand in a study's folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("dvc.lock", "stages:\n  a:\n<<<<<<< HEAD\n    outs: []\n=======\n", "dvc.lock is no YAML (line "),
        ("dvc.lock", "schema: '2.0'\n", "dvc.lock has no stages"),
        ("metrics/provenance.json", '{\n<<<<<<< HEAD\n"outputs": {}}', "metrics/provenance.json is no JSON (line 2)"),
        ("metrics/provenance.json", "[]", "metrics/provenance.json: expected keys and values"),
        ("logs/train.json", '{"outputs"', "logs/train.json is no JSON (line 1)"),
    ],
)
def test_what_a_merge_left_half_done_is_one_line_and_nothing_is_written(study: Path, capsys, name, text, said):
    main(["record"])
    write_lock(OUTPUTS | {"prepare": {"data/prepared": "9.dir"}})
    Path(name).write_text(text)
    before = Path("metrics/provenance.json").read_bytes()
    assert main(["record"]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error
    assert Path("metrics/provenance.json").read_bytes() == before


def test_a_lock_file_of_the_first_stages_alone_is_recorded_as_far_as_it_goes(study: Path):
    stages = parse(Path("dvc.lock").read_text())["stages"]
    for partial in ({"prepare": stages["prepare"]}, {"prepare": stages["prepare"], "train": {"cmd": "true"}}):
        Path("dvc.lock").write_text(written({"stages": partial}))
        assert main(["record"]) == 0
        assert provenance()["outputs"]["prepare"] == OUTPUTS["prepare"]
        assert provenance()["environments"] == [HERE | {"stages": ["prepare"]}]
        assert provenance()["settings"] == {}


def test_a_stage_without_log_or_record_is_not_named():
    assert record.environments(OUTPUTS, {}, {}) == []
