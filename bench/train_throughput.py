"""Images a second of training, side by side: what a user would write, this project, and the limit.

(a) loader   user_loop.py: torchvision's ImageFolder, a DataLoader on all cores, transforms by image, NCHW, fp32
    pinned   the same with the instruction set that this project pins, so that both compute with the same kernels
(b) trainer  this project's step: uint8 arrays, augmentation in batches, channels-last, one input channel
(c) limit    the step of (b) on one fixed batch, without any data path

All take turns, so that a machine that slows down slows all of them; medians over the turns are compared.

    python bench/train_throughput.py --sizes 64 128 224 --steps 20 6 2 --images data/raw/Training
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: I001  it pins the instruction set before torch is loaded

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from stages import runtime
from stages.shell import provenance
from stages.backbone import network
from stages.backbone.inference import normalise
from stages.files import write_json
from stages.prepare.image import square
from stages.train import data
from stages.train.loop import Images, Trainer
from stages.train.schema import Params
from stages.train.workers import Alone
from stages.verify.decode import decode_grey
from stages.dialect import parse

ROOT = Path(__file__).parent.parent
Steps = Iterator[None]  # each `next` is one training step
SETTLE = 2.0  # seconds after a turn of (a) in which its workers fill their queue and come to rest


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of class folders; by default pictures are made up")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224], help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16", "fp16"], help="of (b) and (c)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 6, 2], help="steps a turn, for each size")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--most", type=int, default=2000, help="images used, at most")
    parser.add_argument("--compile", action="store_true", help="torch.compile in (b) and (c)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/train_throughput.json")
    parser.set_defaults(params=ROOT / "params.yaml")  # gpu_study measures the recipe of its own study
    return checked(parser)


def checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments, or end with a line where sizes and steps do not go together."""
    args = parser.parse_args()
    if len(args.steps) != len(args.sizes):
        parser.error(f"--steps has {len(args.steps)} numbers and --sizes {len(args.sizes)}: give one for each size")
    return args


def made_up(folder: Path, count: int = 256) -> Path:
    """Write JPEGs of the real set's usual size, 512 x 512, grey and smooth, in four class folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (24, 24), dtype=np.uint8))
        target = folder / f"class{number % 4}" / f"{number:04d}.jpg"
        target.parent.mkdir(exist_ok=True)
        small.resize((512, 512), Image.Resampling.BICUBIC).save(target, quality=90)
    return folder


def listed(folder: Path, most: int) -> list[tuple[Path, int]]:
    """Return (file, class number), an equal part of each class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    share = most // len(classes)
    return [(file, number) for number, name in enumerate(classes) for file in sorted(name.iterdir())[:share]]


def params(args: argparse.Namespace) -> Params:
    """Return a study's parameters with what was asked for; the step is the one that most of a run consists of."""
    values = parse(args.params.read_text())
    values = {key: values[key] for key in Params.model_fields}
    values |= {"batch_size": args.batch_size, "precision": args.precision, "device": args.device}
    # smaller images at first, or frozen weights, would make (b) less work than (c)
    whole = {"compile": args.compile, "size_schedule": [], "freeze_epochs": 0}
    whole |= {"shards": getattr(args, "shards", values["train"]["shards"])}
    values |= {"threads": args.threads, "epochs": 1000, "train": values["train"] | whole}
    return Params.model_validate(values)


class Child:
    """A process that for each line on its standard input, a number of steps, prints images a second; else it waits."""

    def __init__(self, words: list[str], settle: float = 0.0, environment: dict[str, str] | None = None) -> None:
        self.settle = settle
        command = [sys.executable, *words]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self, steps: int) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        speed = float(self.process.stdout.readline())
        time.sleep(self.settle)
        return speed

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)


def user_loop(folder: Path, size: int, args: argparse.Namespace, pinned: bool) -> Child:
    """(a), in its own process, with or without this project's pins."""
    environment = {key: value for key, value in os.environ.items() if pinned or key not in stages.PINS}
    words = [str(ROOT / "bench/user_loop.py"), str(folder), "--size", str(size)]
    words += ["--batch-size", str(args.batch_size), "--most", str(args.most), "--device", args.device]
    return Child(words, SETTLE, environment)


def trainer(arrays: Images, args: argparse.Namespace, team: Alone | None = None) -> Trainer:
    torch.manual_seed(0)
    chosen = params(args)
    model = network.build(int(arrays.labels.max()) + 1, chosen.train.dropout)
    return Trainer(model, arrays, arrays, chosen, 0.2, 0.2, team)


def project(arrays: Images, args: argparse.Namespace, team: Alone | None = None) -> Steps:
    """(b): what stages/train does between two validations, by one worker or as one of a team."""
    run = trainer(arrays, args, team)
    while True:
        rows = run._rows(run.progress.epoch)
        labels = run.labels[torch.from_numpy(rows).to(run.device)]
        loss_sum = torch.zeros((), dtype=torch.float64, device=run.device)
        for step, batch in enumerate(run._batches(rows)):
            loss_sum += run._step(batch, labels[step], step)
            if run.device.type == "cpu":
                bool(torch.isfinite(loss_sum))
            yield
        run.progress.epoch += 1


