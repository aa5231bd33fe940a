"""The stages of a dvc.yaml as DVC sees them: a stage under `foreach` once for each of its items, as `name@key`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.dialect import NotYaml, parse


def declared(study: Path) -> dict[str, Any]:
    """Return {stage: its entry} of the dvc.yaml in a study's folder; nothing where it cannot be read."""
    try:
        pipeline, values = (parse((study / name).read_text()) for name in ("dvc.yaml", "params.yaml"))
        return expanded(pipeline["stages"], values)
    except (OSError, AttributeError, KeyError, TypeError, NotYaml):
        return {}


def expanded(stages: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stages with each `foreach` over a mapping written out, and `${...}` filled in from `values`.

    What `values` does not have stays as it is.

    Examples
    --------
    >>> stages = {"train": {"foreach": "${folds}", "do": {"cmd": "train ${item}", "outs": ["models${item}"]}}}
    >>> expanded(stages, {"folds": {"0": "/a", "1": "/b"}})["train@1"]
    {'cmd': 'train /b', 'outs': ['models/b']}
    """
    return {name: entry for group, stage in stages.items() for name, entry in _each(group, stage, values)}


def _each(group: str, stage: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "foreach" not in stage:
        yield group, _filled(stage, values)
        return
    items = _value(stage["foreach"].removeprefix("${").removesuffix("}"), values) or {}
    for key, item in items.items():
        yield f"{group}@{key}", _filled(stage["do"], {**values, "key": key, "item": item})


def _filled(entry: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(entry, str):
        return re.sub(r"\$\{([^}]+)\}", lambda found: _text(found, values), entry)
    if isinstance(entry, Mapping):
        return {_filled(key, values): _filled(value, values) for key, value in entry.items()}
    return [_filled(each, values) for each in entry] if isinstance(entry, list) else entry


def _text(found: re.Match[str], values: Mapping[str, Any]) -> str:
    value = _value(found[1], values)
    return found[0] if value is None else str(value)


def _value(name: str, values: Any) -> Any:
    for part in name.strip().split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
