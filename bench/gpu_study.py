"""The whole study on a GPU machine, without DVC: what it scores, how fast it is, and whether its bits are the same.

    python bench/gpu_study.py --source archive.zip [--parts throughput,determinism,cost,study] [--seeds 5]

throughput   images a second of training against the same step on one fixed batch, at each batch size and precision,
             on a GPU without torch.compile and with it
cost         what deterministic kernels cost at each batch size: the same with autotuned and nondeterministic ones
shards       what it costs one worker to pass a batch in 2, 4, 8 shards
determinism  a short run left alone, one again, and --kills runs killed at random moments and resumed: one digest?
workers      a short run by 1, 2, 4, ... workers, as many as there are GPUs: one digest, and images a second
study        from the archive to the confusion matrix, once for each seed: as published, leak-free and, where a table
             says whose images they are, by patient (a fifth of the patients tests, another fifth for each seed);
             --together of these runs at once, since one process alone may leave a large GPU waiting

Writes one JSON with the hardware in it, anew after every figure. What is in it is not measured again: the same command
goes on where the last call ended, be it cut or stopped by --minutes, and other parts, batch sizes, kills and seeds are
added. With --scratch prepared images and half-done trainings are kept for the next call too. Needs torch, torchvision,
scikit-learn, pandas, matplotlib, safetensors, pydantic, pyyaml, ruamel.yaml, pooch, tqdm; no DVC, no dvclive.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
try:
    import stages  # noqa: I001, F401  it pins the instruction set before torch is loaded

    import pandas as pd
    import torch

    import pooch  # noqa: F401  the stages need it in their own processes
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
    import torchvision  # noqa: F401

    from growing import so_far
    from gpu_runs import (
        CODE,
        SAVE_EVERY,
        TimeUp,
        causes,
        copied,
        emptied,
        ended,
        first_checkpoint,
        hardware,
        left,
        passed,
        prepared,
        recipe,
        side_by_side,
        starts,
        training,
    )
    from gpu_speed import cost, shards, throughput
    from stages import params, runtime
    from stages.files import read_figures, sha256_file, write_json
    from stages.shell import provenance
    from stages.shell.errors import InputError
    from stages.train.checkpoint import digest, named
except ModuleNotFoundError as error:
    sys.exit(f"gpu_study: {error}; install what requirements.lock names, or carry it (docs/gpu.md)")

ROOT = Path(__file__).parent.parent
PARTS = ["throughput", "cost", "shards", "determinism", "workers", "study"]
# settings that change no figure: where things lie, and how much of them is asked for in one call
PLACES = (
    "out",
    "source",
    "scratch",
    "parts",
    "shards",
    "batch_sizes",
    "no_compiled",
    "kills",
    "seeds",
    "first_seed",
    "minutes",
)
AFTER = ["prepare", "backbone", "train", "evaluate"]  # for each seed and protocol
# what each changes; by patient, as studies/nickparvar-patients has it, one picture of each group of copies
PROTOCOLS: dict[str, dict[str, Any]] = {
    "published": {"split.protocol": "published", "split.unique": False},
    "leak_free": {"split.protocol": "leak_free", "split.unique": False},
    "by_patient": {"split.protocol": "by_patient", "split.unique": True},
}
GROUPS = ["all", "clean", "leaked", "patients", "others_alone"]
SCORES = ["n", "accuracy", "accuracy_low", "accuracy_high", "f1", "auc", "sensitivity"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", default="phantom", help="zip, tar or folder of the dataset; phantom: made-up images"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try the script")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "tf32", "fp32"])
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128, help="of the study")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=5, help="runs of the study under each protocol")
    parser.add_argument("--together", type=int, default=1, help="runs of the study side by side on the one device")
    parser.add_argument("--first-seed", type=int, default=0, help="go on with the study from this seed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--short-epochs", type=int, default=2, help="of a run in `determinism`")
    parser.add_argument("--checkpoint-steps", type=int, default=10, help="steps between checkpoints in `determinism`")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[64, 128, 256, 512], help="of `throughput`, `cost`"
    )
    parser.add_argument("--no-compiled", action="store_true", help="`throughput` without torch.compile's rows")
    parser.add_argument("--shards", type=int, default=8, help="of `workers`, a power of two")
    parser.add_argument("--steps", type=int, default=30, help="steps a turn of `throughput`")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other keys of params.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/gpu_study.json")
    parser.add_argument("--minutes", type=float, help="stop after so many; the same command then goes on")
    parser.add_argument("--scratch", type=Path, help="folder for prepared images and checkpoints, kept between calls")
    args = parser.parse_args()
    args.until = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    return args


def main() -> None:
    args = arguments()
    chosen = args.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise InputError(f"--parts has {sorted(unknown)[0]!r}: choose from {', '.join(PARTS)}")
    runtime.device(args.device)  # says at once where there is none
    result = so_far(args.out, settings(args))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a training ends with this process, also under `timeout`
    try:
        with tempfile.TemporaryDirectory() if args.scratch is None else nullcontext(args.scratch) as scratch:
            measure([part for part in PARTS if part in chosen], Path(scratch).resolve(), args, result)
    except TimeUp:
        print(f"gpu_study: {args.minutes:g} minutes are used up: the same command goes on from here", file=sys.stderr)
    print(json.dumps(result, indent=2))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what all figures of a file have in common."""
    found = {key: str(value) for key, value in vars(args).items() if key not in (*PLACES, "until")}
    found |= {"images": "phantom" if args.source == "phantom" else "real", "hardware": hardware(args.device)}
    shown = {key: value for key, value in recipe(args).items() if key not in ("root", "report")}
    # of all keys, also those that --set leaves alone
    found["recipe"] = digest(named(shown, [], [], args.device))[:16]
    found["checkpoints"] = (
        f"of a training at the end of an epoch, {SAVE_EVERY:g} s or more after the last; "
        f"in determinism every {args.checkpoint_steps} steps and after each epoch until the kill"
    )
    return found


