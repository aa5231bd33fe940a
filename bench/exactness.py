"""What exactness costs on a CPU: the training step with the instruction set pinned, against the same step left alone.

    python bench/exactness.py --sizes 64 224 --steps 20 2

Both are the step on one fixed batch (`train_throughput`'s limit) at the same number of threads, each in a process of
its own, in turns; medians over the turns are compared. `pinned` is what a study runs: AVX2 in oneDNN, ATen and MKL, and
deterministic algorithms. `free` is torch as it comes. Writes bench/results/exactness.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
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
    parser.add_argument("--output", type=Path, default=speed.ROOT / "bench/results/exactness.json")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # of a child
    parser.set_defaults(params=speed.ROOT / "params.yaml", precision="fp32", device="cpu", compile=False)
    return parser.parse_args()


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
    words = [sys.executable, __file__, "--sizes", str(size), "--steps", "1", "--threads", str(args.threads)]
    words += ["--batch-size", str(args.batch_size), "--way"]
    children = {
        way: subprocess.Popen([*words, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for way in WAYS
    }
    turns: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(args.repeats + 1):
        for way, child in children.items():
            assert child.stdin and child.stdout
            child.stdin.write(f"{steps if number else 1}\n")
            child.stdin.flush()
            found = round(float(child.stdout.readline()), 2)
            if number:  # kernels are chosen in the first
                turns[way].append(found)
    for child in children.values():
        child.communicate(timeout=60)
    medians = {way: round(statistics.median(found), 2) for way, found in turns.items()}
    ratio = round(medians["pinned"] / medians["free"], 3)
    return {"size": size, "steps": steps, "images_per_second": medians, "turns": turns, "pinned_to_free": ratio}


def main() -> None:
    args = arguments()
    if args.way:
        return take_turns(args)
    rows = [compare(size, steps, args) for size, steps in zip(args.sizes, args.steps, strict=True)]
    settings = {name: getattr(args, name) for name in ("batch_size", "threads", "repeats", "precision")}
    write_json(args.output, {"settings": settings, "machine": speed.machine(args), "sizes": rows})
    for row in rows:
        print(f"{row['size']} px: {row['images_per_second']}, pinned {row['pinned_to_free']} of free")
    return None


if __name__ == "__main__":
    main()
