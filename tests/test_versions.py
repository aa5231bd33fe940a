"""A stage depends on the version of each package that it loads, but of those without which it makes the same bits."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import DECLARED, ROOT, STAGES, run_stage
from test_only_declared import outputs

from commands.versions import packages, text
from stages.shell.provenance import locked

LOCKED = locked(ROOT / "requirements.lock")
STUDIES = [ROOT, *sorted(path.parent for path in ROOT.glob("studies/*/dvc.yaml"))]

# Modules that are loaded and can change no bit. Each stage is run without them, and its outputs must be the same.
HARMLESS = {
    "tqdm": "progress bars of the shell",
    "colorama": "torch: colours on the console",
    "pydot": "torch: pictures of graphs, which nobody asks for",
    "pynvml": "torch: how busy a GPU is",
    "pooch": "moves bytes whose digest is pinned",
    "requests": "moves bytes whose digest is pinned",
    "urllib3": "moves bytes whose digest is pinned",
    "kagglehub": "moves bytes whose digest is pinned",
    "dvc": "dvclive asks it for a repository, where there is none",
    "dvc_render": "dvclive: reports, which are off",
    "dvc_studio_client": "dvclive: a web service, which is not set up",
    "scmrepo": "dvclive asks it for the state of Git, where there is no repository",
}
UNUSED = {  # beside them, in one stage
    "backbone": {"PIL": "torchvision's transforms, which are not used"},
    "train": {"PIL": "torchvision's transforms, which are not used"},
    "card": {"PIL": "phantoms, which are not drawn: the card reads their parameters"},
}
# files that are DICOM (with any compression) or NIfTI
SCANS = "import pydicom, pydicom.pixels, jpeg_ls, imagecodecs, nibabel; imagecodecs.jpeg8_decode"
LATER = {  # what a stage loads only in other settings than those of the tiny study
    "fetch": "import pydicom",  # series: whose they are, and which are left out
    "verify": f"import faiss; {SCANS}",  # more images than verify.twins.exact_up_to
    "prepare": SCANS,
    "report": SCANS,
    # train.compile
    "train": "import torch._inductor.codegen.cpp, torch._inductor.compile_fx, torch.utils.cpp_extension",
}


@functools.cache
def owners() -> dict[str, str]:
    """Return {file: name of the distribution that brought it}, as requirements.lock spells it."""
    found = {}
    for each in metadata.distributions():
        folder = Path(str(each.locate_file(""))).resolve()
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        found |= {f"{folder}/{file}": name for file in each.files or []}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_packages_that_it_loads_and_makes_the_same_bits_without_all_others(
    stage: str, tiny_study: Path, tmp_path: Path
):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    muted = HARMLESS | UNUSED.get(stage, {})
    command = [sys.executable, str(ROOT / "tests/loading.py"), stage, str(tmp_path / "loaded"), LATER.get(stage, "")]
    done = subprocess.run(
        [*command, *muted],
        cwd=study,
        text=True,
        capture_output=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "BRAINMRI_WORKERS": "1"},
    )
    assert done.returncode == 0, done.stderr
    expected, found = outputs(stage, tiny_study), outputs(stage, study)
    assert expected and [path for path in expected | found if expected.get(path) != found.get(path)] == []
    brought = owners()
    files = [str(Path(line).resolve()) for line in (tmp_path / "loaded").read_text().splitlines()]
    loaded = {brought[file] for file in files if file in brought} - {"brainmri"}
    assert sorted(loaded) == sorted(packages(DECLARED[stage]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_each_package_once(stage: str):
    assert len(packages(DECLARED[stage])) == len(set(packages(DECLARED[stage])))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_versions_are_those_of_the_lock_and_no_other_package_is_named(study: Path):
    named = sorted({name for stage in DECLARED.values() for name in packages(stage)})
    assert (study / "versions.yaml").read_text() == text(named, LOCKED), "run `brainmri versions`"
    assert yaml.safe_load((study / "versions.yaml").read_text()) == {name: LOCKED[name] for name in named}


@pytest.mark.parametrize("name", ["ruff", "pytest", "mypy", "dvc", "kagglehub", "tqdm", "pooch", "requests"])
def test_tools_and_what_only_speaks_or_moves_bytes_are_no_dependency_of_any_stage(name: str):
    assert name in LOCKED and all(name not in packages(stage) for stage in DECLARED.values())


def test_a_stage_refuses_versions_that_are_behind_the_lock(tiny_study: Path, tmp_path: Path):
    shutil.copytree(tiny_study, tmp_path / "study")
    written = (ROOT / "versions.yaml").read_text()
    (tmp_path / "study/versions.yaml").write_text(written)
    assert run_stage("prepare", tmp_path / "study").returncode == 0
    (tmp_path / "study/versions.yaml").write_text(written.replace(f"pillow: {LOCKED['pillow']}", "pillow: '9.9'"))
    done = run_stage("prepare", tmp_path / "study")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"versions.yaml is not as requirements.lock (pillow 9.9 -> {LOCKED['pillow']})" in done.stderr


def test_a_package_that_is_not_locked_is_one_line():
    from stages.shell.errors import InputError

    with pytest.raises(InputError, match=r"requirements\.lock has no torch, which dvc\.yaml names"):
        text(["torch"], {"ruff": "1"})
