"""Writes report/index.html. Run as `python -m stages.report` in a study's folder."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import params, runtime
from stages.backbone import network
from stages.fetch.tree import digest, files
from stages.files import atomic_write, read_figures, sha256_file
from stages.report import boxes, mistakes, page, sections
from stages.report.answer import answer
from stages.report.classes import scores
from stages.report.gradcam import gradcam, overlay
from stages.report.patients import patients
from stages.report.schema import Params
from stages.report.whose import whose
from stages.shell.errors import InputError
from stages.shell.running import run
from stages.verify import picture

PLOTS = {
    "plots/confusion.svg": "Confusion matrix: how many test images of each class (rows) were called what (columns).",
    "plots/leakage.svg": "How many test images of each class are clean, and how many are copies of training images.",
    "plots/roc.svg": "ROC curves, one class against the rest.",
    "plots/precision_recall.svg": "Precision and recall, one class against the rest.",
    "plots/reliability.svg": "How often the network is right, against how sure it is.",
    "plots/histograms.svg": "The probability given to the true class.",
    "plots/curves.svg": "Training and validation, epoch by epoch.",
}
EXAMPLES = 3  # of each class
MAX_PIXELS = 1_000_000_000  # verify has refused what is too large already


def main() -> None:
    """Read tables, scores and pictures; write the page."""
    chosen = params.load(Params)
    manifest = pd.read_csv("data/manifest.csv", keep_default_na=False, dtype={"label": str, "patient": str})
    found = pd.read_csv("data/pairs.csv", keep_default_na=False, dtype={"label": str})
    predictions = pd.read_csv("data/predictions.csv", keep_default_na=False, dtype={"label": str, "predicted": str})
    metrics = read_figures("metrics/scores.csv")
    crossing = found[(found["split"] != found["twin_split"]) & (found["kind"] != "neighbour")]
    left_out = pd.read_csv("data/left_out.csv")
    report, protocol = chosen.report, chosen.split.protocol
    digests = {"all images (tree digest)": digest(files(manifest)), **page_digests(chosen.split.folds)}
    wrong, right = mistakes.clean_errors(predictions), mistakes.clean_right(predictions, EXAMPLES)
    shown = wrong[: report.errors]
    runtime.exact(chosen.threads, "fp32")
    known = boxes.of_images(boxes.read(report.boxes), manifest["path"])
    boxed, in_square = boxes.chosen(
        predictions,
        known,
        chosen.classes,
        lambda path: boxes.in_square(known[path], read(path), chosen.image_size, chosen.prepare),
    )
    looked = look(pd.concat([shown, right, boxed]).drop_duplicates("path"), chosen.classes, chosen.split.folds)
    plots = [page.figure(Path(path).read_bytes(), caption) for path, caption in PLOTS.items()]
    values = chosen.model_dump(mode="json")
    parts = [
        answer(metrics, predictions, chosen.classes, chosen.split),
        sections.worth(metrics, chosen.classes, protocol),
        *patients(metrics, chosen.classes, chosen.evaluate.apart),
        *scores(metrics, chosen.classes, report.published),
        mistakes.errors(wrong, chosen.classes, {path: looked[path] for path in shown["path"]}),
        mistakes.right(right, looked),
        *boxes.section(boxed, looked, in_square),
        page.section("Pictures of the result", *sections.numbered(chosen.classes), page.plots(plots)),
        sections.data(
            manifest, chosen.classes, protocol, dict(zip(left_out["reason"], left_out["files"], strict=True))
        ),
        sections.examples(manifest, chosen.classes, EXAMPLES, read),
        sections.audit(predictions, chosen.classes),
        *whose(manifest, chosen.classes, protocol),
        sections.pairs(crossing, report.pairs, read, protocol),
        sections.remake({key: values[key] for key in params.KEYS if key in values}, digests),
    ]
    atomic_write("report/index.html", page.page(report.title, parts))


def page_digests(folds: dict[str, str]) -> dict[str, str]:
    """Return {what it is: SHA-256} of the weights of each fold."""
    names = {fold: f"trained weights, fold {fold}" if len(folds) > 1 else "trained weights" for fold in folds}
    return {names[fold]: sha256_file(f"models{part}/model.safetensors") for fold, part in folds.items()}


def look(rows: pd.DataFrame, classes: list[str], folds: dict[str, str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return where each row's network looked, that of its own fold; see `_look`."""
    if len(folds) == 1:
        return _look(rows, classes, "")
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for fold, part in folds.items():
        found |= _look(rows[rows["fold"].astype(str) == fold], classes, part)
    return found


def _look(rows: pd.DataFrame, classes: list[str], part: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {path: (image [S, S], overlay [H, W, 3])} for rows of the predictions: where the network looked."""
    model, meta = network.load(f"models{part}/model.safetensors")
    index = pd.read_csv(f"data/prepared{part}/index.csv", keep_default_na=False, dtype={"label": str})
    places = index[index["array"] == "test"].set_index("path")["row"]
    paths = rows["path"].tolist()
    images = np.load(f"data/prepared{part}/test.npy", mmap_mode="r")[places[paths].to_numpy(np.int64)]
    numbers = np.array([classes.index(name) for name in rows["predicted"]], np.int64)
    maps = gradcam(model, images, numbers, mean=meta.mean, std=meta.std)
    return {path: (image, overlay(image, heat)) for path, image, heat in zip(paths, images, maps, strict=True)}


def read(path: str) -> np.ndarray:
    """Return an image of the raw data, uint8 [H, W]; InputError where it is not as verify found it."""
    file = Path("data/raw") / path
    try:
        return picture.read(Path("data/raw"), path, MAX_PIXELS).grey
    except (OSError, InputError) as error:
        raise InputError(f"{file} is not as the verify stage found it ({error}): run `dvc repro`") from None


if __name__ == "__main__":
    run("report", main)
