"""Bars: copies in the test set, reliability, and the probability of the true class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.evaluate.intervals import wilson
from stages.evaluate.pictures.canvas import BAD, COLOURS, GOOD, GROUP_TITLES, INK, SOFT, counted, figure, panels, said
from stages.evaluate.pictures.letters import drawn

LINEAR = 10  # images up to which the axis of a histogram is linear
KIND_NAMES = {
    "none": "clean: no copy in training",
    "byte": "the same file",
    "pixel": "the same pixels",
    "copy": "re-encoded, rescaled or re-contrasted",
    "mirrored": "mirrored",
    "rotated": "turned, or flipped otherwise",
}
KIND_COLOURS = ("#c3ccd6", COLOURS[0], COLOURS[5], COLOURS[1], COLOURS[4], COLOURS[2], COLOURS[3])


def leakage(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Return, for each class, how many test images are clean, and how many leaked by which kind."""
    wide = table.pivot(index="class", columns="kind", values="images").loc[classes, list(dict.fromkeys(table["kind"]))]
    wide = wide.loc[:, (wide.sum() > 0) | (wide.columns == "none")]
    n, leaked = int(wide.to_numpy().sum()), int(wide.drop(columns="none").to_numpy().sum())
    share = f"{leaked / n:.1%}" if n else "none"
    made = figure(
        11,
        1.9 + 0.62 * len(classes),
        f"Copies in the test set: {leaked:,} of {n:,} test images ({share}) are copies of training images",
    )
    (axes,) = panels(made, 1, 1)
    start, widest, names = np.zeros(len(classes)), max(1, int(wide.sum(axis=1).max())), drawn(classes)
    for number, kind in enumerate(wide.columns):
        length = wide[kind].to_numpy()
        colour = KIND_COLOURS[min(number if kind not in KIND_NAMES else list(KIND_NAMES).index(kind), 6)]
        axes.barh(
            names,
            length,
            left=start,
            color=colour,
            edgecolor="white",
            linewidth=1,
            height=0.66,
            label=f"{KIND_NAMES.get(kind, kind)} ({int(length.sum()):,})",
        )
        for row, images in enumerate(length):
            if images >= 0.025 * widest:
                dark = colour in (COLOURS[0], COLOURS[1], COLOURS[2])
                axes.text(
                    start[row] + images / 2,
                    row,
                    f"{images:,}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if dark else INK,
                )
        start += length
    _leaked_shares(axes, wide, widest)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    counted(axes.xaxis)
    axes.set(xlabel="test images", xlim=(0, widest * 1.16))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    made.legend(loc="outside lower left", ncols=3, fontsize=9, columnspacing=1.5)
    return made


def _leaked_shares(axes: Axes, wide: pd.DataFrame, widest: int) -> None:
    total = wide.sum(axis=1)
    for row, (images, clean) in enumerate(zip(total, wide["none"], strict=True)):
        share = {images: "none", 0: "all"}.get(clean) or f"{(images - clean) / images:.1%}"
        text = f"{share} leaked" if images else "no test images"
        axes.text(images + 0.012 * widest, row, text, va="center", fontsize=9, color=SOFT)


def reliability(table: pd.DataFrame, metrics: dict[str, Any]) -> Figure:
    """Return accuracy against confidence, with 95 % intervals, and how many images there are of each confidence."""
    made = figure(11, 6, f"Reliability: is it right as often as it is sure?  (temperature {_temperature(metrics)})")
    axes = panels(made, 2, 2, sharex=True, sharey="row", gridspec_kw={"height_ratios": [4, 1]})
    most = int(table["n"].max()) if len(table) else 1
    for column, group in enumerate(GROUP_TITLES):
        upper, lower = axes[column], axes[column + 2]
        rows, found = table[table["images"] == group], metrics[group]
        error = f"; calibration error {found['ece']:.4f}" if found["n"] else ""
        upper.set_title(f"{GROUP_TITLES[group]} (n = {found['n']:,}){error}", loc="left")
        if rows.empty:
            said(upper, f"there are no {GROUP_TITLES[group]}")
            lower.set_visible(False)
            continue
        _reliable(upper, rows)
        lower.bar(
            rows["low"], rows["n"], width=rows["high"] - rows["low"], align="edge", color="#c3ccd6", edgecolor="white"
        )
        lower.set(
            xlabel="confidence: probability of the predicted class",
            ylabel="images\n(logarithmic)",
            yscale="log",
            xlim=(0, 1.005),
            ylim=(0.7, 1.5 * most),
        )
        lower.set_yticks([10**power for power in range(len(str(most)))])
        counted(lower.yaxis)
    handles, labels = next((place.get_legend_handles_labels() for place in axes[:2] if place.lines), ([], []))
    made.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=9)
    return made


