"""Speed, for gpu_study: training against its limit, and what deterministic kernels and shards cost."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import train_throughput as speed
from ablation import arrays
from gpu_runs import enough, left

import stages  # noqa: F401  it pins the instruction set before torch is loaded
from stages import params, runtime
from stages.shell.errors import InputError
from stages.train.loop import Images
from stages.train.schema import Params


def throughput(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Medians in images a second, training and limit taking turns, at each batch size, in two precisions."""
    cuda = args.device == "cuda"
    ways = (False, True) if cuda and not args.no_compiled else (False,)
    precisions = [*dict.fromkeys([args.precision, "tf32" if cuda else "fp32"])]
    rows = [(precision, size, compiled) for compiled in ways for precision in precisions for size in args.batch_sizes]
    yield from _each(_measured, rows, base, args, result.get("throughput", {}))


def cost(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Images a second of training with deterministic kernels and without, in turns, at each batch size."""
    compiled = params.load(Params, base / "params.yaml").train.compile
    rows = [(args.precision, size, compiled) for size in args.batch_sizes]
    yield from _each(_cost, rows, base, args, result.get("cost", {}))


def _each(
    way: Callable[[Images, argparse.Namespace], dict[str, float]],
    rows: list[tuple[str, int, bool]],
    base: Path,
    args: argparse.Namespace,
    found: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yield what is found after each row (precision, batch size, whether compiled) that is not among it yet."""
    images, took = arrays(base)[0], 0.0
    for precision, size, compiled in rows:
        name = f"{precision}, batch {size}{', compiled' if compiled else ''}"
        if name not in found:
            left(args, took)
            started = time.monotonic()
            found[name] = _attempted(way, images, _options(base, args, precision, size, compiled))
            took = time.monotonic() - started
            yield found


def shards(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Images a second of training by one worker at each number of shards, in turns, and how much of one's it is."""
    if "shards" not in result:
        left(args)
        precision = "bf16" if args.precision == "fp16" else args.precision  # loss scaling knows no shards
        yield _attempted(_shards, arrays(base)[0], _options(base, args, precision, args.batch_size, False))


def _options(
    base: Path, args: argparse.Namespace, precision: str, batch_size: int, compiled: bool
) -> argparse.Namespace:
    """Return what train_throughput's functions want to know; the recipe is the study's own."""
    options = {"batch_size": batch_size, "precision": precision, "device": args.device, "compile": compiled}
    options |= {"threads": params.load(Params, base / "params.yaml").threads, "params": base / "params.yaml"}
    return argparse.Namespace(**options, steps=args.steps, repeats=args.repeats)


def _attempted(
    way: Callable[[Images, argparse.Namespace], dict[str, float]], images: Images, options: argparse.Namespace
) -> dict[str, Any]:
    """Return what `way` measures, or {"failed": why} where memory is short or torch.compile does not work here."""
    try:
        enough(images, options.batch_size)
        found: dict[str, Any] = way(images, options)
    except Exception as error:  # torch.compile's own failures are of many kinds
        if not (options.compile or isinstance(error, InputError) or _out_of_memory(error)):
            raise
        found = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    torch.compiler.reset()  # else a later row goes over torch's limit of compilations and is silently not compiled
    gc.collect()  # only here is the error gone, which holds on to the tensors
    if options.device == "cuda":
        torch.cuda.empty_cache()  # the next batch size wants it, and so does a training in another process
    return found


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _measured(images: Images, options: argparse.Namespace) -> dict[str, float]:
    """Return medians of training and of its limit, in images a second."""
    runtime.exact(options.threads, options.precision)
    ways = {"trainer": speed.project(images, options), "limit": speed.limit(images, options)}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.repeats + 1):
        for name, way in ways.items():
            measured = speed.turn(way, options.steps, options)
            if number:
                turns[name].append(measured)
    medians = {name: round(statistics.median(each), 1) for name, each in turns.items()}
    return medians | {"trainer_to_limit": round(medians["trainer"] / medians["limit"], 3)}


def _cost(images: Images, options: argparse.Namespace) -> dict[str, float]:
    """Return medians of training with deterministic kernels and without, and the share of speed they cost."""
    ways = {}
    for name in ("deterministic", "free"):
        with _kernels(name == "free", options):
            ways[name] = speed.project(images, options)
            speed.turn(ways[name], options.steps, options)  # kernels are chosen here
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            with _kernels(name == "free", options):
                turns[name].append(speed.turn(way, options.steps, options))
    medians = {name: round(statistics.median(each), 1) for name, each in turns.items()}
    return medians | {"share_lost": round(1 - medians["deterministic"] / medians["free"], 4)}


def _shards(images: Images, options: argparse.Namespace) -> dict[str, Any]:
    """Return medians of training at each number of shards that leaves them two images, and their share of one's."""
    runtime.exact(options.threads, options.precision)
    counts = [count for count in (1, 2, 4, 8) if options.batch_size % count == 0 and options.batch_size >= 2 * count]
    ways: dict[str, Callable[[int], float]] = {
        str(count): partial(speed.turn, _steps_of(images, options, count), args=options) for count in counts
    }
    medians, _ = speed.in_turns(ways, options.steps, options.repeats)
    return {"images_per_second": medians} | {
        "share_of_one": {name: round(each / medians["1"], 3) for name, each in medians.items()}
    }


def _steps_of(images: Images, options: argparse.Namespace, count: int) -> speed.Steps:
    return speed.project(images, argparse.Namespace(**vars(options) | {"shards": count}))


@contextmanager
def _kernels(free: bool, options: argparse.Namespace) -> Iterator[None]:
    """Allow any kernel for the block, or only deterministic ones."""
    runtime.exact(options.threads, options.precision)
    if free:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    try:
        yield
    finally:
        runtime.exact(options.threads, options.precision)
