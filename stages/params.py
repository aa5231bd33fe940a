"""params.yaml, read through the typed schema that stands in each stage's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

import stages
from stages.dialect import NotYaml, parse
from stages.shell import findings
from stages.shell.errors import InputError

Isa = Literal["avx2", "avx512"]

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
    "isa",
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

    Values are coerced to the schema's types: the text '0.1' is a number where a number is asked for.

    Raises
    ------
    InputError
        One line naming the key, the value found and what is allowed.
    """
    values = read(path)
    for key in values:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}{findings.similar(key, KEYS)}")
    if Path(path) == Path("params.yaml") and "isa" in schema.model_fields:
        refuse_other_isa(values.get("isa"))
    try:
        return schema.model_validate({key: values[key] for key in schema.model_fields if key in values})
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(findings.line(schema, item) for item in error.errors()[:3])) from None


def refuse_other_isa(isa: Any) -> None:
    """Raise an InputError where libraries may not use just this instruction set (see `stages`), which changes bits."""
    if isa not in stages.ISAS or isa == stages.ISA:
        return
    if not stages.has_isa(isa):
        raise InputError(
            f"isa = {isa!r}: this CPU lacks {', '.join(sorted(stages.AVX512))} or one of them; "
            "run on one that has AVX-512, or set `isa: avx2` in params.yaml, for other bits"
        )
    raise InputError(f"isa = {isa!r} was not in force when libraries loaded: write `isa: {isa}` as a line of its own")


def read(path: Path | str) -> dict[str, Any]:
    """Return params.yaml as plain values; see `parse`."""
    try:
        values = parse(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path} not found in {Path.cwd().name}/: stand in a study's folder (it has a dvc.yaml)"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a file of keys and values") from None
    except NotYaml as error:
        raise InputError(f"{path} is not plain YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found {type(values).__name__}")
    return {str(key): value for key, value in values.items()}
