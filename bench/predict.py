"""`brainmri predict` against the bare forward pass, at 224 px on all cores: python bench/predict.py [--images FOLDER]

The command, whole (start of Python, loading, decoding, hints, table), on a folder of 500 images, and the network alone
on as many images that are already in memory, without start or loading. They take turns; medians are compared.
The network has random weights, which cost the same time. Writes bench/results/predict.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before torch is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from stages import params, runtime  # noqa: E402
from stages.shell import provenance  # noqa: E402
from stages.backbone import network  # noqa: E402
from stages.backbone.inference import logits  # noqa: E402
from stages.evaluate.predictor import predictor  # noqa: E402
from stages.evaluate.schema import Params  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.dialect import parse, written  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of images; by default phantoms of the study's usual size")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument(
        "--mirror", action="store_true", help="ask for the mirror image as well: twice the forward pass"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/predict.json")
    return parser.parse_args()


def study(folder: Path, args: argparse.Namespace) -> Path:
    """Make a study of phantoms up to its starting weights, which stand for trained ones."""
    folder.mkdir()
    values = parse((ROOT / "params.yaml").read_text())
    values["image_size"], values["evaluate"]["mirror"] = args.size, args.mirror
    (folder / "params.yaml").write_text(written(values))
    for stage in ("fetch", "verify", "prepare", "backbone"):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment, check=True)
    model, meta = network.load(folder / "models/init.safetensors")
    network.save(folder / "models/model.safetensors", model, meta)
    chosen = params.load(Params, folder / "params.yaml")
    index = pd.read_csv(folder / "data/prepared/index.csv", keep_default_na=False)
    about = predictor(chosen, index, 1.0, folder / "models/model.safetensors", folder / "data")
    write_json(folder / "models/predictor.json", about)
    return folder


def images(folder: Path, made: Path, args: argparse.Namespace) -> Path:
    """Copy `count` images of a folder into one of their own."""
    found = sorted(path for path in (args.images or made / "data/raw").rglob("*") if path.is_file())
    for number, path in enumerate(found[:: max(1, len(found) // args.count)][: args.count]):
        shutil.copy(path, folder / f"{number:04d}{path.suffix}")
    return folder


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        made = study(Path(scratch) / "study", args)
        (Path(scratch) / "images").mkdir()
        folder = images(Path(scratch) / "images", made, args)
        count = len(list(folder.iterdir()))
        chosen = params.load(Params, made / "params.yaml")
        runtime.exact(chosen.threads, "fp32")
        model, meta = network.load(made / "models/model.safetensors")
        arrays = np.random.default_rng(0).integers(0, 256, (count, args.size, args.size), np.uint8)

        def bare() -> None:
            logits(
                model,
                arrays,
                mean=meta.mean,
                std=meta.std,
                batch_size=chosen.evaluate.batch_size,
                device=runtime.device("cpu"),
                mirror=args.mirror,
            )

        def command() -> None:
            words = [sys.executable, "-m", "commands", "predict", str(folder), "--study", str(made), "--csv"]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        turns: dict[str, list[float]] = {"forward pass": [], "brainmri predict": []}
        for number in range(args.repeats + 1):
            for name, way in zip(turns, (bare, command), strict=True):
                begun = time.perf_counter()
                way()
                if number:  # the first turn warms caches
                    turns[name].append(round(count / (time.perf_counter() - begun), 2))
    medians = {name: round(statistics.median(found), 2) for name, found in turns.items()}
    result = {
        "cpu": provenance.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "settings": {"images": count, "size": args.size, "mirror": args.mirror, "real": args.images is not None},
        "images_per_second": medians,
        "turns": turns,
        "ratio": round(medians["brainmri predict"] / medians["forward pass"], 3),
    }
    write_json(args.out, result)
    print(result)


if __name__ == "__main__":
    main()
