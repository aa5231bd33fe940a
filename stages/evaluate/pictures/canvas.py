"""One look for all pictures: size, letters, colours that colour-blind people tell apart; written as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from stages.evaluate.pictures.letters import FONT

INK, SOFT, GRID = "#1c2430", "#5d6877", "#dfe3e8"
# Okabe and Ito 2008, Color Universal Design; yellow left out, which is hard to see on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", "--", "-.", ":")  # so that lines stay apart in grey, and beyond seven classes
GOOD, BAD = COLOURS[0], COLOURS[1]
GROUP_TITLES = {"all": "all test images", "clean": "clean test images"}

STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "font.family": FONT,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",  # no font is needed to show it
    "svg.hashsalt": "brainmri",  # or ids of clips and markers are random
}


@contextmanager
def style() -> Iterator[None]:
    """Draw as the project does, whatever a person's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def figure(width: float, height: float, title: str, *, square: bool = False) -> Figure:
    """Return an empty figure of a size in inches under a title; `square` where its axes keep their own aspect."""
    made = Figure(figsize=(width, height), layout="compressed" if square else "constrained")
    made.suptitle(title, fontsize=12.5, fontweight="bold", x=0.01, ha="left")
    return made


def panels(made: Figure, rows: int, columns: int, **options: Any) -> list[Axes]:
    """Return rows x columns axes, row by row."""
    return list(np.atleast_1d(made.subplots(rows, columns, squeeze=False, **options)).ravel())


def stroke(number: int) -> dict[str, str]:
    """Return colour and dashes of the line of class `number`."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STROKES[number % len(STROKES)]}


def said(axes: Axes, text: str) -> None:
    """Write on axes that have nothing to show why that is."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=axes.transAxes)


def counted(axis: Axis) -> None:
    """Write the numbers of a logarithmic axis as 1, 10, 100, 1,000 and nothing between."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def to_svg(made: Figure) -> bytes:
    """Return the drawn figure as an SVG file that says nothing of when and with what it was made."""
    written = io.BytesIO()
    FigureCanvasSVG(made).print_svg(written, metadata={"Creator": None, "Date": None})
    return written.getvalue()
