"""params.yaml, read through the typed schema that stands in each stage's folder."""

from __future__ import annotations

import hashlib
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode

from stages.shell import findings
from stages.shell.errors import InputError

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

TEXT = "tag:yaml.org,2002:str"  # YAML's name for what is text


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
    try:
        return schema.model_validate({key: values[key] for key in schema.model_fields if key in values})
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(findings.line(schema, item) for item in error.errors()[:3])) from None


class NotYaml(ValueError):
    """A text that is not plain YAML: the reason, and the line that is to blame, from 1, where there is one."""

    lineno: int | None = None


def parse(text: bytes | str) -> Any:
    """Return a YAML text as plain values, in the dialect in which DVC writes: YAML 1.2 (yaml.org/spec/1.2.2).

    DVC drops quotes that YAML 1.2 does not need. In YAML 1.1, which PyYAML reads, a class `no` would then be false.

    Raises
    ------
    NotYaml
        Also for a key that stands there twice, and for tags that would build objects.

    Examples
    --------
    >>> parse("[no, on, 1:30, 012, 1e-05, 'null']")
    ['no', 'on', '1:30', 12, 1e-05, 'null']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an anchor that is used again, which is allowed
            # pure: not by libyaml, which ruamel.yaml takes where its other half is installed
            return YAML(typ="safe", pure=True).load(text.decode() if isinstance(text, bytes) else text)
    except Exception as error:  # on broken text ruamel.yaml raises its own kinds, and KeyError and IndexError
        found = NotYaml(" ".join(str(error).split())[:300] or type(error).__name__)
        mark = getattr(error, "problem_mark", None)
        found.lineno = mark.line + 1 if mark else None
        raise found from None


@cache
def is_text(scalar: str) -> bool:
    """Say whether a text without quotes is text to YAML 1.1 and to YAML 1.2, so that a file needs none around it.

    Examples
    --------
    >>> [is_text(scalar) for scalar in ("glioma", "no", "1e5", "1:30")]
    [True, False, False, False]
    """
    tags = (
        yaml.SafeLoader("").resolve(yaml.ScalarNode, scalar, (True, False)),  # YAML 1.1
        YAML(typ="safe", pure=True).resolver.resolve(ScalarNode, scalar, (True, False)),
    )
    # PyYAML leaves these out, which by the letter of YAML 1.1 are yes and no
    return all(tag == TEXT for tag in tags) and scalar not in ("y", "Y", "n", "N")


class _Dumper(yaml.SafeDumper):
    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """Return the tag as which a plain scalar is read; none where that depends on the reader: then it is quoted."""
        tag = str(super().resolve(kind, value, implicit))
        unsure = kind is yaml.ScalarNode and implicit[0] and tag == TEXT and not is_text(value)
        return "depends on the reader" if unsure else tag


def written(values: Any, **style: Any) -> str:
    """Return values as YAML that means the same in YAML 1.1 and 1.2; `style` as `yaml.dump` takes it.

    Examples
    --------
    >>> print(written({"classes": ["glioma", "1e5"], "lr": 1e-05}, default_flow_style=None))
    classes: [glioma, '1e5']
    lr: 1.0e-05
    <BLANKLINE>
    """
    return yaml.dump(values, Dumper=_Dumper, **{"sort_keys": False, "allow_unicode": True, **style})


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
