from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from stages import provenance


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
from stages import provenance, runtime
provenance.LOCK = Path({str(tmp_path / "requirements.lock")!r})
runtime.run("fetch", lambda: None)
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
