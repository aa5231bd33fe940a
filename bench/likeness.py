"""How well `unlike` tells images of another kind: python bench/likeness.py STUDY [--other STUDY]

Reads a study that has been run. For its own validation and clean test images, for images of another study, and for
pictures that are no slice at all, the share that falls below the study's threshold, and the area under the ROC curve
against the clean test images. Writes bench/results/likeness-<study>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import sklearn  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from stages.dialect import parse  # noqa: E402
from stages.evaluate import likeness, outputs  # noqa: E402
from stages.evaluate.pictures.canvas import style  # noqa: E402
from stages.files import read_figures, write_json  # noqa: E402
from stages.verify.decode import decode_grey  # noqa: E402
from stages.verify.describe import CELLS, VIEWS, describe  # noqa: E402

Grey = NDArray[np.uint8]
PHOTOS = Path(sklearn.__file__).parent / "datasets/images"


def photographs() -> Iterator[Grey]:
    """Yield squares of 200 px out of the two photographs that come with scikit-learn."""
    for path in sorted(PHOTOS.glob("*.jpg")):
        grey = decode_grey(path.read_bytes(), 10**9)
        for top in range(0, grey.shape[0] - 200, 70):
            for left in range(0, grey.shape[1] - 200, 70):
                yield grey[top : top + 200, left : left + 200]


def noise(reach: int) -> Iterator[Grey]:
    """Yield fifty pictures of noise, blurred over so many pixels and stretched to the full range."""
    random = np.random.default_rng(0)
    for _ in range(50):
        picture = Image.fromarray(random.integers(0, 256, (200, 200), np.uint8))
        grey = np.asarray(picture.filter(ImageFilter.GaussianBlur(reach)), float)
        yield np.asarray((grey - grey.min()) / np.ptp(grey) * 255, np.uint8)


def ellipses() -> Iterator[Grey]:
    """Yield fifty bright ellipses on black: a head's outline with nothing in it."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    for _ in range(50):
        across, along = random.uniform(0.5, 0.95, 2)
        yield np.where((y / along) ** 2 + (x / across) ** 2 < 1, random.integers(80, 250), 0).astype(np.uint8)


def plots(study: Path) -> Iterator[Grey]:
    """Yield the study's plots, drawn from its tables in pixels."""
    classes = parse((study / "params.yaml").read_text())["classes"]
    as_text = dict.fromkeys(("class", "actual", "predicted"), str)
    tables = {
        path.stem: pd.read_csv(path, keep_default_na=False, dtype=as_text) for path in (study / "plots").glob("*.csv")
    }
    with style():
        for made in outputs.figures(tables, read_figures(study / "metrics/scores.csv"), classes).values():
            made.set_dpi(150)
            canvas = FigureCanvasAgg(made)
            canvas.draw()
            yield np.asarray(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L"))


def slices(study: Path) -> Iterator[Grey]:
    """Yield 200 test images of another study."""
    paths = sorted((study / "data/raw/Testing").glob("*/*"))
    for number in np.random.default_rng(0).permutation(len(paths))[:200]:
        yield decode_grey(paths[number].read_bytes(), 10**9)


def described(pictures: Iterator[Grey]) -> NDArray[np.int8]:
    empty = np.zeros((VIEWS, CELLS * CELLS), np.int8)
    found = [describe(np.ascontiguousarray(grey)) for grey in pictures]
    return np.stack([each.descriptors if each else empty for each in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--other", type=Path, help="a study whose images are of another kind")
    parser.add_argument("--name", help="of the result, by default the study's folder")
    args = parser.parse_args()
    index = pd.read_csv(args.study / "data/prepared/index.csv", keep_default_na=False)
    of = likeness.descriptors(args.study / "data")
    stored = likeness.store(of(index.loc[index["array"] == "train", "path"]))
    lowest = json.loads((args.study / "models/predictor.json").read_text())["lowest_likeness"]
    clean = index[(index["array"] == "test") & (index["leaked"] == "none")]
    kinds = {
        "validation images": of(index.loc[index["array"] == "val", "path"]),
        "clean test images": of(clean["path"]),
        "squares of two photographs": described(photographs()),
        "noise": described(noise(0)),
        "noise blurred over 3 px": described(noise(3)),
        "noise blurred over 12 px": described(noise(12)),
        "this study's plots": described(plots(args.study)),
        "empty ellipses": described(ellipses()),
    }
    if args.other:
        kinds["slices of the other study"] = described(slices(args.other))
    own = likeness.nearest(kinds["clean test images"], stored).cosine
    rows = {}
    for name, asked in kinds.items():
        cosines = likeness.nearest(asked, stored).cosine
        truth = np.r_[np.ones(len(own)), np.zeros(len(cosines))]
        rows[name] = {
            "n": len(cosines),
            "median": round(float(np.median(cosines)), 3),
            "called_unlike": round(float((cosines < lowest).mean()), 4),
            "auc": round(float(roc_auc_score(truth, np.r_[own, cosines])), 4),
        }
        row = rows[name]
        print(f"| {name} | {row['n']} | {row['median']:.2f} | {row['called_unlike']:.1%} | {row['auc']:.3f} |")
    output = ROOT / f"bench/results/likeness-{args.name or args.study.resolve().name}.json"
    write_json(output, {"lowest_likeness": lowest, "kinds": rows})


if __name__ == "__main__":
    main()
