"""params.yaml with any value in any key: one that is allowed, or one line that names the key; never code that runs."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, STAGES
from faulting import refused, run, stage

from stages import params
from stages.dialect import parse
from stages.shell.errors import InputError

VALUES = parse((ROOT / "params.yaml").read_text())
HOSTILE: list[Any] = [
    "x",
    "",
    "\u202eevil\u0000☃",
    float("nan"),
    float("inf"),
    -1,
    -1e308,
    1e308,
    10**40,
    None,
    True,
    [],
    [[]],
    {},
    {"a": 1},
    "../../etc/passwd",
]


def leaves(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in values.items():
        found += leaves(value, (*prefix, key)) if isinstance(value, dict) else [(*prefix, key)]
    return found


KEYS = [path for path in leaves(VALUES) if path != ("root",)]


def schema(key: str) -> list[type[params.Group]]:
    """Return the schemas of the stages that read a key."""
    found = []
    for name in STAGES:
        each = __import__(f"stages.{name}.schema", fromlist=["Params"]).Params
        if key in each.model_fields:
            found.append(each)
    return found


def finite(value: Any) -> bool:
    """Tell whether no number in a value is NaN or infinite."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.fault("a wrong value in params.yaml")
@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_any_value_is_allowed_or_refused_in_one_line(
    tmp_path: Path, path: tuple[str, ...], monkeypatch, record_property
):
    *outer, last = path
    number = isinstance(_at(VALUES, path), int | float) and not isinstance(_at(VALUES, path), bool)
    for value in HOSTILE:
        values = copy.deepcopy(VALUES)
        _at(values, tuple(outer))[last] = value
        # as if it had been read: writing and reading YAML for each would take minutes
        monkeypatch.setattr(params, "read", lambda _path, values=values: values)
        accepted = 0
        for each in schema(path[0]):
            try:
                found = params.load(each, tmp_path / "params.yaml")
            except InputError as error:
                line = str(error)
                assert "\n" not in line and "params.yaml" in line and len(line) < 1500
            else:
                accepted += 1
                assert finite(found.model_dump())
        if number and (not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)):
            assert not accepted or value is None, (path, value)
    record_property("cases", len(HOSTILE))


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


BOMB_KEYS = ["train", "augment", "fetch", "verify", "prepare", "split", "backbone", "evaluate", "report", "lr"]


def bomb(levels: int) -> str:
    """Return YAML whose seed would be 9 ** levels values if it were written out; every key is a known one."""
    lines = [f"{BOMB_KEYS[0]}: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level, key in enumerate(BOMB_KEYS[1:levels], 1):
        lines.append(f"{key}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join([*lines, f"seed: *a{level}", ""])


TEXTS = {
    "anchors that grow to millions of values, under known keys": bomb(6),
    "a tag that runs a command": "seed: !!python/object/apply:os.system ['touch evil']\n",
    "a tag that builds an object": "seed: !!python/object:subprocess.Popen {}\n",
    "a tag that imports": "seed: !!python/name:os.system\n",
    "a tag of our own making": "seed: !evil 1\n",
    "anchors that grow without end": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "an anchor that holds itself": "seed: &a [*a]\n",
    "brackets a thousand deep": "seed: " + "[" * 1000 + "]" * 1000 + "\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a list": "- seed\n",
    "a number": "7\n",
    "nothing": "",
    "not UTF-8": b"seed: \xff\xfe\n".decode("latin-1"),
    "control characters": "seed: \x00\x07\n",
    "a tab for indentation": "train:\n\tlr: 1\n",
    "an unclosed quote": 'seed: "1\n',
    "an alias without an anchor": "seed: *nothing\n",
    "a merge key of a number": "<<: 1\n",
    "a key that is a list": "? [a]\n: 1\n",
    "a million keys' worth of text": "seed: '" + "a" * 2_000_000 + "'\n",
}


@pytest.mark.fault("a wrong value in params.yaml")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_hostile_file_is_one_line_and_runs_nothing(tmp_path: Path, text: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(text.encode("latin-1") if "ÿ" in text else text.encode())
    for name in ("fetch", "train"):
        each = __import__(f"stages.{name}.schema", fromlist=["Params"]).Params
        with pytest.raises(InputError) as error:
            params.load(each, tmp_path / "params.yaml")
        assert "\n" not in str(error.value) and len(str(error.value)) < 1500
    assert not (tmp_path / "evil").exists()


LOADS = """
import resource, sys, time
from importlib import import_module
from stages import params
from stages.shell.errors import InputError
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))  # bytes: a failure may not take the machine's memory
for name in sys.argv[1:]:
    begun = time.monotonic()
    try:
        params.load(import_module(f"stages.{name}.schema").Params)
    except InputError as error:
        print(name, time.monotonic() - begun, error, sep="\\t")
"""


@pytest.mark.fault("a wrong value in params.yaml")
def test_an_anchor_bomb_under_known_keys_is_one_short_line_at_once(tmp_path: Path):
    (tmp_path / "params.yaml").write_text(bomb(10))
    done = run([sys.executable, "-c", LOADS, *STAGES], tmp_path)
    assert done.status == 0, done.err
    found = [line.split("\t") for line in done.out.splitlines()]
    assert [name for name, _, _ in found] == STAGES
    for name, seconds, line in found:
        assert float(seconds) < 2 and len(line) < 1000, name
        assert line.startswith("params.yaml: "), line


@pytest.mark.fault("a wrong value in params.yaml")
def test_an_anchor_bomb_ends_a_stage_with_one_line(tmp_path: Path):
    (tmp_path / "params.yaml").write_text(bomb(10))
    assert len(refused(stage("fetch", tmp_path), "fetch: params.yaml: key 'isa' is missing; seed = [")) < 1000


@pytest.mark.fault("a wrong value in params.yaml")
def test_a_folder_in_the_place_of_params_is_one_line(tmp_path: Path):
    (tmp_path / "params.yaml").mkdir()
    refused(stage("fetch", tmp_path), "fetch: params.yaml cannot be read", "expected a file of keys and values")
