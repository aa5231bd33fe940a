"""Recall of the audit for each change of tests/changes.py, on a real set and on phantoms, at seeds that chose nothing.

    python bench/audit_changes.py FOLDER [--seed 5001] [--count 200] [--only CHANGE ...] [--params params.yaml]
                                  [--out bench/results/audit_changes.json]

FOLDER holds Training/<class>/* and Testing/<class>/*: all its files play Training, and `count` of them, changed in each
way, play Testing. The same is done with phantoms, and with 500 phantoms of other heads, of which none may be called a
copy. A copy counts as found where one direct pair joins it, or a file of the same pixels, to its original, or to a copy
of that among the files.
`PYTHONPATH` may name an older checkout, to measure that one (with its own --params).
"""

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from changes import CHANGES, changed  # noqa: E402
from copying import encoded, phantom  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.params import load  # noqa: E402
from stages.runtime import workers  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402
from stages.verify.decode import decode_grey  # noqa: E402
from stages.verify.schema import Params  # noqa: E402
from stages.verify.study import examine_study  # noqa: E402

OTHERS = 500


def prepared(scratch: Path) -> None:
    for split in ("Training", "Testing"):
        for label in ("all", "other"):
            (scratch / split / label).mkdir(parents=True)
        (scratch / split / "other/blank.png").write_bytes(encoded(phantom(1, 900 + len(split))))


def plant(scratch: Path, originals: dict[str, Path], seed: int, names: list[str]) -> dict[str, str]:
    """Write the changed pictures of Testing; return {path: path of its original}."""
    truth = {}
    for path, file in originals.items():
        grey = decode_grey(file.read_bytes(), 10**9)
        for name in names:
            target = f"Testing/all/{name}-{Path(path).stem}.jpg"
            (scratch / target).write_bytes(changed(grey, name, f"{seed} {path}"))
            truth[target] = path
    return truth


def real(scratch: Path, files: list[Path], seed: int, count: int, names: list[str]) -> dict[str, str]:
    prepared(scratch)
    places = {}
    for number, file in enumerate(files):
        places[f"Training/all/{number:05}.jpg"] = file
        (scratch / f"Training/all/{number:05}.jpg").symlink_to(file.resolve())
    chosen = sorted(random.Random(seed).sample(sorted(places), min(count, len(places))))
    return plant(scratch, {path: places[path] for path in chosen}, seed, names)


def phantoms(scratch: Path, seed: int, count: int, names: list[str]) -> dict[str, str]:
    prepared(scratch)
    places = {}
    for number in range(count):
        path = f"Training/all/{number:05}.png"
        (scratch / path).write_bytes(encoded(phantom(seed, number)))
        places[path] = scratch / path
    for number in range(OTHERS):
        (scratch / f"Testing/other/{number:05}.png").write_bytes(encoded(phantom(seed, 100_000 + number)))
    return plant(scratch, places, seed, names)


def groups(manifest: Any, pairs: Any) -> dict[str, str]:
    """Return {training file: a name of its group}, joined by pairs within Training alone."""
    parent = {path: path for path in manifest.path}

    def root(path: str) -> str:
        while parent[path] != path:
            path = parent[path]
        return path

    within = pairs[(pairs.split == "Training") & (pairs.twin_split == "Training")]
    for one, two in zip(within.path, within.twin, strict=True):
        parent[max(root(one), root(two))] = min(root(one), root(two))
    return {path: root(path) for path in parent}


def measured(found: Any, truth: dict[str, str], names: list[str]) -> dict[str, Any]:
    group = groups(found.manifest, found.pairs)
    pairs = found.pairs[(found.pairs.split == "Testing") & (found.pairs.twin_split == "Training")]
    hits: dict[str, bool] = {}
    false = []
    for test, train in zip(pairs.path, pairs.twin, strict=True):
        right = test in truth and group[truth[test]] == group[train]
        hits[test] = hits.get(test, False) or right
        if not right:
            false.append(f"{test} {train}")
    equal = found.pairs[(found.pairs.twin_split == "Testing") & found.pairs.kind.isin(["byte", "pixel"])]
    for one, two in zip(equal.path, equal.twin, strict=True):  # of equal files the table names the first one's copies
        if one in truth and two in truth and group[truth[one]] == group[truth[two]]:
            hits[one] = hits[two] = hits.get(one, False) or hits.get(two, False)
    recall = {
        name: [hits.get(path, False) for path in truth if path.startswith(f"Testing/all/{name}-")] for name in names
    }
    others = found.manifest[found.manifest.path.str.startswith("Testing/other")]
    return {
        "files": len(found.manifest),
        "recall": {name: round(sum(each) / len(each), 4) for name, each in recall.items()},
        "missed": {name: missed for name in names if (missed := lost(name, truth, hits))},
        "each": len(next(iter(recall.values()))),
        "pairs_across": len(pairs),
        "false_pairs_across": len(false),
        "false": false[:20],
        "other_heads": len(others) - 1,
        "other_heads_called_copies": int(others.twin_in_training.sum()),
    }


def lost(name: str, truth: dict[str, str], hits: dict[str, bool]) -> list[str]:
    return [truth[path] for path in truth if path.startswith(f"Testing/all/{name}-") and not hits.get(path, False)][:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=5001)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/audit_changes.json")
    options = parser.parse_args()
    verify = load(Params, options.params).verify.model_copy(update={"expected": None, "max_quarantined": 0})
    params = Params(isa="avx2", classes=["all", "other"], verify=verify)
    files = sorted(path for path in options.folder.glob("T*ing/*/*") if path.is_file())
    result: dict[str, Any] = {"cpu": cpu(), "seed": options.seed, "thresholds": verify.twins.model_dump()}
    for kind in ("phantoms", "real"):
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / "raw"
            if kind == "real":
                truth = real(scratch, files, options.seed, options.count, options.only)
            else:
                truth = phantoms(scratch, options.seed, options.count, options.only)
            result[kind] = measured(examine_study(scratch, params, workers()), truth, options.only)
        print(kind, json.dumps(result[kind], indent=2), flush=True)
        write_json(options.out, result)


if __name__ == "__main__":
    main()
