"""The promise, mutated: changing a parameter, code or data makes DVC run the stages that declare it, and no other.

`python tests/test_mutation.py` writes docs/what-reruns.md from what DVC says.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DECLARED, ROOT, copy_repository

import stages  # noqa: F401
from commands.versions import packages, text
from stages.dialect import parse, written
from stages.shell.provenance import locked

PAGE = ROOT / "docs/what-reruns.md"
KEYS = list(dict.fromkeys(key for stage in DECLARED.values() for key in stage["params"] if isinstance(key, str)))
LOCKED = locked(ROOT / "requirements.lock")
TOOLS = ["ruff", "pytest", "mypy", "dvc", "kagglehub", "pooch", "tqdm"]  # in requirements.lock, and no stage's affair
PACKAGES = [*dict.fromkeys(name for stage in DECLARED.values() for name in packages(stage)), *TOOLS]
SHELL = sorted(f"stages/shell/{path.name}" for path in (ROOT / "stages/shell").glob("[!_]*.py"))
DEPS = list(dict.fromkeys(dep for stage in DECLARED.values() for dep in stage["deps"]))
CODE = [dep.removeprefix("${root}/") for dep in DEPS if "${root}" in dep]
DATA = [dep for dep in DEPS if "${root}" not in dep]
MADE = [
    out if isinstance(out, str) else next(iter(out))
    for stage in DECLARED.values()
    for kind in ("outs", "metrics", "plots")
    for out in stage.get(kind, [])
]


def declaring(what: str, kind: str) -> list[str]:
    """Return the stages whose entry in dvc.yaml names a parameter or a file."""
    return [name for name, stage in DECLARED.items() if what in stage[kind] or f"${{root}}/{what}" in stage[kind]]


def depending(package: str) -> list[str]:
    """Return the stages whose entry in dvc.yaml names a package."""
    return [name for name, stage in DECLARED.items() if package in packages(stage)]


def copy(folder: Path) -> Path:
    """Copy what Git has of the repository."""
    copy_repository(folder, ("studies/",))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return stubbed(folder)


def stubbed(folder: Path) -> Path:
    """Put a few bytes in the place of every output and have DVC take them for what the stages made."""
    for out in MADE:
        path = content(folder / out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(out)
    command = [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def content(out: Path) -> Path:
    """Return the file whose bytes are the output's: itself, or one in the folder that it is."""
    return out if out.suffix else out / "file"


def status(folder: Path) -> dict[str, list[Any]]:
    """Return what `dvc status` says."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return dict(repo.status())


def runs_again(folder: Path, what: str) -> list[str]:
    """Return the stages that DVC calls changed because of `what`, in the pipeline's order."""
    found = []
    for stage, entries in status(folder).items():
        changed = [entry["changed deps"] for entry in entries if isinstance(entry, dict) and "changed deps" in entry]
        named = {path for each in changed for path in each} | {
            key for each in changed for file in ("params.yaml", "versions.yaml") for key in each.get(file, {})
        }
        if {what, f"./{what}"} & named:
            found.append(stage.rpartition(":")[2].partition("@")[0])
    return [stage for stage in DECLARED if stage in found]


def with_param(folder: Path, key: str) -> list[str]:
    path = folder / "params.yaml"
    before = path.read_text()
    values = parse(before)
    other = values[key] | {"another": "value"} if isinstance(values[key], dict) else "another value"
    path.write_text(written(values | {key: other}))  # what is below stays: `foreach` reads split.folds
    try:
        return runs_again(folder, key)
    finally:
        path.write_text(before)


def with_package(folder: Path, name: str) -> list[str]:
    """Lock another version of a package; write versions.yaml anew, as `brainmri versions` does."""
    lock, versions = folder / "requirements.lock", folder / "versions.yaml"
    before = lock.read_text(), versions.read_text()
    line = f"\n{name}=={LOCKED[name]} "
    assert before[0].count(line) == 1
    lock.write_text(before[0].replace(line, f"\n{name}==999.9 "))
    versions.write_text(text(list(parse(before[1])), locked(lock)))
    try:
        return runs_again(folder, name)
    finally:
        lock.write_text(before[0])
        versions.write_text(before[1])


