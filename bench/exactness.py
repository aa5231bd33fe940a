"""What exactness costs on a CPU: the training step with the instruction set pinned, against the same step left alone.

    python bench/exactness.py --sizes 64 224 --steps 20 2

Both are the step on one fixed batch (`train_throughput`'s limit) at the same number of threads, each in a process of
its own, in turns; medians over the turns are compared. `pinned` is what a study runs: AVX2 in oneDNN, ATen and MKL, and
deterministic algorithms. `free` is torch as it comes. Writes bench/results/exactness.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages

if __name__ == "__main__" and "free" in sys.argv:
    for name in stages.PINS:  # no library that reads them is loaded yet
        os.environ.pop(name, None)

import numpy as np
import train_throughput as speed

from stages import runtime
from stages.files import write_json
from stages.train.loop import Images

WAYS = ("pinned", "free")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="pixels a side")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 2], help="steps a turn, for each size")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=speed.ROOT / "bench/results/exactness.json")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # of a child
    parser.set_defaults(params=speed.ROOT / "params.yaml", precision="fp32", device="cpu", compile=False)
    return speed.checked(parser)


def take_turns(args: argparse.Namespace) -> None:
    """Be a child: for each line on standard input, a number of steps, print the images a second."""
    if args.way == "pinned":
        runtime.exact(args.threads, args.precision)
    else:
        runtime.limit_threads(args.threads)
    size = args.sizes[0]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4 * args.batch_size, size, size), dtype=np.uint8)
    steps = speed.limit(Images(images, np.arange(len(images)) % 4), args)
    for line in sys.stdin:
        print(speed.turn(steps, int(line), args), flush=True)


def compare(size: int, steps: int, args: argparse.Namespace) -> dict[str, object]:
    """Return medians and single turns of both ways, in images a second."""
    words = [__file__, "--sizes", str(size), "--steps", "1", "--threads", str(args.threads)]
    words += ["--batch-size", str(args.batch_size), "--way"]
    children = {way: speed.Child([*words, way]) for way in WAYS}
    medians, turns = speed.in_turns({way: child.turn for way, child in children.items()}, steps, args.repeats)
    for child in children.values():
        child.end()
    ratio = round(medians["pinned"] / medians["free"], 3)
    return {"size": size, "steps": steps, "images_per_second": medians, "turns": turns, "pinned_to_free": ratio}


def main() -> None:
    args = arguments()
    if args.way:
        take_turns(args)
        return
    rows = [compare(size, steps, args) for size, steps in zip(args.sizes, args.steps, strict=True)]
    settings = {name: getattr(args, name) for name in ("batch_size", "threads", "repeats", "precision")}
    write_json(args.out, {"settings": settings, "machine": speed.machine(args), "sizes": rows})
    for row in rows:
        print(f"{row['size']} px: {row['images_per_second']}, pinned {row['pinned_to_free']} of free")


if __name__ == "__main__":
    main()
