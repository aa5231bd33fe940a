"""Is the network's answer where a heat map says? python bench/gradcam.py STUDY

On clean test images that were classified correctly, the hottest share of each map is blurred away (the probability of
the class should fall) or alone left sharp (it should stay); the same for maps of chance. For three ways to weigh the
channels of a layer, at three layers. Method: Petsiuk et al. 2018, RISE. Writes bench/results/gradcam-<study>.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before torch is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from stages import runtime  # noqa: E402
from stages.backbone import network  # noqa: E402
from stages.backbone.inference import normalise  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.report.gradcam import STRIDES, enlarged  # noqa: E402

SHARE = 0.2  # of the pixels
WEIGHTS = {
    "Grad-CAM": lambda gradient, activation: gradient.mean((2, 3), keepdim=True) * activation,
    "by cell": lambda gradient, activation: gradient * activation,
    "LayerCAM": lambda gradient, activation: gradient.clamp_min(0) * activation,
}


def images(study: Path, meta: network.Meta, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return clean test images that were classified correctly, uint8 [N, S, S], and their class numbers."""
    found = pd.read_csv(study / "data/predictions.csv", keep_default_na=False)
    rows = np.flatnonzero((found["label"] == found["predicted"]) & (found["leaked"] == "none"))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    arrays = np.load(study / "data/prepared/test.npy", mmap_mode="r")
    numbers = [meta.classes.index(name) for name in found["label"].iloc[rows]]
    return torch.from_numpy(arrays[rows]), torch.tensor(numbers)


def heat(model: nn.Module, x: torch.Tensor, numbers: torch.Tensor, layer: str, way: str) -> torch.Tensor:
    """Return maps [N, S, S]."""
    kept: dict[str, torch.Tensor] = {}
    hook = model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.update(found=output))
    score = model(x.clone().requires_grad_())[torch.arange(len(x)), numbers].sum()
    (gradient,) = torch.autograd.grad(score, kept["found"])
    hook.remove()
    found = F.relu(WEIGHTS[way](gradient, kept["found"].detach()).sum(1, keepdim=True))
    return enlarged(found[:, 0], x.shape[-1], STRIDES[layer])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--most", type=int, default=96, help="images")
    parser.add_argument("--name", help="of the result, by default the study's folder")
    args = parser.parse_args()
    runtime.exact(2, "fp32")
    model, meta = network.load(args.study / "models/model.safetensors")
    sharp, numbers = images(args.study, meta, args.most)
    side = sharp.shape[1] // 4 | 1
    blurred = F.avg_pool2d(sharp[:, None].float(), side, 1, side // 2, count_include_pad=False)[:, 0].round()
    blurred = blurred.to(torch.uint8)

    def probability(pictures: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            given = torch.softmax(model(normalise(pictures, meta.mean, meta.std)), 1)
        return given[torch.arange(len(pictures)), numbers]

    def judged(maps: torch.Tensor) -> dict[str, float]:
        hottest = maps.flatten(1).argsort(1, descending=True)[:, : int(SHARE * sharp[0].numel())]
        mask = torch.zeros(len(maps), sharp[0].numel(), dtype=torch.bool).scatter_(1, hottest, True).view_as(sharp)
        fallen = probability(sharp) - probability(torch.where(mask, blurred, sharp))
        kept = probability(torch.where(mask, sharp, blurred))
        return {"falls_by": round(float(fallen.mean()), 3), "left": round(float(kept.mean()), 3)}

    x = normalise(sharp, meta.mean, meta.std)
    torch.manual_seed(0)
    rows = {"chance": judged(F.interpolate(torch.rand(len(x), 1, 8, 8), x.shape[2:], mode="bilinear")[:, 0])}
    for layer in ("layer2", "layer3", "layer4"):
        rows |= {f"{way}, {layer}": judged(heat(model, x, numbers, layer, way)) for way in WEIGHTS}
    result = {"images": len(x), "size": x.shape[-1], "share": SHARE, "blur_px": side, "maps": rows}
    result["all_blurred"] = round(float(probability(blurred).mean()), 3)
    write_json(ROOT / f"bench/results/gradcam-{args.name or args.study.resolve().name}.json", result)
    print("\n".join(f"| {name} | {row['falls_by']:.3f} | {row['left']:.3f} |" for name, row in rows.items()))


if __name__ == "__main__":
    main()
