"""What 10 million and 1 billion images would cost: constants measured on the real set, and laws by which they grow.

    python bench/scale.py --source ARCHIVE     (about five minutes; writes bench/results/scale.json)

Measured in one process: seconds of work an image, a pair or a descriptor, and bytes an image. What is linear is
multiplied; the index grows as N ** 1.5 (results/audit_scale.json), from its cost at a million. docs/scale.md reads it.
"""

from __future__ import annotations

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from audit_scale import synthetic  # noqa: E402

from stages import params  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.prepare.arrays import _squares  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402
from stages.verify import audit, index, study  # noqa: E402
from stages.verify.describe import CELLS, VIEWS  # noqa: E402
from stages.verify.frames import FRAMES, SIDE  # noqa: E402
from stages.verify.pictures import gather  # noqa: E402
from stages.verify.scan import files  # noqa: E402

MILLION = 1_000_000
SIZES = {"10 million": 10 * MILLION, "1 billion": 1000 * MILLION}
SHARES = (0.8, 0.2)  # of images in two splits, each with an index of its own


class Inline(Executor):
    """Computes at once, in this process, so that its time is the work."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*args, **kwargs))
        return done


class Clock:
    """Seconds of work of named parts."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        begun = time.process_time()
        found = work(*args)
        self.parts[name] = time.process_time() - begun
        return found


def audited(raw: Path, scratch: Path) -> dict[str, float]:
    """Return the constants of verify and prepare, an image or a pair each."""
    from stages.report.schema import Params

    chosen, pool, clock = params.load(Params), Inline(), Clock()
    twins = chosen.verify.twins.model_copy(update={"exact_up_to": 0})
    paths = files(raw, chosen.classes)
    rows, descriptors, frames, order = clock("scan", study._scan_to, scratch, paths, raw, chosen.verify, pool)
    gathered = gather(rows, [bool(each.any()) for each in descriptors])
    pictures = study._pictures(scratch, gathered, descriptors, frames, order)
    near = clock("candidates", audit.candidates, pictures, twins, pool)
    plain = clock("judge", audit._verdicts, near, lambda pairs: audit._judged(pairs, pictures, twins), twins, pool)
    settled, place = audit._settled(pictures, plain), audit._stand_ins(pictures, plain)
    parts = clock("framed candidates", audit.framed_candidates, pictures, settled, place, twins, pool)
    framed = clock(
        "judge framed", audit._verdicts, parts, lambda p: audit._judged_framed(p, pictures, twins), twins, pool
    )
    pairs = audit._joined(plain, framed)
    clock("table", study._examined, rows, gathered, pairs, descriptors, {})
    tracemalloc.start()
    study._examined(rows, gathered, pairs, descriptors, {})
    table_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sample = paths[:: len(paths) // 1000]
    clock("prepare", _squares, sample, raw, chosen.image_size, chosen.prepare)
    count = len(paths)
    return {
        "images": count,
        "scan_s": clock.parts["scan"] / count,
        "pairs": len(near) / count,
        "pair_s": clock.parts["judge"] / len(near),
        "framed_pairs": len(parts) / count,
        "framed_pair_s": clock.parts["judge framed"] / len(parts),
        "table_s": clock.parts["table"] / count,
        "table_bytes": table_bytes / count,
        "prepare_s": clock.parts["prepare"] / len(sample),
        "descriptors": len(audit._entries(pictures)) / count,
        "shown": len(np.unique(place)) / count,
        "raw_bytes": sum((raw / path).stat().st_size for path in paths) / count,
    }


def built(scratch: Path) -> dict[str, float]:
    """Return seconds of work of building an index, and its bytes a descriptor, at two sizes."""
    found = {}
    for size in (100_000, 300_000):
        stored, begun = synthetic(size, seed=1), time.process_time()
        index.build(stored, scratch / "index")
        found[f"build_{size}_s"] = time.process_time() - begun
        found["index_bytes"] = (scratch / "index").stat().st_size / size
    return found


def hashed(raw: Path, scratch: Path) -> dict[str, float]:
    """Return what DVC does with a folder of images: seconds an image, and bytes of its listing."""
    subprocess.run(["git", "init", "-q", str(scratch)], check=True)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], cwd=scratch, check=True)
    subprocess.run(["cp", "-r", str(raw), str(scratch / "raw")], check=True)
    begun = os.times()
    subprocess.run([*dvc, "add", "-q", "raw"], cwd=scratch, check=True)
    ended = os.times()
    (listing,) = (scratch / ".dvc/cache").rglob("*.dir")
    count = len(json.loads(listing.read_text()))
    work = ended.children_user + ended.children_system - begun.children_user - begun.children_system
    return {"dvc_s": work / count, "dvc_listing_bytes": listing.stat().st_size / count}


