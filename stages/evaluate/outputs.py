"""Everything the stage writes, from predictions, scores and the history of training. Pure."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from stages.evaluate import tables
from stages.evaluate.pictures import bars, lines, matrix
from stages.evaluate.pictures.canvas import style, to_svg


def plot_tables(
    predicted: pd.DataFrame, history: pd.DataFrame, classes: list[str], bins: int
) -> dict[str, pd.DataFrame]:
    """Return {name of a file in plots/, without its ending: table}."""
    chosen = tables.groups(predicted)
    return {
        "confusion": tables.confusion(chosen["all"]),
        "confusion_clean": tables.confusion(chosen["clean"]),
        "roc": tables.roc(predicted, classes),
        "precision_recall": tables.precision_recall(predicted, classes),
        "reliability": tables.calibration(predicted, classes, bins),
        "histograms": tables.histograms(predicted, classes),
        "leakage": tables.leakage(predicted, classes),
        "curves": history,
    }


def pictures(drawn: dict[str, pd.DataFrame], metrics: dict[str, Any], classes: list[str]) -> dict[str, bytes]:
    """Return {name of a file in plots/, without its ending: SVG} from the tables of `plot_tables`."""
    with style():
        return {name: to_svg(made) for name, made in figures(drawn, metrics, classes).items()}


def figures(drawn: dict[str, pd.DataFrame], metrics: dict[str, Any], classes: list[str]) -> dict[str, Figure]:
    """Return {name of a file in plots/, without its ending: figure}; call it in `style`."""
    counts = {
        "all": tables.counts(drawn["confusion"], classes),
        "clean": tables.counts(drawn["confusion_clean"], classes),
    }
    return {
        "confusion": matrix.confusion(counts),
        "roc": lines.roc(drawn["roc"], metrics, classes),
        "precision_recall": lines.precision_recall(drawn["precision_recall"], metrics, classes),
        "reliability": bars.reliability(drawn["reliability"], metrics),
        "histograms": bars.histograms(drawn["histograms"], classes),
        "leakage": bars.leakage(drawn["leakage"], classes),
        "curves": lines.training(drawn["curves"]),
    }
