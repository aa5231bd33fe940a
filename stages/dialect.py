"""YAML in the dialect in which DVC writes it, 1.2, and written so that the older one, 1.1, reads the same."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode

TEXT = "tag:yaml.org,2002:str"  # YAML's name for what is text


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
