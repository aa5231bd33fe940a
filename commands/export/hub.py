"""A folder for Hugging Face's hub: the model's card as README.md, the weights, and config.json."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from commands.export.about import about
from commands.extra import need
from commands.predict.bundle import WEIGHTS
from commands.predict.model import Model
from stages.card.card import PATH as CARD
from stages.files import atomic_folder, atomic_write, write_json
from stages.shell.errors import InputError

FILE = Path(WEIGHTS).name


def check() -> None:
    """Refuse where what reads the card as the hub does is not installed."""
    need("export hub", "export", "huggingface_hub")


def write(model: Model, out: Path) -> list[str]:
    """Write the folder; what it holds."""
    card = _card(model)
    with atomic_folder(out) as part:
        shutil.copyfile(model.study / f"models{model.folds[0]}" / FILE, part / FILE)
        atomic_write(part / "README.md", card)
        write_json(part / "config.json", config(model))
        results = validated(card)
    return [
        f"{out}: README.md with {results} scores in its metadata, {FILE}, config.json",
        f"hf upload <you>/<name> {out}    # when you have looked at README.md",
    ]


def config(model: Model) -> dict[str, Any]:
    """Return config.json: classes as transformers' configurations name them, then all that an image needs."""
    return about(model) | {
        "architectures": ["ResNet50"],
        "model_type": "resnet50",
        "num_labels": len(model.classes),
        "id2label": {str(number): name for number, name in enumerate(model.classes)},
        "label2id": {name: number for number, name in enumerate(model.classes)},
    }


def validated(card: str) -> int:
    """Return how many scores huggingface_hub reads in a card's metadata.

    Raises
    ------
    InputError
        With its own words, where the metadata is not as the hub wants it.
    """
    from huggingface_hub import ModelCard

    try:
        data: Any = ModelCard(card, ignore_metadata_errors=False).data
        return len(data.eval_results or [])
    except (TypeError, ValueError) as error:
        raise InputError(f"export hub: the card's metadata is not as the hub wants it: {error}") from None


def _card(model: Model) -> str:
    """Return the card, in which the weights lie beside it; InputError where it is of other weights."""
    (fold,), (_, known) = model.folds, model.networks.each[0]
    path = model.study / CARD
    if not path.is_file():
        raise InputError(f"{path} not found: `dvc repro` in the study")
    text = path.read_text(encoding="utf-8")
    if known.weights_sha256 not in text:
        raise InputError(f"{path} is of other weights than models{fold}/{FILE}: run `dvc repro` in the study")
    return re.sub(rf"models(/folds/\d+)?/{FILE}", FILE, _of_fold(text, fold, known.weights_sha256) if fold else text)


def _of_fold(text: str, fold: str, digest: str) -> str:
    """Return the card of a cross-validation as one fold's: whose scores stand in it, and the hash of its weights."""
    lines = [line for line in text.splitlines() if not line.startswith("- sha256 of `models/folds/") or digest in line]
    lines.insert(
        lines.index("## Model"),
        f"**The network of fold {fold.rpartition('/')[2]}** of a cross-validation. The scores are of all its networks "
        "together, each on the images that it was not trained on.\n",
    )
    return "\n".join(lines) + "\n"
