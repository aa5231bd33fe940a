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
from stages.evaluate import calibration, outputs, predictor, tables
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

WEIGHTS, INDEX = "models/model.safetensors", "data/prepared/index.csv"
AS_TEXT = {"path": str, "label": str, "leaked": str, "patient": str}  # a class may be called 1, or NA


def main() -> None:
    """Read parameters, arrays and weights; ask the network; score; write."""
    chosen = params.load(Params)
    runtime.exact(chosen.threads, "fp32")
    index = pd.read_csv(INDEX, dtype=AS_TEXT, keep_default_na=False)
    given, temperature = _probabilities(chosen, index)
    predicted = tables.predictions(index[index["array"] == "test"], given, chosen.classes)
    metrics = _metrics(predicted, given, temperature, chosen) | {"baselines": baselines(index, chosen.classes)}
    history = pd.read_csv("models/curves/history.csv")
    if line := letters.told(chosen.classes):
        print(f"evaluate: {line}", file=sys.stderr)
    drawn = outputs.plot_tables(predicted, history, chosen.classes, chosen.evaluate.bins)
    pictures = outputs.pictures(drawn, metrics, chosen.classes)
    write_json("metrics/test.json", headline(metrics))
    write_json("metrics/sensitivity.json", sensitivities(metrics))
    write_figures("metrics/scores.csv", metrics)
    write_json("models/predictor.json", predictor.predictor(chosen, index, temperature, Path(WEIGHTS)))
    write_csv("data/predictions.csv", predicted)
    for name, table in drawn.items():
        write_csv(f"plots/{name}.csv", table)
    for name, picture in pictures.items():
        atomic_write(f"plots/{name}.png", picture)
    print(summary(metrics, tables.counts(drawn["confusion"], chosen.classes)))


def _probabilities(chosen: Params, index: pd.DataFrame) -> tuple[NDArray[np.float64], float]:
    """Return the test images' probabilities [N, C] and the temperature, fitted on the validation images alone."""
    model, meta = network.load(WEIGHTS)
    if meta.classes != chosen.classes:
        raise InputError(
            f"{WEIGHTS} was trained on the classes {', '.join(meta.classes)}; params.yaml has "
            f"{', '.join(chosen.classes)}: run `dvc repro`, which trains again"
        )
    device = runtime.device(chosen.device)
    model = model.to(device)

    def ask(array: str) -> NDArray[np.float32]:
        images = np.load(f"data/prepared/{array}.npy", mmap_mode="r")
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
        return _finite(found.reshape(-1, len(meta.classes)))

    temperature = 1.0
    if chosen.evaluate.temperature_scaling:
        labels = tables.numbers(index.loc[index["array"] == "val", "label"], chosen.classes)
        temperature = calibration.fit_temperature(ask("val"), labels)
    return calibration.probabilities(ask("test"), temperature), temperature


def _metrics(predicted: pd.DataFrame, given: NDArray[np.float64], temperature: float, chosen: Params) -> dict[str, Any]:
    labels, leaked = tables.numbers(predicted["label"], chosen.classes), (predicted["leaked"] != "none").to_numpy()
    settings = {"seed": chosen.seed, "bootstrap": chosen.evaluate.bootstrap, "bins": chosen.evaluate.bins}
    found = scores_by_group(labels, given, leaked, chosen.classes, **settings)
    return with_patients(found, predicted, chosen.classes, chosen.evaluate.apart, **settings) | {
        "temperature": temperature
    }


def _finite(found: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(found).all():
        raise InputError(f"the network of {WEIGHTS} gives outputs that are not finite: train it with a smaller lr")
    return found


if __name__ == "__main__":
    run("evaluate", main)
