"""Curves: ROC, precision against recall, and training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.evaluate.pictures.canvas import BAD, GOOD, GRID, GROUP_TITLES, INK, SOFT, figure, panels, said, stroke

CORNER = 0.1  # of both axes, shown enlarged: good classifiers differ there alone
INSIDE = 6  # classes whose names fit inside the axes


def roc(curves: pd.DataFrame, metrics: dict[str, Any], classes: list[str]) -> Figure:
    """Return ROC curves, one class against the rest, for all and clean test images; the best corner enlarged."""
    made = figure(11, _height(classes), "ROC: each class against the rest")
    for axes, group in zip(panels(made, 1, 2), GROUP_TITLES, strict=True):
        found = metrics[group]
        rows = curves[curves["images"] == group]
        axes.set_title(f"{GROUP_TITLES[group]} (n = {found['n']:,})", loc="left")
        if rows.empty:
            said(axes, "no curve: it takes images of two classes")
            continue
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, dashes=(2, 3))
        axes.text(0.2, 0.225, "chance", color=SOFT, rotation=45, rotation_mode="anchor", fontsize=8.5)
        corner = axes.inset_axes((0.46, 0.42, 0.48, 0.48))
        for where in (axes, corner):
            _classes(where, rows, "false_positive_rate", "true_positive_rate", found, "auc", classes)
        corner.set(xlim=(-0.002, CORNER), ylim=(1 - CORNER, 1.002))
        _boxed(axes, corner)
        _shares(axes, "false positive rate (1 - specificity)", "true positive rate (sensitivity)")
        _legend(axes, classes, "AUC", "lower right", 1)
    return made


def precision_recall(curves: pd.DataFrame, metrics: dict[str, Any], classes: list[str]) -> Figure:
    """Return precision against recall, one class against the rest, for all and clean test images."""
    made = figure(11, _height(classes), "Precision and recall: each class against the rest")
    for axes, group in zip(panels(made, 1, 2), GROUP_TITLES, strict=True):
        rows = curves[curves["images"] == group]
        axes.set_title(f"{GROUP_TITLES[group]} (n = {metrics[group]['n']:,})", loc="left")
        if rows.empty:
            said(axes, "no curve: it takes images of two classes")
            continue
        corner = axes.inset_axes((0.12, 0.3, 0.48, 0.48))
        for where in (axes, corner):
            _classes(where, rows, "recall", "precision", metrics[group], None, classes)
        corner.set(xlim=(1 - CORNER, 1.002), ylim=(1 - CORNER, 1.002))
        _boxed(axes, corner)
        _shares(axes, "recall (sensitivity)", "precision")
        _legend(axes, classes, None, "lower left", 2)
    return made


def training(history: pd.DataFrame) -> Figure:
    """Return loss, accuracy and learning rate by epoch."""
    made = figure(11, 4.2, f"Training: {len(history)} epochs")
    loss, accuracy, rate = panels(made, 1, 3)
    epochs = history["epoch"] - history["epoch"].min() + 1
    marker = "o" if len(history) <= 30 else ""
    for name, label, colour, line in (("train_loss", "training", GOOD, "-"), ("val_loss", "validation", BAD, "--")):
        if name in history:
            loss.plot(epochs, history[name], color=colour, linestyle=line, label=label, marker=marker, markersize=3.5)
    loss.set_title("loss (cross-entropy)", loc="left")
    loss.legend()
    accuracy.plot(epochs, history["val_accuracy"], color=BAD, linestyle="--", marker=marker, markersize=3.5)
    accuracy.set_title("accuracy on validation images", loc="left")
    rate.plot(epochs, history["lr"], color=GOOD, marker=marker, markersize=3.5)
    rate.set_title("learning rate", loc="left")
    rate.set_ylim(0, None)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.grid(True)
    return made


def _classes(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, found: dict[str, Any], area: str | None, classes: list[str]
) -> None:
    for number, name in enumerate(classes):
        curve = rows[rows["class"] == name]
        if len(curve):
            label = f"{found[f'{area}_of'][name]:.4f}  {name}" if area else name
            axes.plot(curve[x], curve[y], label=label, clip_on=True, **stroke(number))  # type: ignore[arg-type]


def _height(classes: list[str]) -> float:
    return 5.5 if len(classes) <= INSIDE else 6.6 + 0.21 * len(classes) / _columns(classes)


def _columns(classes: list[str]) -> int:
    return 2 if max(map(len, classes)) < 16 else 1


def _legend(axes: Axes, classes: list[str], title: str | None, place: str, columns: int) -> None:
    """Name the lines inside the axes, or below them where there are many."""
    where: dict[str, Any] = {"loc": place, "ncols": columns, "fontsize": 9}
    if len(classes) > INSIDE:
        where = {"loc": "upper left", "bbox_to_anchor": (0, -0.11), "ncols": _columns(classes), "fontsize": 8}
    axes.legend(title=title, title_fontsize=9, alignment="left", **where)


def _boxed(axes: Axes, corner: Axes) -> None:
    corner.set_facecolor("white")
    corner.grid(True)
    corner.tick_params(labelsize=7.5)
    corner.set_title("the marked corner, enlarged", fontsize=8.5, color=SOFT, loc="left", pad=3)
    for spine in corner.spines.values():
        spine.set(visible=True, color=GRID)
    (low, high), (bottom, top) = corner.get_xlim(), corner.get_ylim()
    axes.indicate_inset((low, bottom, high - low, top - bottom), edgecolor=INK, alpha=0.8)


def _shares(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=x, ylabel=y, aspect="equal", anchor="N")
    axes.grid(True)
