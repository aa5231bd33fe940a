"""The experiments of a sweep on the caller's side: which are there, how they arrive, what validation says of them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from commands.repository import experiments, git
from commands.sweep.choices import OBJECTIVES
from stages.dialect import parse
from stages.shell.errors import InputError

CURVES = "plots/curves.csv"


class Place(NamedTuple):
    """The caller's side: where experiments arrive, and from where."""

    root: Path
    study: str
    commit: str
    git: str  # the repository to which workers push; the root itself, or another
    outputs: bool  # whether outputs are to be pulled from the DVC remote
    remote: str


def found(place: Place, name: str) -> str | None:
    """Return the commit of an experiment that is here."""
    return experiments(place.root, name).get(place.commit)


def waiting(place: Place) -> set[str]:
    """Return the names of experiments on the commit that lie where workers push."""
    refs = f"refs/exps/{place.commit[:2]}/{place.commit[2:]}/*"
    return {line.rpartition("/")[2] for line in git(place.root, "ls-remote", place.git, refs).splitlines()}


def arrive(place: Place, names: list[str]) -> None:
    """Bring experiments here, with their outputs where no cache is shared."""
    if not place.outputs:
        names = [name for name in names if not found(place, name)]
    if not names:
        return
    options = [*(() if place.outputs else ("--no-cache",)), *(("-r", place.remote) if place.remote else ())]
    words = [sys.executable, "-m", "dvc", "exp", "pull", "--force", *options, place.git, *names]
    done = subprocess.run(words, cwd=place.root / place.study, text=True, capture_output=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InputError(f"{', '.join(names)}: made, but cannot be pulled: {said[0] if said else done.stderr.strip()}")


def validation(place: Place, name: str) -> dict[str, float]:
    """Return {objective: value} of the epoch whose weights an experiment kept; NaN where training came to nothing."""
    at = found(place, name)
    prefix = "" if place.study == "." else f"{place.study}/"
    curves = pd.read_csv(io.StringIO(git(place.root, "show", f"{at}:{prefix}{CURVES}")))
    if parse(git(place.root, "show", f"{at}:{prefix}params.yaml"))["train"]["select_best"]:
        kept = curves.sort_values(["val_accuracy", "val_loss"], ascending=[False, True], kind="stable").iloc[0]
    else:
        kept = curves.iloc[-1]
    return {objective: float(kept[objective]) for objective in OBJECTIVES}
