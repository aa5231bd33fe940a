"""Writes the scores in metrics/, data/predictions.csv, models/predictor.json and plots/.

Run as `python -m stages.evaluate` in a study's folder.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages import params, runtime
from stages.backbone import network
from stages.backbone.inference import logits
from stages.evaluate import calibration, folds, outputs, predictor, tables
from stages.evaluate.baselines import baselines
from stages.evaluate.by_patient import with_patients
from stages.evaluate.pictures import letters
from stages.evaluate.schema import Params
from stages.evaluate.scores import headline, scores_by_group, sensitivities
from stages.evaluate.summary import summary
from stages.files import atomic_write, write_csv, write_figures, write_json
from stages.shell.errors import InputError
from stages.shell.progress import progress_bar
from stages.shell.running import run

AS_TEXT = {"path": str, "label": str, "leaked": str, "patient": str}  # a class may be called 1, or NA


def main() -> None:
    """Read parameters, arrays and weights; ask the network; score; write."""
    chosen = params.load(Params)
    runtime.exact(chosen.threads, "fp32")
    parts = chosen.split.folds
    several = len(parts) > 1
    if several:
        folds.sweep(Path("models/curves"), parts.values())
        folds.sweep(Path("models/folds"), {part.removeprefix("/folds") for part in parts.values()})
    indexes = {
        part: pd.read_csv(f"data/prepared{part}/index.csv", dtype=AS_TEXT, keep_default_na=False)
        for part in parts.values()
    }
    asked = {part: _probabilities(chosen, index, part) for part, index in indexes.items()}
    given = np.concatenate([found for found, _ in asked.values()])
    temperatures = {fold: asked[part][1] for fold, part in parts.items()}
    tests = [index[index["array"] == "test"] for index in indexes.values()]
    predicted = tables.predictions(pd.concat(tests), given, chosen.classes)
    metrics = _metrics(predicted, given, chosen) | {
        "temperature": temperatures if several else temperatures["0"],
        "baselines": baselines(indexes, chosen.classes),
    }
    if several:
        predicted["fold"] = np.repeat(list(parts), [len(test) for test in tests])
        labels = tables.numbers(predicted["label"], chosen.classes)
        metrics["folds"] = folds.spread(labels, given, predicted["fold"].to_numpy(), chosen.classes)
    history = folds.mean_history([pd.read_csv(f"models/curves{part}/history.csv") for part in indexes])
    predictors = {
        fold: predictor.predictor(chosen, indexes[part], temperatures[fold], Path(f"models{part}/model.safetensors"))
        for fold, part in parts.items()
    }
    if line := letters.told(chosen.classes):
        print(f"evaluate: {line}", file=sys.stderr)
    drawn = outputs.plot_tables(predicted, history, chosen.classes, chosen.evaluate.bins)
    pictures = outputs.pictures(drawn, metrics, chosen.classes)
    write_json("metrics/test.json", headline(metrics))
    write_json("metrics/sensitivity.json", sensitivities(metrics))
    write_figures("metrics/scores.csv", metrics)
    write_json("models/predictor.json", {"folds": predictors} if several else predictors["0"])
    write_csv("data/predictions.csv", predicted)
    for name, table in drawn.items():
        write_csv(f"plots/{name}.csv", table)
    for name, picture in pictures.items():
        atomic_write(f"plots/{name}.svg", picture)
    print(summary(metrics, tables.counts(drawn["confusion"], chosen.classes)))


def _probabilities(chosen: Params, index: pd.DataFrame, part: str) -> tuple[NDArray[np.float64], float]:
    """Return a fold's test images' probabilities [N, C] and the temperature, fitted on the validation images alone."""
    weights = f"models{part}/model.safetensors"
    model, meta = network.load(weights)
    if meta.classes != chosen.classes:
        raise InputError(
            f"{weights} was trained on the classes {', '.join(meta.classes)}; params.yaml has "
            f"{', '.join(chosen.classes)}: run `dvc repro`, which trains again"
        )
    device = runtime.device(chosen.device)
    model = model.to(device)

    def ask(array: str) -> NDArray[np.float32]:
        images = np.load(f"data/prepared{part}/{array}.npy", mmap_mode="r")
        with progress_bar(total=len(images), unit="img", desc=array, mininterval=1) as bar:
            found = logits(
                model,
                images,
                mean=meta.mean,
                std=meta.std,
                batch_size=chosen.evaluate.batch_size,
                device=device,
                mirror=chosen.evaluate.mirror,
                progress=bar.update,
            )
        return _finite(found.reshape(-1, len(meta.classes)), weights)

    temperature = 1.0
    if chosen.evaluate.temperature_scaling:
        labels = tables.numbers(index.loc[index["array"] == "val", "label"], chosen.classes)
        temperature = calibration.fit_temperature(ask("val"), labels)
    return calibration.probabilities(ask("test"), temperature), temperature


def _metrics(predicted: pd.DataFrame, given: NDArray[np.float64], chosen: Params) -> dict[str, Any]:
    labels, leaked = tables.numbers(predicted["label"], chosen.classes), (predicted["leaked"] != "none").to_numpy()
    settings = {"seed": chosen.seed, "bootstrap": chosen.evaluate.bootstrap, "bins": chosen.evaluate.bins}
    found = scores_by_group(labels, given, leaked, chosen.classes, **settings)
    return with_patients(found, predicted, chosen.classes, chosen.evaluate.apart, **settings)


def _finite(found: NDArray[np.float32], weights: str) -> NDArray[np.float32]:
    if not np.isfinite(found).all():
        raise InputError(f"the network of {weights} gives outputs that are not finite: train it with a smaller lr")
    return found


if __name__ == "__main__":
    run("evaluate", main)
