"""What averaging at test time is worth: python bench/averaging.py STUDY

Reads a study that has been run, by patient for instance. The held-out images of each of its networks are scored once;
averaged with their mirror images, as `evaluate.mirror` does; and with these shifted by so many pixels to all four
sides, too, edges repeated. Test images are not read. Writes bench/results/averaging-<study>.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from stages import params, runtime  # noqa: E402
from stages.backbone import network  # noqa: E402
from stages.backbone.inference import logits  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.shell import provenance  # noqa: E402
from stages.train.loop import score  # noqa: E402

SHIFTS = (1, 2, 4)  # pixels
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return images [N, S, S] moved by so many pixels, their edges repeated."""
    rows, columns = (np.clip(np.arange(images.shape[1]) - by, 0, images.shape[1] - 1) for by in (down, right))
    return images[:, rows][:, :, columns]


def ways(model: nn.Module, meta: network.Meta, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the logits, float32 [N, C], of each way to score."""

    def passed(these: np.ndarray, mirror: bool) -> np.ndarray:
        device = torch.device("cpu")
        return logits(model, these, mean=meta.mean, std=meta.std, batch_size=32, device=device, mirror=mirror)

    found = {"once": passed(images, mirror=False), "mirrored": passed(images, mirror=True)}
    for by in SHIFTS:
        moved = [passed(shifted(images, by * down, by * right), mirror=True) for down, right in SIDES]
        found[f"mirrored and shifted by {by}"] = np.mean([found["mirrored"], *moved], axis=0)
    return found


def measured(study: Path) -> dict[str, Any]:
    """Return accuracy and log-loss of each way, over the held-out images of all networks of a study."""
    chosen = params.read(study / "params.yaml")
    runtime.exact(chosen["threads"], "fp32")
    scored: dict[str, list[np.ndarray]] = {}
    labels = []
    for part in chosen["split"]["folds"].values():
        model, meta = network.load(study / f"models{part}/model.safetensors")
        index = pd.read_csv(study / f"data/prepared{part}/index.csv")
        held = index[index["array"] == "val"].sort_values("row")
        labels.append(held["label"].map({name: number for number, name in enumerate(meta.classes)}).to_numpy())
        for way, found in ways(model, meta, np.load(study / f"data/prepared{part}/val.npy")).items():
            scored.setdefault(way, []).append(found)
    truth = np.concatenate(labels)
    rows = {way: score(np.concatenate(each), truth) for way, each in scored.items()}
    return {"study": study.resolve().name, "images": len(truth), "cpu": provenance.cpu()} | {
        "ways": {way: {"log_loss": round(loss, 6), "accuracy": round(right, 6)} for way, (loss, right) in rows.items()}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    args = parser.parse_args()
    result = measured(args.study)
    write_json(ROOT / f"bench/results/averaging-{result['study']}.json", result)
    for way, row in result["ways"].items():
        print(f"{way:30} {row['accuracy']:.2%}  log-loss {row['log_loss']:.4f}")


if __name__ == "__main__":
    main()
