"""`isa` of params.yaml is in force in every library, or the stage says in one line why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_stage, set_params

import stages
from stages import params
from stages.shell.errors import InputError
from stages.train.schema import Params

IN_FORCE = """
import json, stages, numpy, scipy.linalg, torch, threadpoolctl
from numpy._core._multiarray_umath import __cpu_features__ as has
blas = {each["architecture"] for each in threadpoolctl.threadpool_info() if each["internal_api"] == "openblas"}
torch.nn.functional.conv2d(torch.rand(8, 32, 16, 16), torch.rand(32, 32, 3, 3))
print(json.dumps([torch.backends.cpu.get_cpu_capability(), has["X86_V4"], has["AVX512_ICL"], sorted(blas)]))
"""
needs_avx512 = pytest.mark.skipif(not stages.has_isa("avx512"), reason="this CPU has no AVX-512")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def python(code: str, folder: Path, **environment: str) -> str:
    return subprocess.check_output(
        [sys.executable, "-c", code], cwd=folder, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment
    )


@needs_avx512
@pytest.mark.parametrize(
    ("isa", "found"), [("avx2", ["AVX2", False, False, ["Haswell"]]), ("avx512", ["AVX512", True, False, ["SkylakeX"]])]
)
def test_numpy_openblas_and_aten_use_what_params_yaml_names(study: Path, isa: str, found: list[object]):
    set_params(study, isa=isa)
    assert json.loads(python(IN_FORCE, study)) == found


@needs_avx512
def test_onednn_computes_with_what_params_yaml_names(study: Path):
    said = {}
    for isa in ("avx2", "avx512"):
        set_params(study, isa=isa)
        said[isa] = python(IN_FORCE, study, ONEDNN_VERBOSE="1")
    assert "avx512_core" in said["avx512"] and "avx512" not in said["avx2"]


@pytest.mark.parametrize(
    ("text", "isa"),
    [
        ("isa: avx512", "avx512"),
        ("isa: 'avx512'   # faster", "avx512"),
        ("a: 1\r\nisa: avx512\nb: 2", "avx512"),
        ("isa: avx2", "avx2"),
        ("isa: sse", "avx2"),
        ("# isa: avx512", "avx2"),
        ("group:\n  isa: avx512", "avx2"),
        ("", "avx2"),
    ],
)
def test_the_key_is_read_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, isa: str):
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRAINMRI_ISA", raising=False)
    assert stages.asked_isa() == isa


def test_without_params_yaml_it_is_what_everybody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert stages.asked_isa() == "avx2"


def test_a_cpu_that_lacks_it_is_told_in_one_line(study: Path, monkeypatch: pytest.MonkeyPatch):
    set_params(study, isa="avx512")
    monkeypatch.chdir(study)
    monkeypatch.setattr(stages, "AVX512", {*stages.AVX512, "avx512nobody"})
    monkeypatch.setattr(stages, "ISA", "avx2")
    with pytest.raises(InputError, match=r"isa = 'avx512': this CPU lacks avx512bw, .*avx512nobody.*set `isa: avx2`"):
        params.load(Params)


@needs_avx512
def test_a_key_that_was_not_seen_in_time_is_refused(study: Path):
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("\nisa: avx2", '\n"isa": avx512'))
    done = run_stage("backbone", study)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "isa = 'avx512' was not in force when libraries loaded: write `isa: avx512`" in done.stderr


def test_another_name_is_refused(study: Path):
    set_params(study, isa="sse")
    done = run_stage("backbone", study)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "isa = 'sse'" in done.stderr


@needs_avx512
def test_a_variable_does_not_change_a_stages_bits_unseen(study: Path):
    done = run_stage("backbone", study, BRAINMRI_ISA="avx512")
    assert done.returncode == 1 and "isa = 'avx2' was not in force" in done.stderr


@needs_avx512
def test_predict_takes_it_from_the_study_that_it_is_asked_about(tiny_study: Path, tmp_path: Path):
    study, other = tmp_path / "study", tmp_path / "elsewhere"
    shutil.copytree(tiny_study, study)
    other.mkdir()
    set_params(study, isa="avx512")
    for stage in ("train", "evaluate"):
        done = run_stage(stage, study)
        assert done.returncode == 0, done.stderr
    assert (study / "models/model.safetensors").read_bytes() != (tiny_study / "models/model.safetensors").read_bytes()
    image = next((study / "data/raw/Testing").rglob("*.bmp"))
    command = [sys.executable, "-m", "commands", "predict", str(image), "--json", "--study"]
    said = [
        subprocess.check_output(
            [*command, str(study)], cwd=folder, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        for folder in (study, other)
    ]
    assert said[0] == said[1] and "probabilities" in said[0]
