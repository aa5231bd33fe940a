"""What the trail costs a training, and how long `brainmri replay --spot` trains, at a study's own size.

    python bench/trail.py --study studies/nickparvar

Arrays are made up, of the real set's shape. Steps and rows of the trail are timed in turns, in one process: seconds on
the clock, and of all cores together, which other processes on the machine change less. Writes bench/results/trail.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: F401, I001  it pins the instruction set before torch is loaded

import numpy as np
import torch

from stages import params, runtime
from stages.backbone import network
from stages.files import write_json
from stages.shell import provenance
from stages.train import order
from stages.train.checkpoint import Nowhere, Store, stored
from stages.train.loop import Images, Trainer
from stages.train.schema import Params

ROOT = Path(__file__).parent.parent
TRAINED_ON = 5427  # images of the real set that are trained on


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--study", type=Path, default=ROOT / "studies/nickparvar")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/trail.json")
    return parser.parse_args()


def trainer(chosen: Params, size: int) -> Trainer:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (TRAINED_ON, size, size), dtype=np.uint8)
    arrays = Images(images, np.arange(TRAINED_ON, dtype=np.int64) % 4)
    torch.manual_seed(0)
    return Trainer(network.build(4, chosen.train.dropout), arrays, arrays, chosen, 0.2, 0.2)


def timed(does: Callable[[], object]) -> dict[str, float]:
    clock, cores = time.perf_counter(), time.process_time()
    does()
    return {"clock": time.perf_counter() - clock, "cores": time.process_time() - cores}


def steps(run: Trainer, count: int) -> None:
    rows = order.batches(TRAINED_ON, run.params.batch_size, 0, 0)[:count]
    for step, batch in enumerate(run._batches(rows)):
        float(run._step(batch, run.labels[torch.from_numpy(rows[step])], step))


def row(run: Trainer) -> None:
    run.progress.trail = []
    run._mark(Nowhere())


def measured(run: Trainer, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return seconds a step, a row of the trail, and a stored state written and read, medians over the turns."""
    steps(run, 2)
    turns: dict[str, list[dict[str, float]]] = {"step": [], "row": [], "state": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), "0" * 64)
        for _ in range(args.repeats):
            found = timed(lambda: steps(run, args.steps))
            turns["step"].append({kind: seconds / args.steps for kind, seconds in found.items()})
            turns["row"].append(timed(lambda: row(run)))
            turns["state"].append(timed(lambda: store.keep(100, run.state(), run.progress, [])))
        path = store.folder / "trail/00000100.safetensors"
        size = {"bytes": float(path.stat().st_size)}
        turns["read"] = [timed(lambda: stored(path))]
    medians = {
        name: {kind: round(statistics.median(each[kind] for each in found), 4) for kind in found[0]}
        for name, found in turns.items()
    }
    return medians | {"stored": size}


def main() -> None:
    args = arguments()
    chosen = params.load(Params, args.study / "params.yaml")
    runtime.exact(chosen.threads, chosen.precision)
    found = measured(trainer(chosen, args.size), args)
    every = chosen.train.trail_steps
    share = {kind: round(found["row"][kind] / (every * found["step"][kind]), 4) for kind in ("clock", "cores")}
    stretch = {kind: round(every * found["step"][kind], 1) for kind in ("clock", "cores")}
    result = {"cpu": provenance.cpu(), "size": args.size, "trail_steps": every, "seconds": found}
    write_json(args.out, result | {"row_by_stretch": share, "stretch_seconds": stretch})
    print(args.out.read_text(), end="")


if __name__ == "__main__":
    main()
