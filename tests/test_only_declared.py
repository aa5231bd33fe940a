"""Each stage runs where nothing lies but what dvc.yaml declares for it, and makes the same bits there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DECLARED, ROOT, STAGES

from stages.dialect import parse, written

# Run as `python -m` would; then name every file of ours that was loaded, also those imported inside functions.
RUN_AND_TELL = """
import runpy, sys
stage, told = sys.argv[1:]
del sys.argv[1:]
runpy.run_module(stage, run_name="__main__", alter_sys=True)
ours = [m for name, m in sys.modules.items() if name.partition(".")[0] in ("stages", "commands")]
open(told, "w").write("\\n".join(m.__file__ for m in ours if getattr(m, "__file__", None)))
"""


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what Python compiled."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def only_declared(stage: str, study: Path, folder: Path) -> tuple[Path, Path]:
    """Copy what `stage` declares and the shell, and no other; return the folders of code and study."""
    code, bare = folder / "code", folder / "study"
    copy(ROOT / "stages/shell", code / "stages/shell")  # the one exception: it changes no bit
    for dep in DECLARED[stage]["deps"]:
        ours = dep.removeprefix("${root}/")
        copy(*((ROOT / ours, code / ours) if ours != dep else (study / dep, bare / dep)))
    values = parse((study / "params.yaml").read_text())
    bare.mkdir(exist_ok=True)
    params = {key: values[key] for key in DECLARED[stage]["params"] if isinstance(key, str)}
    (bare / "params.yaml").write_text(written(params))
    return code, bare


def outputs(stage: str, study: Path) -> dict[str, bytes]:
    """Return the bytes of every file below the outputs that `stage` declares."""
    entry = DECLARED[stage]
    named = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    tops = [study / (out if isinstance(out, str) else next(iter(out))) for out in named]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    return {str(file.relative_to(study)): file.read_bytes() for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_needs_nothing_but_what_it_declares_and_loads_no_other_code(
    stage: str, tiny_study: Path, tmp_path: Path
):
    code, bare = only_declared(stage, tiny_study, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_TELL, f"stages.{stage}", str(tmp_path / "loaded")],
        cwd=bare,
        text=True,
        capture_output=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    loaded = [Path(line) for line in (tmp_path / "loaded").read_text().splitlines()]
    assert loaded and [str(path) for path in loaded if not path.is_relative_to(code)] == []
    expected, found = outputs(stage, tiny_study), outputs(stage, bare)
    assert expected and [path for path in expected | found if expected.get(path) != found.get(path)] == []
