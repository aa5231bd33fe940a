"""What the page says of the study that is asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from commands.predict.model import Model
from commands.reading import read_json_if_there
from commands.serve.answers import words
from stages import params
from stages.verify.picture import located

STRIDE = 37  # test images between two examples: of all classes soon, whatever their order


def about(model: Model) -> dict[str, Any]:
    """Return what the page needs to know of a study: its name, classes, and how well it was tested."""
    return {
        "title": title(model.study),
        "classes": [{"name": name, "words": words(name)} for name in model.classes],
        "side": model.meta.image_size,
        "lowest": model.lowest,
        "networks": len(model.folds),
        "raw": (model.study / "data/raw").is_dir(),
        "examples": bool(examples(model.study, tuple(model.folds))),
        "clean_accuracy": read_json_if_there(model.study / "metrics/test.json").get("clean_accuracy"),
    }


def title(study: Path) -> str:
    """Return what a study calls itself; its folder's name where it does not, and a zip's."""
    path = study / "params.yaml"
    given = params.read(path).get("report") if path.is_file() else None
    named = given.get("title") if isinstance(given, dict) else None
    return str(named or study.resolve().name)


@cache
def examples(study: Path, folds: tuple[str, ...]) -> list[str]:
    """Return the test images whose files are here, in an order in which classes soon change.

    Of a cross-validation all that a fold tests; the page says that the other folds' networks were trained on them.
    """
    if not (study / "data/raw").is_dir():
        return []
    files = [study / f"data/prepared{fold}/index.csv" for fold in folds]
    index = pd.concat([pd.read_csv(file, usecols=["array", "path"], keep_default_na=False) for file in files])
    paths = index.loc[index["array"] == "test", "path"].tolist()
    found = [path for path in paths if _is_there(study / "data/raw", path)]
    return [found[place] for place in sorted(range(len(found)), key=lambda place: place * STRIDE % len(found))]


def _is_there(raw: Path, place: str) -> bool:
    """Say whether a picture's file lies below data/raw; not where nobody lets us look."""
    try:
        return located(raw, place)[0].is_file()
    except OSError:
        return False
