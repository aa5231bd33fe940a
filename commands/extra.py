"""What only some commands need, and not every environment has."""

from __future__ import annotations

import importlib.util

from stages.shell.errors import InputError


def need(what: str, extra: str, *modules: str) -> None:
    """Refuse a command, or a form of one, where packages of an extra are not installed; loads none of them."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"{what}: {name} is not installed (the extra `{extra}`): run `pip install --require-hashes "
                f"-r requirements-{extra}.lock` in the project's environment"
            )
