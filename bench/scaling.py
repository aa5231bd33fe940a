"""What a second worker brings, what workers lose by exchanging, and what `isa: avx512` gives back. Two cores.

    python bench/scaling.py --sizes 64 128 --steps 12 4

one        one worker of one thread, two shards
threads    one worker of two threads, one shard: what a study does by default
two        two workers of one thread, a shard each
apart      the same, with the exchange left out (so they compute nonsense, at the speed of work that needs none)
avx2, avx512, free   one worker of two threads, one shard, with the instruction set of each `isa`, and with no pins

Steps of training on made-up images, each way in processes of its own, in turns; medians over the turns, and of the
turns' ratios, since a turn's ways ran side by side in time. Writes bench/results/scaling.json. On a machine that others
use, --clock cpu counts the processors' time alone: what waiting costs is then not in it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages

if __name__ == "__main__" and "free" in sys.argv:
    for name in stages.PINS:  # no library that reads them is loaded yet
        if name != "OMP_WAIT_POLICY":  # of time alone: see `stages`
            os.environ.pop(name, None)

import numpy as np
import train_throughput as speed

from stages import runtime
from stages.files import write_json
from stages.train import workers
from stages.train.flat import Layout
from stages.train.loop import Images

WAYS = {  # workers, threads of each, shards
    "one": (1, 1, 2),
    "threads": (1, 2, 1),
    "two": (2, 1, 2),
    "apart": (2, 1, 2),
    "avx2": (1, 2, 1),
    "avx512": (1, 2, 1),
    "free": (1, 2, 1),
}
RATIOS = {  # of two ways, in a turn
    "two_to_one": ("two", "one"),
    "two_to_threads": ("two", "threads"),
    "two_to_apart": ("two", "apart"),
    "avx512_to_free": ("avx512", "free"),
    "avx512_to_avx2": ("avx512", "avx2"),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels a side")
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 4], help="steps a turn, for each size")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS], help="which are measured")
    parser.add_argument("--out", type=Path, default=speed.ROOT / "bench/results/scaling.json")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine; as if nobody ever waited"
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # of a child
    parser.set_defaults(params=speed.ROOT / "params.yaml", precision="fp32", device="cpu", compile=False)
    return speed.checked(parser)


class Apart(workers.Neighbour):
    """A worker that exchanges nothing."""

    def add(self, own: object, layout: Layout) -> None:
        pass

    def give(self, common: object, layout: Layout) -> None:
        pass


def take_turns(args: argparse.Namespace) -> None:
    """Be a child: for each line on standard input, a number of steps, print the images a second."""
    count, args.threads, args.shards = WAYS[args.way]
    if args.way == "free":
        runtime.limit_threads(args.threads)
    else:
        runtime.exact(args.threads, args.precision)
    team = workers.joined("cpu", args.shards) if count > 1 else None
    if args.way == "apart":
        assert team
        team = Apart(team.device)
    size = args.sizes[0]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8 * args.batch_size, size, size), dtype=np.uint8)
    steps = speed.project(Images(images, np.arange(len(images)) % 4), args, team)
    for line in sys.stdin:
        if team and args.way == "two":
            team.wait()
        begun, wall = time.process_time(), speed.turn(steps, int(line), args)
        seconds = (time.process_time() - begun) / args.threads
        print((int(line) + 1) * args.batch_size / seconds if args.clock == "cpu" else wall, flush=True)


class Team:
    """The processes of a way; the batch is done when the last of them has done its part."""

    def __init__(self, way: str, size: int, args: argparse.Namespace) -> None:
        words = [__file__, "--sizes", str(size), "--steps", "1", "--batch-size", str(args.batch_size), "--way", way]
        words += ["--clock", args.clock]
        count = WAYS[way][0]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        meet |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        isa = {"BRAINMRI_ISA": "avx512" if way == "avx512" else "avx2"}
        self.children = [
            speed.Child(words, environment=os.environ | meet | isa | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]

    def turn(self, steps: int) -> float:
        for child in self.children:
            assert child.process.stdin
            child.process.stdin.write(f"{steps}\n")
            child.process.stdin.flush()
        return min(float(child.process.stdout.readline()) for child in self.children if child.process.stdout)

    def end(self) -> None:
        for child in self.children:
            child.end()


def compare(size: int, steps: int, args: argparse.Namespace) -> dict[str, object]:
    """Return medians and single turns of all ways, in images a second, and medians of ratios."""
    teams = {way: Team(way, size, args) for way in args.ways if way != "avx512" or stages.has_isa("avx512")}
    medians, turns = speed.in_turns({way: team.turn for way, team in teams.items()}, steps, args.repeats)
    for team in teams.values():
        team.end()
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(turns[one], turns[other], strict=True)), 3)
        for name, (one, other) in RATIOS.items()
        if one in turns and other in turns
    }
    return {"size": size, "steps": steps, "images_per_second": medians, "turns": turns, "ratios": ratios}


def main() -> None:
    args = arguments()
    if args.way:
        take_turns(args)
        return
    rows = []
    for size, steps in zip(args.sizes, args.steps, strict=True):
        rows.append(compare(size, steps, args))
        print(f"{size} px: {rows[-1]['images_per_second']}, {rows[-1]['ratios']}", flush=True)
    settings = {name: getattr(args, name) for name in ("batch_size", "repeats", "precision", "clock")}
    settings["busy"] = round(os.getloadavg()[1], 1)  # processes that wanted to run, the last five minutes; ours are two
    write_json(args.out, {"settings": settings, "machine": speed.machine(args), "sizes": rows})


if __name__ == "__main__":
    main()
