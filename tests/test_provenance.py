from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from stages.shell import provenance


def test_cpu_names_family_and_model():
    assert "family" in provenance.cpu() and "model" in provenance.cpu() and "None" not in provenance.cpu()


def test_another_version_than_locked_is_found_and_a_package_that_is_not_installed_is_not(tmp_path: Path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1 \\\n    --hash=sha256:0\nno-such-package==1.0 \\\n    --hash=sha256:0\n")
    assert list(provenance.other_versions(lock)) == ["numpy"]
    assert provenance.other_versions(lock)["numpy"].startswith("0.0.1 -> ")
    assert provenance.other_versions(tmp_path / "none") == {}


def test_a_stage_says_loudly_that_a_version_is_not_as_locked_and_logs_it(tmp_path: Path):
    code = f"""
from pathlib import Path
from stages.shell import provenance
from stages.shell.running import run
provenance.LOCK = Path({str(tmp_path / "requirements.lock")!r})
run("fetch", lambda: None)
"""
    (tmp_path / "requirements.lock").write_text("numpy==0.0.1 \\\n    --hash=sha256:0\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "fetch: numpy is not as in requirements.lock (0.0.1 -> " in done.stderr
    assert "numpy" in json.loads((tmp_path / "logs/fetch.json").read_text())["other_versions"]


def test_a_folder_is_hashed_as_dvc_hashes_it(tmp_path: Path):
    (tmp_path / "a-b").mkdir()
    for name in ("a-b/x", "a", "é"):
        (tmp_path / name).write_text(name)
    from dvc.repo import Repo

    repo = Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / "data").mkdir()
    for name in ("a-b", "a", "é"):
        (tmp_path / name).rename(tmp_path / "data" / name)
    (out,) = repo.add(str(tmp_path / "data"))[0].outs
    assert out.hash_info.value == provenance.dvc_hash(tmp_path / "data")


@pytest.mark.parametrize(
    ("line", "driver"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
            "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
            "550.54.15",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (builder@host)  "
            "Tue Sep 23 10:11:16 UTC 2025\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2)\n",
            "580.95.05",
        ),
        ("", None),
    ],
    ids=["proprietary", "open", "none"],
)
def test_the_driver_is_read_from_either_kernel_module(monkeypatch, line: str, driver: str | None):
    cuda = SimpleNamespace(is_initialized=lambda: True, get_device_name=lambda: "NVIDIA H100")
    backends = SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91002))
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.8"), backends=backends)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(provenance, "_text", {"/proc/driver/nvidia/version": line}.get)
    assert provenance.gpu() == {"name": "NVIDIA H100", "driver": driver, "cuda": "12.8", "cudnn": 91002}
