"""Whatever is neither a parameter nor a dependency changes no bit of any output."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from conftest import ROOT, STAGES, make_study, run_stages

# Listings of folders come in the order of the file system, which is nobody's promise: here, in reverse.
REVERSED = """
import os
listdir, scandir = os.listdir, os.scandir

class Entries:
    def __init__(self, found): self.left = iter(found)
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def __iter__(self): return self
    def __next__(self): return next(self.left)
    def close(self): pass

def entries(*where):
    with scandir(*where) as found:
        return Entries(sorted(found, key=lambda entry: entry.name, reverse=True))

os.listdir, os.scandir = lambda *where: sorted(listdir(*where), reverse=True), entries
"""


def hashes(study: Path) -> dict[str, str]:
    """Return the digest of every file that the stages wrote, by path; logs are no outputs."""
    files = [
        path
        for path in study.rglob("*")
        if path.is_file() and "logs" not in path.parts and ".checkpoints" not in path.parts
    ]
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def test_same_bits_in_another_folder_with_other_workers_cores_hash_seed_time_zone_locale_home_umask_and_listings(
    tiny_study: Path, tmp_path: Path
):
    other = make_study(tmp_path / "été with spaces" / "study")
    one_core = ("taskset", "-c", str(min(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(REVERSED)
    before = os.umask(0o077)
    try:
        run_stages(
            STAGES,
            other,
            prefix=one_core,
            BRAINMRI_WORKERS="8",
            PYTHONHASHSEED="7",
            TZ="Asia/Kathmandu",
            LANG="de_DE.UTF-8",
            PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path / 'site'}",
            HOME=str(tmp_path),
            USER="somebody",
            OMP_NUM_THREADS="5",
        )
    finally:
        os.umask(before)
    first, second = hashes(tiny_study), hashes(other)
    assert "models/model.safetensors" in first and "metrics/test.json" in first
    assert [path for path in first | second if first.get(path) != second.get(path)] == []


def test_scores_pictures_and_report_are_the_same_bytes_with_other_cpu_features_switched_off(
    tiny_study: Path, tmp_path: Path
):
    other = tmp_path / "study"
    shutil.copytree(tiny_study, other)
    features = {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-ERMS",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3",
    }
    run_stages(["evaluate", "report"], other, **features)
    first, second = hashes(tiny_study), hashes(other)
    assert "report/index.html" in first and "plots/roc.svg" in first and "models/predictor.json" in first
    assert [path for path in first | second if first.get(path) != second.get(path)] == []


def test_no_output_tells_where_or_when_it_was_made(tiny_study: Path):
    import socket

    secrets = [
        str(tiny_study.parent).encode(),
        socket.gethostname().encode() if len(socket.gethostname()) > 5 else b"\0none\0",
    ]
    for path in hashes(tiny_study):
        data = (tiny_study / path).read_bytes()
        assert not any(secret in data for secret in secrets), path
