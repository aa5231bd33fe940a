"""Which settings a sweep has: DVC's own grammar of `-S`, written out, each checked, and none twice."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages import params
from stages.shell.errors import InputError


class Setting(NamedTuple):
    """One setting of the parameters, and what its experiment is called."""

    name: str
    overrides: tuple[str, ...]  # as `dvc exp run -S` takes them, such as lr=0.001

    def __str__(self) -> str:
        return " ".join(self.overrides) or "as it stands"


class Namer:
    """Names the settings of a study at a commit: equal ones, however they are written, have one name."""

    def __init__(self, study: Path, place: str, commit: str, prefix: str) -> None:
        self.study, self.key, self.prefix = study, f"{commit} {place}", prefix

    def __call__(self, overrides: Sequence[str]) -> Setting:
        """Return the setting; an InputError where a stage would refuse it."""
        key = f"{self.key} {self._digest(overrides)}"
        return Setting(f"{self.prefix}-{hashlib.sha256(key.encode()).hexdigest()[:8]}", tuple(overrides))

    def _digest(self, overrides: Sequence[str]) -> str:
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides
        from omegaconf.errors import OmegaConfBaseException

        from stages.report.schema import Params  # of all stages

        said = f"-S {' -S '.join(overrides)}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(shutil.copy(self.study / "params.yaml", folder))
            try:
                apply_overrides(path, list(overrides))
                return params.load(Params, path).digest()
            except InputError as error:
                raise InputError(f"{said}: {str(error).partition('params.yaml: ')[2] or error}") from None
            except (DvcException, OmegaConfBaseException, ValueError) as error:
                raise InputError(f"{said}: {_reason(error)}") from None


def grid(words: Iterable[str], named: Namer) -> list[Setting]:
    """Return every combination of what `-S` says, in the order of `dvc exp run --queue`, each once."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps

    by_file = _of_params(words)
    try:
        combinations = [next(iter(each.values()), ()) for each in get_hydra_sweeps(by_file)]
    except DvcException as error:
        raise InputError(str(error)) from None
    except Exception as error:  # Hydra's parser has many of its own
        raise InputError(f"-S {' -S '.join(words)}: {_reason(error)}") from None
    found = [named(list(each)) for each in combinations]
    return list({setting.name: setting for setting in reversed(found)}.values())[::-1]


def parsed(words: Iterable[str]) -> list[Any]:
    """Return Hydra's overrides of params.yaml; an InputError for what it does not understand."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser, found = OverridesParser.create(), []
    for word in _of_params(words).get("params.yaml", []):
        try:
            found.append(parser.parse_override(word))
        except Exception as error:
            raise InputError(f"-S {word}: {_reason(error)}") from None
    return found


def _of_params(words: Iterable[str]) -> dict[str, list[str]]:
    from dvc.utils.cli_parse import to_path_overrides

    found = to_path_overrides(words)
    for path, overrides in found.items():
        if path != "params.yaml":
            raise InputError(f"-S {path}:{overrides[0]}: expected a key of params.yaml, such as lr=1e-3,1e-4")
    return found


def _reason(error: BaseException) -> str:
    """Return the first line of the reason that lies deepest."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__
