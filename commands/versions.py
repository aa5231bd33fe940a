"""`brainmri versions`: write versions.yaml from requirements.lock: the versions of the packages that stages depend on.

The file stands beside each `dvc.yaml`, the same in every study: DVC finds other commits' parameter files only inside
the study's own folder. A stage refuses to run where it is behind the lock.
"""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from commands.repository import find_root
from stages import params
from stages.files import atomic_write
from stages.shell.errors import InputError
from stages.shell.provenance import locked

HEAD = "# Written by `brainmri versions` from requirements.lock: of the packages on which stages depend (dvc.yaml).\n"


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "versions", help="write versions.yaml from requirements.lock, in every study", description=__doc__
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file beside the root's dvc.yaml and every study's."""
    root = find_root()
    declared = params.read(root / "dvc.yaml")["stages"]
    written = text(sorted(set().union(*map(packages, declared.values()))), locked(root / "requirements.lock"))
    for pipeline in [root / "dvc.yaml", *sorted(root.glob("studies/*/dvc.yaml"))]:
        atomic_write(pipeline.with_name("versions.yaml"), written)
    return 0


def packages(stage: dict[str, Any]) -> list[str]:
    """Return the packages on whose versions a stage of dvc.yaml depends, also one under `foreach`."""
    files = [entry for entry in stage.get("do", stage).get("params", []) if isinstance(entry, dict)]
    return [name for file in files for name in file.get("versions.yaml", [])]


def text(names: list[str], versions: dict[str, str]) -> str:
    """Return what versions.yaml holds: `name: version`, each as text.

    Raises
    ------
    InputError
        Where the lock lacks one of `names`.

    Examples
    --------
    >>> print(text(["torch"], {"torch": "2.14", "ruff": "0.17.6"}).splitlines()[1])
    torch: '2.14'
    """
    if missing := [name for name in names if name not in versions]:
        raise InputError(f"requirements.lock has no {missing[0]}, which dvc.yaml names: lock it, or take it out there")
    return HEAD + str(yaml.safe_dump({name: versions[name] for name in names}))
