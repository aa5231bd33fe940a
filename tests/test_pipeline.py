"""dvc.yaml, the schemas, the code and the studies say the same thing."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import DECLARED, ROOT, STAGES
from packaging.specifiers import SpecifierSet

from commands import behind
from commands.__main__ import main
from stages.dialect import parse
from stages.params import KEYS, load
from stages.shell.provenance import locked

SHELL = "stages/shell/"  # all that a stage may import undeclared: it changes no bit (docs/design.md)
STUDIES = [ROOT, *sorted(path.parent for path in ROOT.glob("studies/*/dvc.yaml"))]


def keys(stage: str) -> list[str]:
    """Return the keys of params.yaml that a stage declares."""
    return [key for key in DECLARED[stage]["params"] if isinstance(key, str)]


def schema(stage: str):
    return importlib.import_module(f"stages.{stage}.schema").Params


@pytest.mark.parametrize("stage", STAGES)
def test_schema_holds_exactly_the_keys_that_dvc_yaml_declares(stage):
    assert sorted(schema(stage).model_fields) == sorted(keys(stage))


def test_every_known_key_belongs_to_a_stage():
    declared = {key for stage in STAGES for key in keys(stage)}
    assert declared | {"root"} == set(KEYS)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_study_has_good_params_and_the_same_dvc_yaml(study):
    assert (study / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
    for stage in STAGES:
        load(schema(stage), study / "params.yaml")
    values = parse((study / "params.yaml").read_text())
    assert set(values) == set(KEYS)
    assert (study / values["root"]).resolve() == ROOT


def imported(stage: str) -> set[str]:
    """Return the files under stages/ that running a stage imports, followed through every import statement."""
    seen: set[str] = set()
    waiting = [f"stages/{stage}/__main__.py"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += [str(parent / "__init__.py") for parent in Path(path).parents if parent.name]
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                file = name.replace(".", "/")
                waiting += [
                    f
                    for f in (f"{file}.py", f"{file}/__init__.py")
                    if name.startswith("stages") and (ROOT / f).is_file()
                ]
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_declares_the_code_that_a_stage_imports_and_no_other(stage):
    deps = [dep.removeprefix("${root}/") for dep in DECLARED[stage]["deps"] if dep.startswith("${root}/stages")]
    used = {path for path in imported(stage) if not path.startswith(SHELL)}
    covered = {path for path in used if any(path == dep or path.startswith(f"{dep}/") for dep in deps)}
    assert used == covered, "imported, but no dep: a hidden input"
    idle = [dep for dep in deps if not any(path == dep or path.startswith(f"{dep}/") for path in used)]
    assert idle == [], "declared, but not imported"


def test_the_shell_imports_nothing_of_the_project_but_the_pins_and_the_reading_and_writing_of_files():
    below = {"stages", "stages.dialect", "stages.files"}
    for path in sorted((ROOT / SHELL).glob("*.py")):
        named = re.findall(r"^\s*(?:from|import) ((?:stages|commands)[\w.]*)", path.read_text(), re.MULTILINE)
        assert [name for name in named if name not in below and not name.startswith("stages.shell")] == [], path.name


def test_the_shell_makes_no_array_and_asks_no_network():
    """What a stage saw through it would be undeclared."""
    modules = [f"stages.shell.{path.stem}" for path in (ROOT / SHELL).glob("[!_]*.py")]
    code = (
        f"import {', '.join(modules)}, sys; print(sorted(sys.modules.keys() & {{'numpy', 'torch', 'pandas', 'PIL'}}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_later_stage_and_no_command(stage):
    order = list(STAGES)
    for path in imported(stage):
        folder = Path(path).parts[1]
        assert folder not in order or order.index(folder) <= order.index(stage)
        assert not re.search(r"^\s*(from|import) commands", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.lock")), ids=lambda path: path.name)
def test_lock_files_name_versions_and_hashes_and_no_address(path):
    text = path.read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    entries = re.findall(r"^[a-z][^\n]*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[a-z]", text, re.MULTILINE)) > 1


def test_lock_files_that_go_into_one_environment_name_no_package_twice():
    apart = {"requirements-s3", "requirements-moto"}
    paths = [path for path in ROOT.glob("requirements*.lock") if path.stem not in apart]
    names = [name for path in paths for name in re.findall(r"^([a-z][^=\n]*)==", path.read_text(), re.MULTILINE)]
    assert len(names) == len(set(names)) and "torch" in names and "onnx" in names


def test_the_environment_for_s3_has_other_versions_of_one_package_alone():
    """botocore's; every other package is the one that the project's own environment has."""
    s3, moto = (locked(ROOT / f"requirements-{part}.lock") for part in ("s3", "moto"))
    own = locked(ROOT / "requirements.lock")
    assert not {"moto", *(s3.keys() & moto.keys())} & s3.keys()
    assert {name for name, version in (s3 | moto).items() if own.get(name, version) != version} == {"python-dateutil"}


@pytest.mark.parametrize("part", ["browser", "export", "cluster"])
def test_a_lock_of_an_extra_adds_to_the_others_and_names_no_address(part):
    """Two locks with one package could ask for two versions of it."""
    path = ROOT / f"requirements-{part}.lock"
    text, mine = path.read_text(), locked(path)
    assert "://" not in text and "--index" not in text and text.count("--hash=sha256:") >= len(mine) > 1
    assert not locked(ROOT / "requirements.lock").keys() & mine.keys()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][part]
    brought = mine | locked(ROOT / "requirements.lock")
    assert all(SpecifierSet(each[len(name) :]).contains(brought[name]) for each in declared for name in names(each))


def names(requirement: str) -> list[str]:
    return re.findall(r"^[a-z-]+", requirement)


def test_readme_shows_the_figures_of_the_metrics():
    assert main(["readme", "--check"]) == 0


def test_lock_of_the_default_study_belongs_to_the_code_that_is_committed():
    """The other studies may be behind: `brainmri show` and the README then name the commit that made their figures."""
    assert behind.changed(ROOT) == [], "dvc.lock is behind: run `dvc repro`"
