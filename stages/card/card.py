"""models/MODEL_CARD.md: what the weights are, in the form of Hugging Face's model cards (Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from stages.evaluate.absent import absent, counted, without
from stages.evaluate.titles import SCORES, set_apart, stand_ins
from stages.report.schema import Params

PATH = "models/MODEL_CARD.md"
# Name of a score in metrics/scores.csv -> the type by which Hugging Face knows the metric.
TYPES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "auc": "roc_auc",
    "mcc": "matthews_correlation",
    "log_loss": "log_loss",
    "brier": "brier_score",
    "ece": "expected_calibration_error",
}
GROUPS = {
    "all": "all test images",
    "clean": "test images without a copy in training",
    "leaked": "test images that are copies of training images",
}


def card(metrics: dict[str, Any], manifest: pd.DataFrame, chosen: Params, digests: dict[str, str]) -> str:
    """Return the card: front matter for machines, then Markdown for people. Every figure is from metrics/scores.csv."""
    head = yaml.safe_dump(_front(metrics, chosen), sort_keys=False, width=100, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(_sections(metrics, manifest, chosen, digests)) + "\n"


def _front(metrics: dict[str, Any], chosen: Params) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {
                "name": f"{chosen.report.title}: {text}{_without(metrics[group], chosen)}",
                "type": _source(chosen),
                "split": "test",
            },
            "metrics": [
                {"type": kind, "name": SCORES[key], "value": metrics[group][key]}
                for key, kind in TYPES.items()
                if key in metrics[group]
            ],
        }
        for group, text in GROUPS.items()
        if metrics[group]["n"]
    ]
    return {
        "license": "mit",
        "library_name": "torchvision",
        "pipeline_tag": "image-classification",
        "tags": ["resnet-50", "mri", "safetensors", "reproducible"],
        "metrics": ["accuracy", "f1", "precision", "recall", "roc_auc"],
        "model-index": [{"name": f"ResNet-50, {chosen.report.title}", "results": results}],
    }


def _sections(metrics: dict[str, Any], manifest: pd.DataFrame, chosen: Params, digests: dict[str, str]) -> list[str]:
    used = manifest[manifest["status"] == "ok"]
    weights = chosen.backbone.weights
    return [
        f"# ResNet-50 for slices of a head, from MRI: {chosen.report.title}",
        "**Not a medical device.** Nothing that this network says may be used to treat anyone.",
        "## Model\n\n"
        f"Takes one grey slice, {chosen.image_size} x {chosen.image_size} pixels, and gives probabilities for "
        f"{', '.join(chosen.classes)}. torchvision's ResNet-50 with a stem of one channel, as safetensors.\n\n"
        + "".join(
            f"- sha256 of `{path}`: `{digest}`\n" for path, digest in digests.items() if path.startswith("models")
        )
        + f"- tree digest of the images: `{digests['all images (tree digest)']}`\n"
        f"- starts from {'random weights' if weights == 'random' else f'weights: {weights}'}; calibrated by "
        f"temperature {_temperature(metrics)} on validation images",
        "## Uses\n\n"
        "For work on method: reproducibility, leakage between training and test images, calibration. Out of scope: "
        "diagnosis, triage, any use on patients; images other than such slices (`brainmri predict` says when one looks "
        "like nothing it was trained on).\n\n"
        "```sh\nbrainmri predict image.jpg      # in the study's folder\n```\n\n"
        "Without any code of this project, on images cut and resized as `stages/prepare` does:\n\n"
        f"{_plain(metrics, chosen)}",
        "## Training\n\n"
        f"{_trained_on(used, chosen)}, "
        f"{chosen.epochs} epochs, batch {chosen.batch_size}, AdamW at {chosen.lr}, {chosen.precision}, seed "
        f"{chosen.seed}. Every parameter is in the study's `params.yaml`; `dvc repro` makes the same bits again.",
        f"## Evaluation\n\n{metrics['all']['n']} test images. 95 % intervals in brackets.\n\n"
        f"{_table(metrics, chosen.classes)}{_by_patient(metrics, chosen)}",
        "## Limits\n\n"
        "- A test image that is a copy of a training image measures memory: read the column without copies.\n"
        f"- {_heads(metrics)}\n"
        f"- The most similar training image, compared at 16 x 16 cells, gives {_nearest(metrics)} on all test images: "
        "part of any accuracy here is reading the source of an image.\n"
        "- The images tell nothing of age, sex, scanner or hospital, so how it does by them is not known.",
    ]


def _trained_on(used: pd.DataFrame, chosen: Params) -> str:
    """Return how many images train, and which of them."""
    split = chosen.split
    if split.protocol == "by_patient":
        networks = f"{len(split.folds)} networks, each" if len(split.folds) > 1 else "one network,"
        once = f" ({used['group'].nunique()} pictures: one of each group of copies)" if split.unique else ""
        return (
            f"{len(used)} images{once}, divided into {split.parts} parts, no patient in two of them: {networks} tested "
            f"on one part and trained on the others ({split.val_fraction:.0%} of those validate)"
        )
    counts = used["split"].value_counts()
    given = int(counts.get("Validation", 0))
    validate = f"{given} others validate" if given else f"{split.val_fraction:.0%} of them validate"
    dropped = {"published": "all of them train", "leak_free": "those with a copy among the test images are dropped"}
    return f"{int(counts.get('Training', 0))} training images ({dropped[split.protocol]}; {validate})"


def _plain(metrics: dict[str, Any], chosen: Params) -> str:
    """Return how plain torch loads the weights and gives the probabilities that the evaluation gives."""
    side, classes = chosen.image_size, len(chosen.classes)
    logits = "(model(x) + model(x.flip(3))) / 2" if chosen.evaluate.mirror else "model(x)"
    return f"""```python
import json

import torch
from safetensors import safe_open
from torchvision.models import resnet50

with safe_open("models{next(iter(chosen.split.folds.values()))}/model.safetensors", framework="pt") as file:
    about = json.loads(file.metadata()["brainmri"])
    state = {{name: file.get_tensor(name) for name in file.keys()}}

model = resnet50(num_classes=len(about["classes"]))
model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
model.fc = torch.nn.Sequential(torch.nn.Dropout(about["dropout"]), model.fc)
model.load_state_dict(state)
model.eval()


@torch.inference_mode()
def probabilities(images):  # uint8 [N, {side}, {side}] -> [N, {classes}], in the order of about["classes"]
    x = (images.unsqueeze(1).float() / 255 - about["mean"]) / about["std"]
    return torch.softmax({logits} / {_temperature(metrics)}, dim=1)
```"""


def _temperature(metrics: dict[str, Any]) -> float:
    """Return the temperature of the network that is shown: of several folds, the first one's."""
    found = metrics["temperature"]
    return float(found["0"] if isinstance(found, dict) else found)