def limit(arrays: Images, args: argparse.Namespace) -> Steps:
    """(c): forward, backward and optimizer on a batch that is already normalised, augmented and on the device."""
    run = trainer(arrays, argparse.Namespace(**vars(args) | {"shards": 1}))
    rows = np.arange(args.batch_size)
    batch = next(data.batches(arrays.images, rows[None], torch.device("cpu"))).to(run.device)
    x = normalise(batch, run.mean, run.std)
    labels = run.labels[: args.batch_size]
    while True:
        fixed_step(run, x, labels)
        yield


def fixed_step(run: Trainer, x: torch.Tensor, labels: torch.Tensor) -> None:
    """Take the step of `Trainer._step` without its draws and augmentation."""
    run.network.train()
    with runtime.autocast(run.device, run.params.precision):
        output = run.forward(x)
    smoothing = run.params.train.label_smoothing
    loss = F.cross_entropy(output.float(), labels, run.class_weights, label_smoothing=smoothing)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if run.average:
        run.average.update(run.params.train.ema_decay)


def prepared(files: list[tuple[Path, int]], size: int) -> Images:
    """Decode and resize once, as the prepare stage does; its time is not part of training."""
    images = np.stack([square(decode_grey(path.read_bytes(), 10**9), size, True, 0.1) for path, _ in files])
    return Images(images, np.array([label for _, label in files], np.int64))


def turn(run: Steps, steps: int, args: argparse.Namespace) -> float:
    """Return images a second over so many steps, after one that does not count."""
    next(run)
    _wait(args)
    begun = time.perf_counter()
    for _ in range(steps):
        next(run)
    _wait(args)
    return steps * args.batch_size / (time.perf_counter() - begun)


def in_turns(
    ways: dict[str, Callable[[int], float]], steps: int, repeats: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return medians and single turns of so many steps, in images a second, of ways that take turns."""
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            speed = round(way(steps if number else 1), 2)
            if number:  # the first turn starts workers and chooses kernels
                turns[name].append(speed)
    return {name: round(statistics.median(found), 2) for name, found in turns.items()}, turns


def _wait(args: argparse.Namespace) -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def compare(
    files: list[tuple[Path, int]], folder: Path, size: int, steps: int, args: argparse.Namespace
) -> dict[str, object]:
    """Return medians and single turns of so many steps, in images a second, of the ways at one size."""
    arrays = prepared(files, size)
    loops = {"loader": user_loop(folder, size, args, False), "loader_pinned": user_loop(folder, size, args, True)}
    ours, fixed = project(arrays, args), limit(arrays, args)
    ways: dict[str, Callable[[int], float]] = {
        **{name: loop.turn for name, loop in loops.items()},
        "trainer": lambda count: turn(ours, count, args),
        "limit": lambda count: turn(fixed, count, args),
    }
    medians, turns = in_turns(ways, steps, args.repeats)
    for loop in loops.values():
        loop.end()
    ratios = {
        "trainer_to_limit": round(medians["trainer"] / medians["limit"], 3),
        "trainer_to_loader": round(medians["trainer"] / medians["loader"], 3),
        "trainer_to_loader_pinned": round(medians["trainer"] / medians["loader_pinned"], 3),
    }
    return {"size": size, "steps": steps, "images_per_second": medians, "turns": turns, **ratios}


def machine(args: argparse.Namespace) -> dict[str, object]:
    """Return the hardware and versions; no host name, no path."""
    return {
        "cpu": provenance.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if args.device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        "| px | (a) loader, img/s | pinned | (b) trainer | (c) limit | b / c | b / a | b / pinned |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        speeds = row["images_per_second"]
        assert isinstance(speeds, dict)
        lines.append(
            f"| {row['size']} | {speeds['loader']:.1f} | {speeds['loader_pinned']:.1f} | {speeds['trainer']:.1f} "
            f"| {speeds['limit']:.1f} | {row['trainer_to_limit']:.2f} | {row['trainer_to_loader']:.2f} "
            f"| {row['trainer_to_loader_pinned']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    runtime.exact(args.threads, args.precision)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.images or made_up(Path(scratch))
        files = listed(folder, args.most)
        rows = [compare(files, folder, size, steps, args) for size, steps in zip(args.sizes, args.steps, strict=True)]
    settings = {name: getattr(args, name) for name in ("batch_size", "precision", "device", "threads")}
    settings |= {
        "repeats": args.repeats,
        "images": len(files),
        "real": args.images is not None,
        "compile": args.compile,
    }
    write_json(args.out, {"settings": settings, "machine": machine(args), "sizes": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
