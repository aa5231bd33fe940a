"""What only some forms need, and not every environment has."""

from __future__ import annotations

import importlib.util

from stages.shell.errors import InputError


def need(form: str, *modules: str) -> None:
    """Refuse a form whose packages are not installed; loads none of them."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"export {form}: {name} is not installed (the extra `export`): run `pip install --require-hashes "
                "-r requirements-export.lock` in the project's environment"
            )