def _temperature(metrics: dict[str, Any]) -> str:
    found = metrics["temperature"]
    return f"{found:g}" if not isinstance(found, dict) else f"{min(found.values()):g} to {max(found.values()):g}"


def _reliable(axes: Axes, rows: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, dashes=(2, 3), label="perfectly calibrated")
    bounds = np.array([wilson(round(a * n), n) for a, n in zip(rows["accuracy"], rows["n"], strict=True)])
    reach = np.abs(bounds.T - rows["accuracy"].to_numpy())
    axes.errorbar(
        rows["confidence"],
        rows["accuracy"],
        yerr=reach,
        color=GOOD,
        ecolor="#8fbbdb",
        elinewidth=2,
        marker="o",
        markersize=4.5,
        linewidth=1.2,
        label="accuracy, with its 95 % interval",
    )
    axes.set(ylabel="accuracy", ylim=(-0.02, 1.03))
    axes.grid(True)


def histograms(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Return, for each class, how the probability given to the true class is spread over the clean test images.

    Over all test images where none is clean.
    """
    n = table.groupby("images")["n"].sum()
    group = "clean" if n.get("clean", 0) else "all"
    rows = table[table["images"] == group]
    columns = min(len(classes), 4)
    lines = -(-len(classes) // columns)
    made = figure(
        max(7, 2.75 * columns),
        1.2 + 2.8 * lines,
        f"Probability given to the true class, {GROUP_TITLES[group]} (n = {int(n.get(group, 0)):,})",
    )
    axes = panels(made, lines, columns, sharey=True, sharex=True)
    most = int(rows.groupby(["class", "low"])["n"].sum().max())
    for place, name, text in zip(axes, classes, drawn(classes), strict=False):
        _histogram(place, rows[rows["class"] == name], text)
    _counts(axes[0], most)
    for place in axes[len(classes) :]:
        place.set_visible(False)
    for place in axes[::columns]:
        place.set_ylabel("test images" if most <= LINEAR else f"test images\n(linear to {LINEAR}, then logarithmic)")
    for place in axes[max(0, len(classes) - columns) : len(classes)]:
        place.set_xlabel("probability of the true class", fontsize=9)
        place.tick_params(labelbottom=True)  # also above a place that is left empty
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower right", ncols=2, fontsize=9)
    return made


def _histogram(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    base = np.zeros(len(rows) // 2)
    for outcome, colour in (("wrong", BAD), ("right", GOOD)):
        part = rows[rows["outcome"] == outcome]
        axes.bar(
            part["low"],
            part["n"],
            width=part["high"] - part["low"],
            bottom=base,
            align="edge",
            color=colour,
            edgecolor="white",
            linewidth=0.5,
            label=f"classified {'rightly' if outcome == 'right' else 'wrongly'}",
        )
        base = base + part["n"].to_numpy()
    wrong = int(rows.loc[rows["outcome"] == "wrong", "n"].sum())
    said_of = f"n = {int(base.sum()):,}, {wrong:,} wrong" if base.sum() else "no test image"
    axes.set_title(f"{name}\n{said_of}", fontsize=10, loc="left")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(True, axis="y")


def _counts(axes: Axes, most: int) -> None:
    """Set the shared axis of counts up to `most`: single images show beside hundreds."""
    if most <= LINEAR:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
        axes.set_ylim(0, 1.08 * max(1, most))
    else:
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.set_yticks([0, LINEAR // 2, *(10**power for power in range(1, len(str(most))))])
        axes.set_ylim(0, 1.3 * most)
    counted(axes.yaxis)
