"""The audit beside what others look for copies with: perceptual hashes (imagehash: pHash, dHash) at several distances.

    pip install --require-hashes -r requirements-bench.lock
    python bench/audit_peers.py FOLDER PATIENTS [--seed 5001] [--count 200] [--out bench/results/audit_peers.json]

FOLDER holds Training/<class>/* and Testing/<class>/*; PATIENTS is a CSV of path and patient. Two parts, in one run:

real      Each test image of a known patient is called a copy of a training image, or not. A copy is of the same
          patient, so a call is wrong where the nearest training image is of another. Whether it is the same *slice* the
          table does not say: the calls beside the audit's own are counted, for eyes to judge.
planted   `count` of the files, changed in each way of tests/changes.py and tests/copying.py, against all files. A call
          is right where a file at that distance is the original or a copy of it, wrong where one is not.

A hash is taken of the picture as it is and of its mirror image, and the smaller distance counts: of all 8 turns for the
audit, because that is what it does by itself.
"""

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from audit_changes import groups  # noqa: E402
from changes import CHANGES, changed  # noqa: E402
from copying import WAYS, derived, jpeg  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.params import load  # noqa: E402
from stages.runtime import in_order, workers  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402
from stages.verify.decode import decode_grey  # noqa: E402
from stages.verify.schema import Params  # noqa: E402
from stages.verify.study import examine_study  # noqa: E402

HASHES = {"phash": imagehash.phash, "dhash": imagehash.dhash}
DISTANCES = (0, 2, 4, 6, 8, 10, 12)  # of 64 bits; imagededup's default is 10, CleanVision's is 0


def hashed(image: Image.Image) -> np.ndarray:
    """Return uint8 [hashes, 2, 8]: the bits of each hash, of the picture and of its mirror image."""
    both = image.convert("L"), ImageOps.mirror(image.convert("L"))
    return np.stack([[np.packbits(take(each).hash) for each in both] for take in HASHES.values()])


def hashed_all(files: list[Path]) -> np.ndarray:
    return np.stack([hashed(Image.fromarray(decode_grey(file.read_bytes(), 10**9))) for file in files])


def distances(asked: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the distance of each asked hash, uint8 [A, 2, 8], to each stored one, [S, 2, 8], in bits: int [A, S]."""
    return np.stack([np.bitwise_count(one[:, None] ^ stored[None, :, 0]).sum(axis=2).min(axis=0) for one in asked])


def real(found: Any, paths: list[str], bits: np.ndarray, patients: dict[str, str]) -> dict[str, Any]:
    table = found.manifest.set_index("path")
    train = [k for k, path in enumerate(paths) if path.startswith("Training")]
    test = [k for k, path in enumerate(paths) if path.startswith("Testing") and path in patients]
    ours = np.array([table.twin_in_training[paths[k]] == 1 for k in test])
    owner = np.array([patients.get(path, "") for path in paths])
    near = np.array([patients.get(table.twin_of[paths[k]], "") for k in test])
    result: dict[str, Any] = {
        "test_images": len(test),
        "audit": {"called": int(ours.sum()), "other_patient": int((ours & (near != owner[test])).sum())},
    }
    for number, name in enumerate(HASHES):
        apart = distances(bits[test, number], bits[train, number])
        same = owner[test][:, None] == owner[train][None]
        for most in DISTANCES:
            close = apart <= most
            called = close.any(axis=1)
            result[f"{name} <= {most}"] = {
                "called": int(called.sum()),
                "called_by_the_audit_too": int((called & ours).sum()),
                "with_a_file_of_another_patient": int((close & ~same).any(axis=1).sum()),
                "of_these_not_called_by_the_audit": int(((close & ~same).any(axis=1) & ~ours).sum()),
            }
    return result


def copies(grey: np.ndarray, seed: str, number: int) -> dict[str, np.ndarray]:
    """Return the picture after every way of being published again."""
    plain = {name: jpeg(derived(grey, name, number), 90) for name in WAYS}
    return plain | {name: decode_grey(changed(grey, name, seed), 10**9) for name in CHANGES}


def planted(
    found: Any, root: Path, paths: list[str], bits: np.ndarray, seed: int, count: int
) -> dict[str, dict[str, Any]]:
    everything = found.pairs.assign(split="Training", twin_split="Training")
    group = groups(found.manifest, everything)
    owner = np.array([group[path] for path in paths])
    result: dict[str, dict[str, Any]] = {}
    for number in sorted(random.Random(seed).sample(range(len(paths)), count)):
        grey = decode_grey((root / paths[number]).read_bytes(), 10**9)
        for way, copy in copies(grey, f"{seed} {number}", number).items():
            asked = hashed(Image.fromarray(np.ascontiguousarray(copy)))
            for place, name in enumerate(HASHES):
                apart = distances(asked[None, place], bits[:, place])[0]
                for most in DISTANCES:
                    close = apart <= most
                    mine = owner == owner[number]
                    line = result.setdefault(way, {}).setdefault(f"{name} <= {most}", [0, 0])
                    line[0] += int((close & mine).any())
                    line[1] += int((close & ~mine).any())
    return {
        way: {key: {"found": right / count, "wrong": wrong / count} for key, (right, wrong) in lines.items()}
        for way, lines in result.items()
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
    files = [options.folder / path for path in paths]
    chunks = [files[start : start + 200] for start in range(0, len(files), 200)]
    bits = np.concatenate(list(in_order(hashed_all, chunks)))
    patients = pd.read_csv(options.patients, dtype=str).set_index("path").patient.to_dict()
    result = {
        "cpu": cpu(),
        "imagehash": imagehash.__version__,
        "real": real(found, paths, bits, patients),
        "planted": planted(found, options.folder, paths, bits, options.seed, options.count),
    }
    write_json(options.out, result)
    print(json.dumps(result["real"], indent=1))


if __name__ == "__main__":
    main()