def with_code(folder: Path, dep: str) -> list[str]:
    path = folder / dep if (folder / dep).is_file() else sorted((folder / dep).glob("*.py"))[-1]
    return with_more(folder, dep, path, b"\n")


def with_data(folder: Path, dep: str) -> list[str]:
    return with_more(folder, dep, content(folder / dep), b"other")


def with_more(folder: Path, dep: str, path: Path, more: bytes) -> list[str]:
    before = path.read_bytes()
    path.write_bytes(before + more)
    try:
        return runs_again(folder, dep)
    finally:
        path.write_bytes(before)


def nothing(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def page(folder: Path) -> str:
    """Return the table of what runs again, as DVC says it."""
    lines = [
        "# What runs again when something changes",
        "",
        "Written by `python tests/test_mutation.py` from what `dvc status` says after each change, and held against",
        "`dvc.yaml` by the tests. These run again by themselves; what follows them does where their outputs changed.",
        "",
        "| change | stages that run again |",
        "|---|---|",
    ]
    lines += [f"| `params.yaml`: `{key}` | {', '.join(with_param(folder, key))} |" for key in KEYS]
    lines += [f"| `{dep}` | {', '.join(with_code(folder, dep))} |" for dep in CODE]
    lines += [f"| `{path}` | {nothing(with_code(folder, path))} |" for path in SHELL]
    lines += [
        "",
        "Another version of a package in `requirements.lock`, and with it in `versions.yaml` (`brainmri versions`):",
        "",
        "| package | stages that run again |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {nothing(with_package(folder, name))} |" for name in PACKAGES]
    lines += [
        "",
        "What follows: an output that came out with other bytes runs the stages again that read it.",
        "",
        "| output with other bytes | stages that run again after the one that made it |",
        "|---|---|",
    ]
    lines += [f"| `{dep}` | {', '.join(with_data(folder, dep))} |" for dep in DATA]
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield copy(tmp_path_factory.mktemp("mutation"))


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_parameter_runs_the_stages_that_declare_it_and_no_other(repository: Path, key: str):
    assert with_param(repository, key) == declaring(key, "params")


@pytest.mark.parametrize("dep", CODE)
def test_changed_code_runs_the_stages_that_declare_it_and_no_other(repository: Path, dep: str):
    assert with_code(repository, dep) == declaring(dep, "deps")


@pytest.mark.parametrize("path", SHELL)
def test_a_changed_line_of_what_only_speaks_or_guards_runs_nothing(repository: Path, path: str):
    assert with_code(repository, path) == []
    before = (repository / path).read_text()
    (repository / path).write_text(before + "\n")
    try:
        assert status(repository) == {}
    finally:
        (repository / path).write_text(before)


@pytest.mark.parametrize("name", PACKAGES)
def test_another_version_runs_the_stages_that_depend_on_it_and_no_other(repository: Path, name: str):
    assert with_package(repository, name) == depending(name)
    assert (depending(name) == []) == (name in TOOLS)


@pytest.mark.parametrize("dep", DATA)
def test_an_output_with_other_bytes_runs_the_stages_that_read_it_and_no_other(repository: Path, dep: str):
    assert with_data(repository, dep) == declaring(dep, "deps")


def test_all_data_that_a_stage_reads_is_an_output_of_another():
    assert set(DATA) <= set(MADE)


def test_nothing_changed_runs_nothing(repository: Path):
    assert status(repository) == {}


def test_the_page_says_what_dvc_yaml_says():
    rows = [f"| `params.yaml`: `{key}` | {', '.join(declaring(key, 'params'))} |" for key in KEYS]
    rows += [f"| `{dep}` | {', '.join(declaring(dep, 'deps'))} |" for dep in CODE]
    rows += [f"| `{path}` | nothing |" for path in SHELL]
    rows += [f"| `{name}` | {nothing(depending(name))} |" for name in PACKAGES]
    rows += [f"| `{dep}` | {', '.join(declaring(dep, 'deps'))} |" for dep in DATA]
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows, (
        "run this file to write it"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(page(copy(Path(scratch))), encoding="utf-8")
