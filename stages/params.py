"""params.yaml, read through the typed schema that stands in each stage's folder."""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from stages.files import InputError

# Every top-level key a study may have. A test holds this list against the schemas and dvc.yaml.
KEYS = [
    "root",
    "seed",
    "lr",
    "epochs",
    "batch_size",
    "image_size",
    "classes",
    "threads",
    "device",
    "precision",
    "fetch",
    "verify",
    "prepare",
    "split",
    "backbone",
    "train",
    "augment",
    "evaluate",
    "report",
]


# YAML's anchors can make a value that would be gigabytes if it were written out whole
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 77, 77, 77


class Group(BaseModel):
    """A group of parameters: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take `lr: true` for 1.0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("true and false are not allowed here")
        return value

    def digest(self) -> str:
        """Return the SHA-256 of all values, in hex: what a weights file says of the parameters that made it."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


Schema = TypeVar("Schema", bound=Group)


def load(schema: type[Schema], path: Path | str = "params.yaml") -> Schema:
    """Return the parameters that `schema` names, checked.

    Values are coerced to the schema's types: `dvc exp run -S lr=1e-5` writes `1e-05`, which YAML 1.1 calls a string.

    Raises
    ------
    InputError
        One line naming the key, the value found and what is allowed.
    """
    values = read(path)
    for key in values:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}{_similar(key, KEYS)}")
    try:
        return schema.model_validate({key: values[key] for key in schema.model_fields if key in values})
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(_line(schema, item) for item in error.errors()[:3])) from None


def read(path: Path | str) -> dict[str, Any]:
    """Return params.yaml as plain values; YAML tags that would build objects are refused."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} not found in {Path.cwd().name}/: stand in a study's folder (it has a dvc.yaml)"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a file of keys and values") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not plain YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def _line(schema: type[Group], item: Any) -> str:
    """Say one of pydantic's findings in the project's form: key = value: what is allowed."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_similar(key, _names(schema))}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not key:  # a finding about several keys at once, which names them itself
        return message
    return f"{key} = {SHORT.repr(item['input'])}: {message}"


def _names(schema: type[Group], prefix: str = "") -> list[str]:
    names = []
    for name, field in schema.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            names += _names(field.annotation, f"{prefix}{name}.")
    return names


def _similar(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; known are {', '.join(known)}"
