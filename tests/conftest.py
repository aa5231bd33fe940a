"""Pins the instruction set (by importing `stages`) before any test imports NumPy or torch; makes small studies."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability import Reliability

import stages  # noqa: F401
from stages.dialect import parse, written
from stages.shell.pipeline import expanded

ROOT = Path(__file__).parent.parent
PARAMS = {key: value for key, value in parse((ROOT / "params.yaml").read_text()).items() if key != "root"}
# {stage: what dvc.yaml declares of it, `${root}` as it stands there}; the default study has one fold, so `train` is one
DECLARED = {
    stage.partition("@")[0]: entry
    for stage, entry in expanded(parse((ROOT / "dvc.yaml").read_text())["stages"], PARAMS).items()
}
STAGES = list(DECLARED)

# Small enough for a stage to take a few seconds; every other key as the default study has it.
TINY = {
    "epochs": 1,
    "batch_size": 8,
    "image_size": 32,
    "fetch.phantom.train_per_class": 12,
    "fetch.phantom.test_per_class": 6,
    "fetch.phantom.copies": {"byte": 2, "recoded": 2, "contrast": 2, "mirrored": 2},
    "verify.expected": None,
    "train.trail_checkpoints": 0,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, metavar="PAGE", help="write the table of faults there (make faults)")


def pytest_configure(config: pytest.Config) -> None:
    if page := config.getoption("--reliability"):
        config.pluginmanager.register(Reliability(page))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold a case of docs/reliability.md to its limits; a fixture's teardown would fail beside the case, not as it."""
    from faulting import limits

    marker = item.get_closest_marker("fault")
    if marker is None:
        return (yield)
    with limits(marker):
        return (yield)


def script(name: str) -> Any:
    """Return bench/<name>.py as a module; it puts `bench` and more first on sys.path, which no test should see."""
    before = sys.path.copy()
    sys.path.append(str(ROOT / "bench"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = before


def set_params(folder: Path, **changes: Any) -> None:
    """Change keys of a study's params.yaml; dots lead into groups (`{"train.ema_decay": 0}`)."""
    path = folder / "params.yaml"
    values = parse(path.read_text())
    for key, value in changes.items():
        group = values
        *outer, last = key.split(".")
        for name in outer:
            group = group[name]
        assert last in group, f"no key {key} in params.yaml"
        group[last] = value
    path.write_text(written(values))


def run_stage(
    stage: str, folder: Path, prefix: tuple[str, ...] = (), code: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m stages.<stage>` in `folder` as DVC does."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
    )


def run_stages(names: list[str], folder: Path, **options: Any) -> None:
    for name in names:
        done = run_stage(name, folder, **options)
        assert done.returncode == 0, f"{name}: {done.stderr}"


def make_study(folder: Path, **changes: Any) -> Path:
    """Make a tiny study's folder with its params.yaml."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    set_params(folder, **(TINY | changes))
    return folder


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny study with every stage run once. Read it, or copy it; do not change it."""
    folder = make_study(tmp_path_factory.mktemp("tiny") / "study")
    run_stages(STAGES, folder, BRAINMRI_WORKERS="1")
    return folder


@pytest.fixture(scope="session")
def torchvisions() -> tuple[bytes, dict[str, Any]]:
    """A file of weights of the form that torchvision serves, and what is in it."""
    import torch
    from torchvision.models import resnet50

    torch.manual_seed(3)
    state = resnet50().half().state_dict()  # half as long to send; batch norm's counters stay integers
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue(), state


def copy_repository(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Copy what Git has, or would take, of the repository as it stands, without what begins with any of `without`."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in listed.splitlines():
        if not name.startswith(without) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def dvc_environment() -> dict[str, str]:
    """Return this process's variables, with `dvc` and `python` of its environment first on the path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny parameters, run once by DVC. A test leaves its outputs as it found them."""
    folder = copy_repository(
        tmp_path_factory.mktemp("repository") / "clone", ("studies/", "metrics/", "plots/", "dvc.lock")
    )
    set_params(folder, **TINY)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    done = subprocess.run(
        ["dvc", "repro", "--quiet"], cwd=folder, capture_output=True, text=True, env=dvc_environment()
    )
    assert done.returncode == 0, done.stderr
    return folder
