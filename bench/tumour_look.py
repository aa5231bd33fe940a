"""Does the network look at the tumour? python bench/tumour_look.py STUDY [--boxes TABLE]

On test images whose tumour's box is known (of a cross-validation, by the network that never saw them): how often the
hottest point of the report's heat map lies in the box, and how much of the heat does; against a random point of the
head, and against networks of random weights that are asked the same (over their maps that have heat at all: of
random weights many a class has none). Intervals draw patients where those are known.

STUDY is a study's folder that was run; TABLE a CSV of boxes (stages/report/boxes.py), which of phantoms the generator
knows. Writes bench/results/tumour_look-<study>.json: figures alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before torch is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.ndimage import binary_fill_holes  # noqa: E402

from stages import runtime  # noqa: E402
from stages.backbone import network  # noqa: E402
from stages.evaluate.clusters import intervals, joined  # noqa: E402
from stages.fetch.phantom import plan, tumour_box  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.params import load  # noqa: E402
from stages.report import boxes  # noqa: E402
from stages.report.gradcam import gradcam  # noqa: E402
from stages.report.schema import Params  # noqa: E402
from stages.shell.errors import InputError  # noqa: E402
from stages.verify.decode import decode_grey  # noqa: E402

AS_TEXT = {"path": str, "label": str, "predicted": str, "patient": str, "group": str, "fold": str}


def known_boxes(chosen: Params, table: Path | None) -> dict[str, boxes.Box]:
    """Return {path: box} of the table, or of phantoms those that their generator knows."""
    if table:
        return boxes.parsed(table.read_bytes(), table.name)
    if chosen.fetch.source != "phantom":
        raise InputError("--boxes TABLE is missing: only of phantoms the tumours' places are known without")
    phantom = chosen.fetch.phantom
    found = {
        file.path(chosen.seed): tumour_box(file, chosen.seed, phantom)
        for file in plan(chosen.classes, chosen.seed, phantom)
        if file.split == "Testing" or chosen.split.protocol not in ("published", "leak_free")
    }
    return {path: boxes.Box(*box) for path, box in found.items() if box and box.left < box.right}


def head_of(image: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Return the pixels of a head, uint8 [S, S]: those over prepare's threshold and what they enclose."""
    return np.asarray(binary_fill_holes(image > threshold * np.percentile(image, 99)))