def measure(parts: list[str], scratch: Path, args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Do the parts, and write the JSON after each figure."""
    base = prepared(scratch, args)
    result["seconds"] = json.loads((base / "seconds.json").read_text())
    made_on = environment(args)
    for part in parts:
        for found in MEASURES[part](base, args, result):
            result[part] = found
            if made_on not in result.setdefault("environments", []):
                result["environments"].append(made_on)
            write_json(args.out, result)


def environment(args: argparse.Namespace) -> dict[str, Any]:
    if args.device == "cuda":
        torch.cuda.init()
    found = provenance.environment() | {"code": digest(named(None, [], CODE, ""))[:16]}
    return json.loads(json.dumps(found))  # as it reads from the file, to be compared with that


def determinism(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Digests of the weights of short runs: left alone, again, and killed at random moments and resumed."""
    found: dict[str, Any] = result.get("determinism", {})
    if found.get("causes") != (now := causes(base)):  # runs of other code, data or libraries may rightly differ
        found = {"causes": now, "alone": [], "attempts": 0, "kills": 0, "in_a_write": 0, "same_after_kill": 0}
        found["resumed_at_step"] = []
    while len(found["alone"]) < 2:
        found |= _alone(base, args, found["alone"])
        yield found
    while found["kills"] < args.kills:
        if found["attempts"] >= 10 + 3 * args.kills:
            raise InputError("trainings of `determinism` end before they can be killed: choose more --short-epochs")
        left(args, 2 * found["whole_s"])  # an attempt that is cut would be lost
        _attempt_a_kill(base, args, found)
        yield found


def _alone(base: Path, args: argparse.Namespace, digests: list[str]) -> dict[str, Any]:
    """Return digests with that of one more run, and its seconds to the first checkpoint and to the end."""
    folder = copied(base, emptied(base.parent / "alone"), epochs=args.short_epochs)
    begun = time.monotonic()
    with training(folder, args.checkpoint_steps) as process:
        first = first_checkpoint(folder, process, args) - begun  # before this there is nothing to go on from
        ended(process, args)
    whole = time.monotonic() - begun
    digest = sha256_file(folder / "models/model.safetensors")
    shutil.rmtree(folder)
    return {"alone": [*digests, digest], "first_checkpoint_s": round(first, 2), "whole_s": round(whole, 2)}


def _attempt_a_kill(base: Path, args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Kill a run at a random moment, resume it, and count what came of it; a run that had ended is no kill."""
    folder = copied(base, emptied(base.parent / "killed"), epochs=args.short_epochs)
    draws = random.Random(found["attempts"])  # by number, so that it does not matter in which call an attempt is made
    moment = draws.uniform(0.7 * found["first_checkpoint_s"], 0.98 * found["whole_s"])
    with training(folder, args.checkpoint_steps) as process, suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    if process.returncode == -signal.SIGKILL:
        in_a_write = bool(list((folder / ".checkpoints").rglob("*.part")))
        with training(folder, 0) as process:
            match = re.search(r"resumed at step (\d+)", ended(process, args))
        found["same_after_kill"] += sha256_file(folder / "models/model.safetensors") == found["alone"][0]
        found["kills"] += 1
        found["in_a_write"] += in_a_write
        found["resumed_at_step"].append(int(match[1]) if match else 0)
    found["attempts"] += 1
    shutil.rmtree(folder)


def workers(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Digest and images a second of a short run of --shards shards by each number of workers that has a GPU each."""
    found: dict[str, Any] = result.get("workers", {})
    if found.get("causes") != (now := causes(base)) or found.get("shards") != args.shards:
        found = {"causes": now, "shards": args.shards, "runs": {}}
    most = torch.cuda.device_count() if args.device == "cuda" else args.shards
    precision = "bf16" if args.precision == "fp16" else args.precision
    for count in (1 << power for power in range(min(most, args.shards).bit_length())):
        if str(count) not in found["runs"]:
            left(args)
            folder = emptied(base.parent / "workers")
            copied(base, folder, epochs=args.short_epochs, precision=precision, **{"train.shards": args.shards})
            with training(folder, 0, count) as process:
                speeds = re.findall(r"(\d+) img/s", ended(process, args))
            digest = sha256_file(folder / "models/model.safetensors")
            found["runs"][str(count)] = {"digest": digest, "images_per_second": int(speeds[-1])}
            found["same"] = len({run["digest"] for run in found["runs"].values()}) == 1
            shutil.rmtree(folder)
            yield found


def study(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Scores under each protocol for each seed, their mean and spread, and the seconds of each stage."""
    found: dict[str, Any] = result.get("study", {})
    patients = params.read(base / "params.yaml")["fetch"]["patients"]
    there = {(protocol, row["seed"]) for protocol, each in found.items() for row in each["runs"]}
    waiting = [
        (protocol, seed)
        for seed in range(args.first_seed, args.first_seed + args.seeds)
        for protocol in PROTOCOLS
        if (protocol, seed) not in there and (protocol != "by_patient" or patients)
    ]
    runs = [partial(_run, base, args, result["seconds"], protocol, seed) for protocol, seed in waiting]
    for protocol, row, folder in side_by_side(runs, args.together):
        rows = [*found.get(protocol, {"runs": []})["runs"], row]
        found[protocol] = _summary(sorted(rows, key=lambda row: int(row["seed"])))
        yield found
        shutil.rmtree(folder)  # only now: its row is in the JSON


def _run(
    base: Path, args: argparse.Namespace, before: dict[str, float], protocol: str, seed: int
) -> tuple[str, dict[str, Any], Path]:
    """Make one run of the study; return its protocol, its row and its folder."""
    left(args)
    folder = copied(base, base.parent / f"{protocol}-{seed}", seed=seed, **PROTOCOLS[protocol])
    seconds = passed(AFTER, folder, args)
    row = {"seed": seed, "zip_to_confusion_s": _whole(before, seconds), "seconds": seconds}
    return protocol, row | _scores(folder), folder


def _scores(folder: Path) -> dict[str, Any]:
    """Return the scores of a study that has been run, its confusion matrix, and the digest of its weights."""
    metrics = read_figures(folder / "metrics/scores.csv")
    row: dict[str, Any] = {group: {key: metrics.get(group, {}).get(key) for key in SCORES} for group in GROUPS}
    row |= {"weights": sha256_file(folder / "models/model.safetensors"), "confusion": confusion(folder)}
    return row | {"starts": starts(folder)["starts"]}  # more than one: its seconds hold the start of a process again


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs, and mean and spread of the accuracy of each group of test images that is not empty."""
    scored = {group: [row[group]["accuracy"] for row in runs if row[group]["n"]] for group in GROUPS}
    return {"runs": runs} | {group: _spread(values) if values else None for group, values in scored.items()}


def confusion(folder: Path) -> dict[str, int]:
    """Return how many test images of each class were called what: {"actual as predicted": images}."""
    pairs = pd.read_csv(folder / "data/predictions.csv", dtype=str, keep_default_na=False)
    counts = (pairs["label"] + " as " + pairs["predicted"]).value_counts()
    return {str(name): int(n) for name, n in sorted(counts.items())}


def _whole(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the seconds of all stages, from the archive to the confusion matrix, each counted once."""
    return round(before["fetch"] + before["verify"] + sum(after.values()), 1)


def _spread(values: list[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 6), "deviation": round(deviation, 6), "n": len(values)}


MEASURES = {"throughput": throughput, "cost": cost, "shards": shards}
MEASURES |= {"determinism": determinism, "workers": workers, "study": study}

if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"gpu_study: {error}")
