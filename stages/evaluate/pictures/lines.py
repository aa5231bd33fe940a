"""Curves: ROC, precision against recall, and training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.evaluate.pictures.canvas import BAD, GOOD, GROUP_TITLES, INK, SOFT, figure, panels, said, stroke
from stages.evaluate.pictures.letters import drawn

CORNER = 0.1  # of both axes, shown enlarged: good classifiers differ there alone


def roc(curves: pd.DataFrame, metrics: dict[str, Any], classes: list[str]) -> Figure:
    """Return ROC curves, one class against the rest, for all and clean test images; the best corner enlarged below."""
    made = figure(11, _height(classes), "ROC: each class against the rest", square=True)
    for group, whole, corner in _pairs(made):
        found = metrics[group]
        rows = curves[curves["images"] == group]
        whole.set_title(f"{GROUP_TITLES[group]} (n = {found['n']:,})", loc="left")
        if rows.empty:
            _no_curve(whole, corner)
            continue
        whole.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, dashes=(2, 3))
        for axes in (whole, corner):
            _classes(axes, rows, "false_positive_rate", "true_positive_rate", found, "auc", classes)
            axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
        _framed(whole, corner, (-0.002, CORNER), (1 - CORNER, 1.002))
        _legend(corner, classes, "AUC")
    return made


def precision_recall(curves: pd.DataFrame, metrics: dict[str, Any], classes: list[str]) -> Figure:
    """Return precision against recall, one class against the rest, for all and clean test images; likewise."""
    made = figure(11, _height(classes), "Precision and recall: each class against the rest", square=True)
    for group, whole, corner in _pairs(made):
        rows = curves[curves["images"] == group]
        whole.set_title(f"{GROUP_TITLES[group]} (n = {metrics[group]['n']:,})", loc="left")
        if rows.empty:
            _no_curve(whole, corner)
            continue
        for axes in (whole, corner):
            _classes(axes, rows, "recall", "precision", metrics[group], None, classes)
            axes.set(xlabel="recall (sensitivity)", ylabel="precision")
        _framed(whole, corner, (1 - CORNER, 1.002), (1 - CORNER, 1.002))
        _legend(corner, classes, None)
    return made


def training(history: pd.DataFrame) -> Figure:
    """Return loss, accuracy and learning rate by epoch."""
    made = figure(11, 4.2, f"Training: {len(history)} epoch{'' if len(history) == 1 else 's'}")
    loss, accuracy, rate = panels(made, 1, 3)
    if history.empty:
        for axes in (loss, accuracy, rate):
            said(axes, "no epoch was trained")
        return made
    epochs = history["epoch"] - history["epoch"].min() + 1
    marker = "o" if len(history) <= 30 else ""
    for name, label, colour, line in (("train_loss", "training", GOOD, "-"), ("val_loss", "validation", BAD, "--")):
        if name in history:
            loss.plot(epochs, history[name], color=colour, linestyle=line, label=label, marker=marker, markersize=3.5)
    loss.set_title("loss (cross-entropy)", loc="left")
    loss.legend()
    accuracy.plot(epochs, history["val_accuracy"], color=BAD, linestyle="--", marker=marker, markersize=3.5)
    accuracy.set_title("accuracy on validation images", loc="left")
    rate.plot(epochs, history["lr"], color=GOOD, marker=marker, markersize=3.5, clip_on=False)  # it ends at 0
    rate.set_title("learning rate", loc="left")
    rate.set_ylim(0, None)
    for axes in (loss, accuracy, rate):
        axes.set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(True)
    return made


def _classes(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, found: dict[str, Any], area: str | None, classes: list[str]
) -> None:
    for number, (name, text) in enumerate(zip(classes, drawn(classes), strict=True)):
        curve = rows[rows["class"] == name]
        if len(curve):
            label = f"{found[f'{area}_of'][name]:.4f}  {text}" if area else text
            axes.plot(curve[x], curve[y], label=label, clip_on=True, **stroke(number))  # type: ignore[arg-type]


def _pairs(made: Figure) -> Iterator[tuple[str, Axes, Axes]]:
    """Yield a group of images, the axes of its whole curves, and those of the corner below."""
    all_whole, clean_whole, all_corner, clean_corner = panels(made, 2, 2)
    yield "all", all_whole, all_corner
    yield "clean", clean_whole, clean_corner


def _height(classes: list[str]) -> float:
    return 11.0 + 0.25 * math.ceil(len(classes) / _columns(classes))


def _columns(classes: list[str]) -> int:
    return 2 if max(map(len, drawn(classes))) < 16 else 1


def _no_curve(whole: Axes, corner: Axes) -> None:
    said(whole, "no curve: it takes images of two classes")
    corner.set_axis_off()


def _legend(corner: Axes, classes: list[str], title: str | None) -> None:
    """Name the lines below both axes, where no curve runs."""
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.13), "ncols": _columns(classes)}
    corner.legend(title=title, title_fontsize=9, fontsize=9, alignment="left", borderaxespad=0, **where)


def _framed(whole: Axes, corner: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Set both axes' limits, and mark in the whole what the corner shows."""
    whole.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal", anchor="N")
    corner.set(xlim=x, ylim=y, aspect="equal", anchor="N")
    corner.set_title("the marked corner, enlarged", loc="left", fontsize=10, color=SOFT)
    for axes in (whole, corner):
        axes.grid(True)
    whole.indicate_inset((x[0], y[0], x[1] - x[0], y[1] - y[0]), edgecolor=INK, alpha=0.8)
