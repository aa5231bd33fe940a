"""The README's pictures: python bench/pictures.py

docs/pipeline.svg   the stages of dvc.yaml and what needs what; an arrow that a chain of others says is left out
docs/phantoms.png   one phantom of each class, from the default study's seed. No real image is ever shown

The same files say the same pictures (tests/test_pictures.py holds them against what is committed).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import stages  # isort: skip  # noqa: E402, F401 - pins the instruction set before numpy loads

import networkx as nx  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402

from stages import params  # noqa: E402
from stages.dialect import parse  # noqa: E402
from stages.fetch.phantom.study import drawn, plan  # noqa: E402
from stages.fetch.schema import Params  # noqa: E402
from stages.files import atomic_write  # noqa: E402

SHOWN = 3  # outputs named in a box
STEP, WIDE, HIGH, GAP = 150, 124, 78, 22  # pixels: from column to column, a box, and between boxes
SIDE, MARGIN = 200, 8  # pixels of a phantom, and between two
STYLE = """
  svg { font-family: system-ui, sans-serif; fill: #1c2733 }
  rect { fill: #eef3f8; stroke: #51677d } path { fill: none; stroke: #51677d; stroke-width: 1.5 }
  .name { font-size: 15px; font-weight: 600 } .out { font-size: 10.5px } marker path { fill: #51677d; stroke: none }
  @media (prefers-color-scheme: dark) {
    svg { fill: #e6edf3 } rect { fill: #1d2733; stroke: #8aa0b6 } path { stroke: #8aa0b6 } marker path { fill: #8aa0b6 }
  }
"""


def main() -> int:
    """Write both."""
    declared = parse((ROOT / "dvc.yaml").read_text())["stages"]
    atomic_write(ROOT / "docs/pipeline.svg", svg(graph(declared, networks()), declared))
    png = io.BytesIO()
    Image.fromarray(row()).save(png, "PNG", optimize=True)
    atomic_write(ROOT / "docs/phantoms.png", png.getvalue())
    return 0


def networks() -> str:
    """Return what the default study's train stage makes below models/."""
    return str(params.read(ROOT / "params.yaml")["split"]["networks"])


def graph(declared: dict[str, Any], made_by_train: str) -> nx.DiGraph:
    """Return which stage needs which, without the arrows that follow from others."""
    makes = {path: stage for stage, entry in declared.items() for path in outputs(entry)}
    found = nx.DiGraph()
    found.add_nodes_from(declared)
    for stage, entry in declared.items():
        for dep in entry.get("do", entry)["deps"]:
            path = dep.replace("${item}", "").replace("${split.networks}", made_by_train)
            found.add_edges_from((by, stage) for out, by in makes.items() if PurePosixPath(path).is_relative_to(out))
    return nx.transitive_reduction(found)


def outputs(entry: dict[str, Any]) -> list[str]:
    """Return what a stage makes; of a foreach, what it makes for one network alone."""
    entry = entry.get("do", entry)
    listed = [out for kind in ("outs", "metrics", "plots") for out in entry.get(kind, [])]
    return [(out if isinstance(out, str) else next(iter(out))).replace("${item}", "") for out in listed]


def places(needs: nx.DiGraph, order: list[str]) -> dict[str, tuple[int, int]]:
    """Return column and row of each stage: as far to the right as what needs it allows."""
    following = {stage: needs.subgraph({stage} | nx.descendants(needs, stage)) for stage in order}
    after = {stage: nx.dag_longest_path_length(each) for stage, each in following.items()}
    rows: dict[int, int] = {}
    found = {}
    for stage in order:
        column = max(after.values()) - after[stage]
        found[stage] = (column, rows.get(column, 0))
        rows[column] = rows.get(column, 0) + 1
    return found


def svg(needs: nx.DiGraph, declared: dict[str, Any]) -> str:
    """Return the picture, light or dark as the page is that shows it."""
    at = places(needs, list(declared))
    corner = {stage: (13 + column * STEP, 8 + row * (HIGH + GAP)) for stage, (column, row) in at.items()}
    wide = max(x for x, _ in corner.values()) + WIDE + 13
    high = max(y for _, y in corner.values()) + HIGH + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {wide} {high}" '
        f'width="{wide}" height="{high}">',
        f"<title>The pipeline: {', '.join(declared)}</title>",
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker>',
        *(arrow(corner[one], corner[other]) for one, other in sorted(needs.edges)),
        *(box(stage, declared[stage], *corner[stage]) for stage in declared),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return a curve from the right side of one box to the left of another."""
    (x, y), (to_x, to_y) = (start[0] + WIDE, start[1] + HIGH // 2), (end[0] - 1, end[1] + HIGH // 2)
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}" marker-end="url(#tip)"/>'


def box(stage: str, entry: dict[str, Any], x: int, y: int) -> str:
    """Return a stage's box: its name, and the first of what it makes."""
    made = [PurePosixPath(path).name + ("" if PurePosixPath(path).suffix else "/") for path in outputs(entry)]
    lines = [*made[:SHOWN], "…"] if len(made) > SHOWN else made
    text = [f'<text class="name" x="{x + 10}" y="{y + 21}">{stage}</text>']
    text += [f'<text class="out" x="{x + 10}" y="{y + 36 + 12 * n}">{line}</text>' for n, line in enumerate(lines)]
    return "\n".join([f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6"/>', *text])


def row() -> NDArray[np.uint8]:
    """Return the first training phantom of each class side by side on white, uint8 [SIDE, W]."""
    chosen = params.load(Params, ROOT / "params.yaml")
    files = [file for file in plan(list(chosen.classes), chosen.seed, chosen.fetch.phantom) if file.split == "Training"]
    first = [next(file for file in files if file.label == label) for label in chosen.classes]
    wide = len(first) * (SIDE + MARGIN) - MARGIN
    canvas = Image.new("L", (wide, SIDE), 255)
    for place, file in enumerate(first):
        image = Image.fromarray(drawn(file, chosen.seed, chosen.fetch.phantom)).convert("L")
        image.thumbnail((SIDE, SIDE))
        square = Image.new("L", (SIDE, SIDE), 0)
        square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
        canvas.paste(square, (place * (SIDE + MARGIN), 0))
    return np.asarray(canvas)


if __name__ == "__main__":
    sys.exit(main())