def distances(stored: float) -> float:
    """How many distances building takes: ten turns of k-means over SAMPLE a cluster, then of each to all centres.

    That law gives the measured ratio of the two sizes.
    """
    clusters = 4 * stored**0.5
    return 10 * index.SAMPLE * clusters**2 + stored * clusters


def told(one: dict[str, float], images: int) -> dict[str, float]:
    """Return core hours of each part and gigabytes of each store, for so many images."""
    points = json.loads((ROOT / "bench/results/audit_scale.json").read_text())["points"]
    (million,) = [point["index_cpu_s"] for point in points if point["descriptors"] == MILLION]
    exact = max((point for point in points if "exact_cpu_s" in point), key=lambda point: point["descriptors"])
    pair_s = exact["exact_cpu_s"] / (exact["descriptors"] ** 2 / 2)
    asked_s = million / MILLION / 8  # a query in one turn, among a million
    stored = images * one["descriptors"]
    plain = sum(stored * 8 * asked_s * (share * stored / MILLION) ** 0.5 for share in SHARES)
    framed = images * one["shown"] * len(FRAMES) * 2 * asked_s * (one["shown"] * stored / MILLION) ** 0.5
    largest = one["build_300000_s"] * distances(SHARES[0] * stored) / distances(300_000)
    hours = {
        "scan": images * one["scan_s"],
        "build the largest index": largest,
        "search": plain,
        "search for parts": framed,
        "confirm": images * (one["pairs"] * one["pair_s"] + one["framed_pairs"] * one["framed_pair_s"]),
        "tables": images * one["table_s"],
        "prepare": images * one["prepare_s"],
        "evaluate, nearest training image": SHARES[0] * SHARES[1] * stored**2 * pair_s,
        "DVC, of raw files": images * one["dvc_s"],
    }
    store = {
        "raw": images * one["raw_bytes"],
        "scratch on disk": images * (VIEWS * SIDE * SIDE + (VIEWS + len(FRAMES)) * CELLS * CELLS),
        "index": SHARES[0] * stored * one["index_bytes"],
        "memory, descriptors and frames": images * (VIEWS + len(FRAMES)) * CELLS * CELLS,
        "memory, tables": images * one["table_bytes"],
        "DVC's listing of raw": images * one["dvc_listing_bytes"],
    }
    return {f"{name}, core hours": round(value / 3600, 2) for name, value in hours.items()} | {
        f"{name}, GB": round(value / 1e9, 1) for name, value in store.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="the real archive: an absolute path")
    args = parser.parse_args()
    out = ROOT / "bench/results/scale.json"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(["cp", "-r", str(ROOT / "studies"), str(folder / "studies")], check=True)
        os.chdir(folder / "studies/nickparvar")
        fetch = os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_SOURCE": args.source}
        subprocess.run([sys.executable, "-m", "stages.fetch"], env=fetch, check=True)
        for name in ("scratch", "dvc"):
            (folder / name).mkdir()
        raw = Path("data/raw")
        one = audited(raw, folder / "scratch") | built(folder / "scratch") | hashed(raw.resolve(), folder / "dvc")
        os.chdir(ROOT)
    one = {name: float(np.format_float_positional(value, 4, fractional=False)) for name, value in one.items()}
    result = {"cpu": cpu(), "constants": one} | {name: told(one, size) for name, size in SIZES.items()}
    write_json(out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
