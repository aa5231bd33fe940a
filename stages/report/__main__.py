"""Writes report/index.html. Run as `python -m stages.report` in a study's folder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from stages import params, runtime
from stages.fetch.tree import digest
from stages.files import atomic_write, sha256_file
from stages.report import page, sections
from stages.report.schema import Params
from stages.verify.decode import decode_grey

PICTURES = {
    "plots/confusion.png": "Confusion matrix: how many test images of each class (rows) were called what (columns).",
    "plots/leakage.png": "How many test images of each class are clean, and how many are copies of training images.",
    "plots/roc.png": "ROC curves, one class against the rest.",
    "plots/precision_recall.png": "Precision and recall, one class against the rest.",
    "plots/reliability.png": "How often the network is right, against how sure it is.",
    "plots/histograms.png": "The probability given to the true class.",
    "plots/curves.png": "Training and validation, epoch by epoch.",
}
WEIGHTS = "models/model.safetensors"
EXAMPLES = 3  # of each class
MAX_PIXELS = 1_000_000_000  # verify has refused what is too large already


def main() -> None:
    """Read tables, scores and pictures; write the page."""
    chosen = params.load(Params)
    manifest = pd.read_csv("data/manifest.csv", keep_default_na=False, dtype={"label": str})
    found = pd.read_csv("data/pairs.csv", keep_default_na=False, dtype={"label": str})
    predictions = pd.read_csv("data/predictions.csv", keep_default_na=False, dtype={"label": str, "predicted": str})
    metrics = json.loads(Path("metrics/test.json").read_text())
    crossing = found[found["split"] != found["twin_split"]]
    report = chosen.report
    files = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    digests = {"all images (tree digest)": digest(files), "trained weights": sha256_file(WEIGHTS)}
    pictures = [page.figure(Path(path).read_bytes(), caption) for path, caption in PICTURES.items()]
    atomic_write(
        "report/index.html",
        page.page(
            report.title,
            [
                sections.question(chosen.classes),
                sections.scores(metrics, chosen.classes, report.published),
                sections.worth(metrics),
                sections.data(manifest, chosen.classes),
                sections.examples(manifest, chosen.classes, EXAMPLES, read),
                sections.audit(predictions, chosen.classes),
                page.section("Pictures of the result", *pictures),
                sections.errors(predictions, chosen.classes, report.errors, read),
                sections.pairs(crossing, report.pairs, read),
                sections.remake(chosen.model_dump(mode="json"), digests),
            ],
        ),
    )


def read(path: str) -> np.ndarray:
    """Return an image of the raw data, uint8 [H, W]."""
    return decode_grey((Path("data/raw") / path).read_bytes(), MAX_PIXELS)


if __name__ == "__main__":
    runtime.run("report", main)
