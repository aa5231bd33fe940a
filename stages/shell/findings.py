"""What pydantic found wrong in params.yaml, said in the project's form."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any

from pydantic import BaseModel

# YAML's anchors can make a value that would be gigabytes if it were written out whole
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 77, 77, 77


def line(schema: type[BaseModel], item: Any) -> str:
    """Say one of pydantic's findings in the project's form: key = value: what is allowed."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{similar(key, _names(schema))}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not key:  # a finding about several keys at once, which names them itself
        return message
    return f"{key} = {SHORT.repr(item['input'])}: {message}"


def _names(schema: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in schema.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, f"{prefix}{name}.")
    return names


def similar(key: str, known: list[str]) -> str:
    """Return what to add to the line about an unknown key: the known one that is most like it, or all."""
    near = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; known are {', '.join(known)}"