def _table(metrics: dict[str, Any], classes: list[str]) -> str:
    groups = [name for name in GROUPS if metrics[name]["n"]]
    lines = ["| | " + " | ".join(f"{GROUPS[name]} ({counted(metrics[name], classes)})" for name in groups) + " |"]
    lines.append("|---|" + "---|" * len(groups))
    for key in TYPES:
        cells = [_cell(metrics[name], key) for name in groups]
        if any(cells):
            lines.append(f"| {SCORES[key]} | " + " | ".join(cells) + " |")
    for name in metrics["all"].get("sensitivity", {}):
        cells = [f"{value:.4f}" if (value := metrics[g]["sensitivity"].get(name)) is not None else "" for g in groups]
        lines.append(f"| sensitivity, {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _heads(metrics: dict[str, Any]) -> str:
    if "patients" not in metrics:
        return "Clean of copies is not clean of patients: several slices of one head can stand on both sides."
    known, unknown = metrics["known_patients"]["n"], metrics["unknown_patients"]["n"]
    return (
        f"{known:,} test images are of patients who have training images as well, and of {unknown:,} the patient is "
        "unknown: what they say of new patients is not known."
        if known or unknown
        else "No test image is of a patient who has training images."
    )


def _by_patient(metrics: dict[str, Any], chosen: Params) -> str:
    """Return what is known of patients, and of the classes without those set apart; nothing where nothing is."""
    lines = []
    if "patients" in metrics:
        found, by_patient = metrics["patients"], metrics["all"]["by_patient"]
        each = _cell({"accuracy": metrics["all"]["accuracy"]} | by_patient, "accuracy")
        lines.append(f"- accuracy, its interval by patient: {each}. {stand_ins(found)}")
        lines.append(
            f"- all slices of a patient together: {_cell(found, 'accuracy')} ({counted(found, chosen.classes)})"
        )
        for name, text in {"known_patients": "patients with training images", "new_patients": "new patients"}.items():
            if metrics[name]["n"]:
                lines.append(f"- {text}: {_cell(metrics[name], 'accuracy')} ({counted(metrics[name], chosen.classes)})")
    if "others" in metrics and metrics["others"]["n"]:
        four, alone = (_cell(metrics[name], "accuracy") for name in ("others", "others_alone"))
        lines.append(
            f"- without {' and '.join(chosen.evaluate.apart)}: {four}; told among these classes alone: {alone}. "
            f"{set_apart(chosen.evaluate.apart)}"
        )
    return "".join(["\n\n", "\n".join(lines)]) if lines else ""


def _without(group: dict[str, Any], chosen: Params) -> str:
    note = without(absent(group, chosen.classes))
    return f" ({note})" if note else ""


def _cell(group: dict[str, Any], key: str) -> str:
    if key not in group:
        return ""
    low, high = group.get(f"{key}_low"), group.get(f"{key}_high")
    return f"{group[key]:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low is not None else "")


def _nearest(metrics: dict[str, Any]) -> str:
    found = metrics["baselines"]["nearest_neighbour"].get("all")
    return f"an accuracy of {found['accuracy']:.4f}" if found else "no accuracy (there are none)"


def _source(chosen: Params) -> str:
    return chosen.fetch.kaggle.dataset if chosen.fetch.source == "kaggle" else chosen.fetch.source
