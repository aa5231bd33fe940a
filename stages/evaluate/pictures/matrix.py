"""The confusion matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from stages.evaluate.pictures.canvas import GROUP_TITLES, INK, SOFT, figure, panels, said
from stages.evaluate.pictures.letters import drawn

# white to a dark blue, lightness falling evenly; read from one hue, so colour vision does not matter
SHADES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9ecae8", "#2b7bba", "#08407a"])
TEXT_UP_TO = 16  # classes; beyond, cells are too small for letters


def confusion(counts: dict[str, pd.DataFrame]) -> Figure:
    """Return one matrix a group (all, clean) of counts [class, class]: how many, and the share of the row."""
    classes = len(next(iter(counts.values())))
    side = max(4.6, 0.55 * min(classes, 40) + 2.6)
    made = figure(2 * side + 0.6, 0.86 * side + 0.4, "Confusion matrix: test images, and their share of the row")
    for axes, (group, table) in zip(panels(made, 1, len(counts)), counts.items(), strict=True):
        n = int(table.to_numpy().sum())
        axes.set_title(f"{GROUP_TITLES[group]} (n = {n:,})", loc="left")
        if n:
            _matrix(axes, table)
        else:
            said(axes, f"there are no {GROUP_TITLES[group]}")
    return made


def _matrix(axes: Axes, table: pd.DataFrame) -> None:
    numbers = table.to_numpy()
    sums = numbers.sum(axis=1, keepdims=True)
    shares = numbers / np.where(sums > 0, sums, 1)
    places, edges = np.arange(len(table)), np.arange(len(table) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap=SHADES, vmin=0, vmax=1)  # an image would be a PNG in the SVG
    axes.set(aspect="equal", ylim=edges[[-1, 0]])
    names = drawn([str(name) for name in table.columns])
    turned = len(names) > 4 or max(map(len, names)) > 11
    axes.set_xticks(
        places, names, rotation=40 if turned else 0, ha="right" if turned else "center", rotation_mode="anchor"
    )
    axes.set_yticks(places, [f"{name}\n(n = {n:,})" for name, n in zip(names, sums[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="actual")
    axes.tick_params(length=0)
    axes.set_xticks(places[1:] - 0.5, minor=True)
    axes.set_yticks(places[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="#c9d0d8", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#c9d0d8")
    if len(names) <= TEXT_UP_TO:
        _cells(axes, numbers, shares)


def _cells(axes: Axes, numbers: np.ndarray, shares: np.ndarray) -> None:
    """Write count and share into each cell; an empty cell stays quiet."""
    size = 12.5 if len(numbers) <= 6 else 8
    for (row, column), n in np.ndenumerate(numbers):
        colour = "white" if shares[row, column] > 0.5 else INK if n else SOFT
        axes.text(
            column,
            row - 0.04 if n else row,
            f"{n:,}",
            ha="center",
            va="bottom" if n else "center",
            fontsize=size,
            color=colour,
            fontweight="bold" if n else "normal",
        )
        if n:
            axes.text(
                column,
                row + 0.06,
                f"{shares[row, column]:.1%}",
                ha="center",
                va="top",
                fontsize=size * 0.72,
                color=colour,
            )