def parts(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return {folder of a fold, below data/prepared and models: its rows}; of one network, an empty folder."""
    if "fold" not in predictions:
        return {"": predictions}
    return {f"folds/{fold}": rows for fold, rows in predictions.groupby("fold", sort=True)}


def looked(study: Path, part: str, rows: pd.DataFrame, chosen: Params, known: dict, untrained: int) -> pd.DataFrame:
    """Return a row an image whose box is left in the square: whether and how far each network looked there."""
    prepared = study / "data/prepared" / part
    model, meta = network.load(study / "models" / part / "model.safetensors")
    index = pd.read_csv(prepared / "index.csv", dtype=AS_TEXT, keep_default_na=False)
    place = index[index["array"] == "test"].set_index("path")["row"]
    images = np.load(prepared / "test.npy", mmap_mode="r")[place[rows["path"]].to_numpy(np.int64)]
    asked = np.array([meta.classes.index(name) for name in rows["predicted"]], np.int64)
    raw = (decode_grey((study / "data/raw" / path).read_bytes(), 10**9) for path in rows["path"])
    size = images.shape[1]
    squares = [
        boxes.in_square(known[path], grey, size, chosen.prepare) for path, grey in zip(rows["path"], raw, strict=True)
    ]
    networks = {"network": model}
    for seed in range(untrained):
        runtime.seed_step(seed, 0)
        networks[f"untrained_{seed}"] = network.build(len(meta.classes))
    found = rows.assign(
        chance=[
            _share(head_of(image, chosen.prepare.crop_threshold), box)
            for image, box in zip(images, squares, strict=True)
        ]
    )
    for name, asks in networks.items():
        maps = gradcam(asks, images, asked, mean=meta.mean, std=meta.std)
        found[f"hottest_{name}"] = [
            box is not None and boxes.hottest_in(heat, box) for heat, box in zip(maps, squares, strict=True)
        ]
        found[f"empty_{name}"] = [not heat.any() for heat in maps]
        found[f"heat_{name}"] = [_share(heat, box) for heat, box in zip(maps, squares, strict=True)]
    return found[[box is not None for box in squares]]


def _share(heat: NDArray, box: boxes.Box | None) -> float:
    return boxes.share_in(heat, box) if box else 0.0


def summed(found: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Return the figures of each class and of all together."""
    untrained = [column.removeprefix("hottest_") for column in found if str(column).startswith("hottest_untrained")]
    ends = _ends(found, classes)
    rows = {}
    for name, part in {"all": found, **dict(list(found.groupby("label")))}.items():
        rows[name] = {
            "images": len(part),
            "hottest_in_box": part["hottest_network"].mean(),
            **ends.get(name, {}),
            "heat_in_box": part["heat_network"].mean(),
            "chance": part["chance"].mean(),
            "empty": part["empty_network"].mean(),
            "untrained_hottest_in_box": _pointing(part, "hottest", untrained),
            "untrained_heat_in_box": _pointing(part, "heat", untrained),
            "untrained_empty": part[[f"empty_{each}" for each in untrained]].to_numpy(float).mean(),
            "right": (part["label"] == part["predicted"]).mean(),
        }
    return {
        name: {key: value if value is None or key == "images" else round(float(value), 4) for key, value in row.items()}
        for name, row in rows.items()
    }


def _pointing(part: pd.DataFrame, what: str, networks: list[str]) -> float | None:
    """Return the mean over the maps of these networks that have heat at all; None where none has."""
    values = [part.loc[~part[f"empty_{each}"], f"{what}_{each}"].to_numpy(float) for each in networks]
    together = np.concatenate(values)
    return float(together.mean()) if len(together) else None


def _ends(found: pd.DataFrame, classes: list[str]) -> dict[str, dict[str, float]]:
    """Return the interval of each share of hits, over patients: a hit is scored as a right answer is."""
    columns = [found[name].tolist() for name in ("patient", "group") if name in found] or [found["path"].tolist()]
    labels = np.array([classes.index(name) for name in found["label"]], np.int64)
    answers = np.where(found["hottest_network"], labels, (labels + 1) % len(classes))
    ends = intervals(labels, np.eye(len(classes))[answers], joined(*columns), classes, seed=0, bootstrap=2000)
    low, high = ends.get("sensitivity_low", {}), ends.get("sensitivity_high", {})
    each = {name: {"hottest_low": low[name], "hottest_high": high[name]} for name in low}
    if "accuracy_low" in ends:
        each["all"] = {"hottest_low": ends["accuracy_low"], "hottest_high": ends["accuracy_high"]}
    return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--boxes", type=Path, help="CSV of path, left, top, right, bottom")
    parser.add_argument("--untrained", type=int, default=3, help="networks of random weights")
    parser.add_argument("--most", type=int, help="images, chosen at random")
    parser.add_argument("--name", help="of the result, by default the study's folder")
    parser.add_argument("--out", type=Path, help="of the result, by default bench/results/tumour_look-<name>.json")
    args = parser.parse_args()
    chosen = load(Params, args.study / "params.yaml")
    runtime.exact(chosen.threads, "fp32")
    known = known_boxes(chosen, args.boxes)
    predictions = pd.read_csv(args.study / "data/predictions.csv", dtype=AS_TEXT, keep_default_na=False)
    rows = predictions[predictions["path"].isin(known)].sort_values("path")
    if args.most and args.most < len(rows):
        rows = rows.iloc[np.sort(np.random.default_rng(0).permutation(len(rows))[: args.most])]
    if rows.empty:
        raise InputError(f"no test image of {args.study} has a box: expected paths as in data/predictions.csv")
    each = [looked(args.study, part, each, chosen, known, args.untrained) for part, each in parts(rows).items()]
    found = pd.concat(each).sort_values("path")
    result = {
        "size": chosen.image_size,
        "untrained_networks": args.untrained,
        "box_cut_away": len(rows) - len(found),
        "classes": summed(found, chosen.classes),
    }
    name = args.name or args.study.resolve().name
    write_json(args.out or ROOT / f"bench/results/tumour_look-{name}.json", result)
    for name, row in result["classes"].items():
        keys = ("hottest_in_box", "heat_in_box", "chance", "untrained_hottest_in_box", "untrained_empty")
        figures = ["none" if row[key] is None else f"{row[key]:.1%}" for key in keys]
        print(f"| {name} | {row['images']:,} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
