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
from conftest import copy_repository

import stages  # noqa: F401
from stages.params import parse, written

ROOT = Path(__file__).parent.parent
DECLARED = parse((ROOT / "dvc.yaml").read_text())["stages"]
PAGE = ROOT / "docs/what-reruns.md"
KEYS = list(dict.fromkeys(key for stage in DECLARED.values() for key in stage["params"]))
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
    return [name for name, stage in DECLARED.items() if what in [e.removeprefix("${root}/") for e in stage[kind]]]


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


def runs_again(folder: Path, what: str) -> list[str]:
    """Return the stages that DVC calls changed because of `what`, in the pipeline's order."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        status: dict[str, list[Any]] = repo.status()
    found = []
    for stage, entries in status.items():
        changed = [entry["changed deps"] for entry in entries if isinstance(entry, dict) and "changed deps" in entry]
        named = {path for each in changed for path in each} | {
            key for each in changed for key in each.get("params.yaml", {})
        }
        if {what, f"./{what}"} & named:
            found.append(stage.rpartition(":")[2])
    return [stage for stage in DECLARED if stage in found]


def with_param(folder: Path, key: str) -> list[str]:
    path = folder / "params.yaml"
    before = path.read_text()
    path.write_text(written(parse(before) | {key: "another value"}))
    try:
        return runs_again(folder, key)
    finally:
        path.write_text(before)


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


@pytest.mark.parametrize("dep", DATA)
def test_an_output_with_other_bytes_runs_the_stages_that_read_it_and_no_other(repository: Path, dep: str):
    assert with_data(repository, dep) == declaring(dep, "deps")


def test_all_data_that_a_stage_reads_is_an_output_of_another():
    assert set(DATA) <= set(MADE)


def test_nothing_changed_runs_nothing(repository: Path):
    from dvc.repo import Repo

    with Repo(str(repository)) as repo:
        assert repo.status() == {}


def test_the_page_says_what_dvc_yaml_says():
    rows = [f"| `params.yaml`: `{key}` | {', '.join(declaring(key, 'params'))} |" for key in KEYS]
    rows += [f"| `{dep}` | {', '.join(declaring(dep, 'deps'))} |" for dep in [*CODE, *DATA]]
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows, (
        "run this file to write it"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(page(copy(Path(scratch))), encoding="utf-8")
