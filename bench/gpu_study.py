"""The whole study on a GPU machine, without DVC: what it scores, how fast it is, and whether its bits are the same.

    python bench/gpu_study.py --source archive.zip [--parts throughput,determinism,cost,study] [--seeds 5]

throughput   images a second of training against the same step on one fixed batch, at each batch size and precision
cost         what deterministic kernels cost: the same with autotuned and nondeterministic ones allowed
determinism  a short run left alone, one again, and --kills runs killed at random moments and resumed: one digest?
study        from the archive to the confusion matrix, under both protocols, once for each seed

Writes one JSON with the hardware in it, anew after every part and every run of a study. What is asked for later with
the same settings is added to the file that is there: other parts, and more seeds (--first-seed). Needs torch,
torchvision, scikit-learn, pandas, matplotlib, safetensors, pydantic, pyyaml, pooch, tqdm; no DVC, no dvclive.
"""

from __future__ import annotations

import argparse
import json
import os
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
try:
    import stages  # noqa: I001, F401  it pins the instruction set before torch is loaded

    import pandas as pd
    import torch
    import yaml

    import pooch  # noqa: F401  the stages need it in their own processes
    import scipy  # noqa: F401
    import sklearn  # noqa: F401
    import torchvision  # noqa: F401

    import train_throughput as speed
    from ablation import arrays
    from stages import params, provenance, runtime
    from stages.backbone import network
    from stages.files import InputError, sha256_file, write_csv, write_json
    from stages.train.checkpoint import Store, fingerprint
    from stages.train.loop import Images, Trainer
    from stages.train.schema import Params
except ModuleNotFoundError as error:
    sys.exit(f"gpu_study: {error}; install what requirements.lock names, or run it where it is")

ROOT = Path(__file__).parent.parent
PARTS = ["throughput", "cost", "determinism", "study"]
PLACES = ("out", "source", "parts", "seeds", "first_seed", "train_in")  # settings that change no figure
PROTOCOLS = ["published", "leak_free"]
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
    parser.add_argument("--first-seed", type=int, default=0, help="go on with the study from this seed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--short-epochs", type=int, default=2, help="of a run in `determinism`")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256], help="of `throughput`")
    parser.add_argument("--steps", type=int, default=30, help="steps a turn of `throughput`")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other keys of params.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/gpu_study.json")
    parser.add_argument("--train-in", type=Path, help=argparse.SUPPRESS)  # one training, for a process of its own
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.train_in:
        os.chdir(args.train_in)
        train()
        return
    chosen = args.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise InputError(f"--parts has {sorted(unknown)[0]!r}: choose from {', '.join(PARTS)}")
    runtime.device(args.device)  # says at once where there is none
    settings = {key: str(value) for key, value in vars(args).items() if key not in PLACES}
    result: dict[str, Any] = {"settings": settings | {"images": "phantom" if args.source == "phantom" else "real"}}
    if args.out.is_file() and (earlier := json.loads(args.out.read_text()))["settings"] == result["settings"]:
        result = earlier
    with tempfile.TemporaryDirectory() as scratch:
        base, seconds = prepared(Path(scratch) / "base", args)
        result["seconds"] = seconds
        for part in (part for part in PARTS if part in chosen):
            for found in globals()[part](base, args, result):
                result[part] = found
                write_json(args.out, result | {"environment": environment(args)})
    print(json.dumps(result, indent=2))


def environment(args: argparse.Namespace) -> dict[str, Any]:
    if args.device == "cuda":
        torch.cuda.init()
    return provenance.environment()


def prepared(folder: Path, args: argparse.Namespace) -> tuple[Path, dict[str, float]]:
    """Run all stages before train in a new study; return it and the seconds of each."""
    name = "params.yaml" if args.source == "phantom" else "studies/nickparvar/params.yaml"
    folder.mkdir()
    shutil.copy(ROOT / name, folder / "params.yaml")
    listing = ROOT / "studies/nickparvar/files.sha256"
    shutil.copy(listing, folder)
    change(folder, root=str(ROOT), device=args.device, precision=args.precision, image_size=args.size)
    change(folder, epochs=args.epochs, batch_size=args.batch_size, lr=args.lr)
    change(folder, **{key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in args.set)})
    return folder, {stage: run(stage, folder, args) for stage in ("fetch", "verify", "prepare", "backbone")}


def change(folder: Path, **values: Any) -> None:
    """Change keys of a study's params.yaml; dots lead into groups."""
    path = folder / "params.yaml"
    text = yaml.safe_load(path.read_text())
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        target = text
        for part in group.split(".") if group else []:
            target = target[part]
        if name not in target:
            raise InputError(f"--set {key}: params.yaml has no such key")
        target[name] = value
    path.write_text(yaml.safe_dump(text, sort_keys=False))


def run(stage: str, folder: Path, args: argparse.Namespace) -> float:
    """Run a stage in a process of its own, as DVC does; return its seconds."""
    source = {} if args.source == "phantom" else {"BRAINMRI_SOURCE": str(Path(args.source).resolve())}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | source
    command = [sys.executable, "-m", f"stages.{stage}"]
    if stage == "train":  # its own shell writes the curves by dvclive
        command = [sys.executable, str(Path(__file__).resolve()), "--train-in", str(folder)]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise InputError(f"stage {stage} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return round(time.perf_counter() - begun, 1)


def train() -> None:
    """Do what the train stage does in a study's folder, less dvclive; checkpoints lie in `.checkpoints`."""
    chosen = params.load(Params)
    runtime.exact(chosen.threads, chosen.precision)
    tensors, meta = network.read_tensors("models/init.safetensors")[0], network.load("models/init.safetensors")[1]
    images, val = arrays(Path())
    model = network.build(len(meta.classes), chosen.train.dropout)
    network.fit(model, tensors, "models/init.safetensors")
    trainer = Trainer(model, images, val, chosen, meta.mean, meta.std)
    inputs = ["data/prepared/train.npy", "data/prepared/index.csv", "models/init.safetensors"]
    store = Store(Path(".checkpoints"), fingerprint(chosen.model_dump(mode="json"), inputs, [], str(trainer.device)))
    if found := store.newest():
        trainer.restore(*found)
        print(f"resumed at step {trainer.progress.epoch * trainer.steps + trainer.progress.step}", flush=True)
    outcome = trainer.fit(store)
    network.save("models/model.safetensors", outcome, meta)
    history = pd.DataFrame(trainer.progress.history)
    write_csv("models/curves/history.csv", history[["epoch", "lr", "train_loss", "val_loss", "val_accuracy"]])
    store.remove()


def throughput(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Medians in images a second, training and limit taking turns, at each batch size, in two precisions."""
    images, _ = arrays(base)
    found: dict[str, Any] = {}
    for precision in dict.fromkeys([args.precision, "tf32" if args.device == "cuda" else "fp32"]):
        for size in args.batch_sizes:
            found[f"{precision}, batch {size}"] = _measured(images, precision, size, args)
            yield found


def cost(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Images a second of training with deterministic kernels and without, in turns."""
    images, _ = arrays(base)
    options = _options(args, args.precision, args.batch_size)
    ways = {}
    for name in ("deterministic", "free"):
        with _kernels(name == "free", args.precision):
            ways[name] = speed.project(images, options)
            speed.turn(ways[name], options.steps, options)  # kernels are chosen here
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, way in ways.items():
            with _kernels(name == "free", args.precision):
                turns[name].append(speed.turn(way, options.steps, options))
    medians = {name: round(statistics.median(each), 1) for name, each in turns.items()}
    yield medians | {"share_lost": round(1 - medians["deterministic"] / medians["free"], 4)}


def determinism(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Digests of the weights of short runs: left alone, again, and killed at random moments and resumed."""
    moments, digests = random.Random(0), []
    for number in range(2):
        study = _copy(base, base.parent / f"alone{number}", epochs=args.short_epochs)
        begun = time.monotonic()
        process = _start(study, "2")
        first = _first_checkpoint(study, process) - begun  # before this there is nothing to go on from
        _ended(process)
        whole = time.monotonic() - begun
        digests.append(sha256_file(study / "models/model.safetensors"))
        shutil.rmtree(study)
    found: dict[str, Any] = {"alone": digests, "kills": 0, "in_a_write": 0, "same_after_kill": 0, "resumed_at_step": []}
    yield found
    while found["kills"] < args.kills:
        study = _copy(base, base.parent / "killed", epochs=args.short_epochs)
        process = _start(study, "2")
        time.sleep(moments.uniform(0.7 * first, 0.98 * whole))
        if process.poll() is None:  # else it had ended already: no kill
            found["in_a_write"] += bool(list((study / ".checkpoints").rglob("*.part")))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            match = re.search(r"resumed at step (\d+)", _ended(_start(study, "0")))
            found["kills"] += 1
            found["same_after_kill"] += sha256_file(study / "models/model.safetensors") == digests[0]
            found["resumed_at_step"].append(int(match[1]) if match else 0)
        shutil.rmtree(study)
        yield found


def study(base: Path, args: argparse.Namespace, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Scores under both protocols for each seed, their mean and spread, and the seconds of each stage."""
    found: dict[str, Any] = result.get("study", {})
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for protocol in PROTOCOLS:
            folder = _copy(base, base.parent / "one", seed=seed, **{"split.protocol": protocol})
            seconds = {stage: run(stage, folder, args) for stage in ("prepare", "backbone", "train", "evaluate")}
            metrics = json.loads((folder / "metrics/test.json").read_text())
            row: dict[str, Any] = {
                group: {key: metrics[group].get(key) for key in SCORES} for group in ("all", "clean", "leaked")
            }
            row |= {"seed": seed, "weights": sha256_file(folder / "models/model.safetensors")}
            row |= {
                "seconds": seconds,
                "zip_to_confusion_s": _whole(result["seconds"], seconds),
                "confusion": confusion(folder),
            }
            runs = found.setdefault(protocol, {"runs": []})["runs"]
            runs[:] = [r for r in runs if r["seed"] != seed] + [row]
            for group in ("all", "clean", "leaked"):
                scored = [r[group]["accuracy"] for r in found[protocol]["runs"] if r[group]["n"]]
                found[protocol][group] = _spread(scored) if scored else None
            shutil.rmtree(folder)
            yield found


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


def _options(args: argparse.Namespace, precision: str, batch_size: int) -> argparse.Namespace:
    """Return what train_throughput's functions want to know."""
    return argparse.Namespace(
        batch_size=batch_size, precision=precision, device=args.device, threads=2, compile=False, steps=args.steps
    )


def _measured(images: Images, precision: str, size: int, args: argparse.Namespace) -> dict[str, float]:
    options = _options(args, precision, size)
    runtime.exact(options.threads, options.precision)
    ways = {"trainer": speed.project(images, options), "limit": speed.limit(images, options)}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.repeats + 1):
        for name, way in ways.items():
            measured = speed.turn(way, options.steps, options)
            if number:
                turns[name].append(measured)
    medians = {name: round(statistics.median(each), 1) for name, each in turns.items()}
    return medians | {"trainer_to_limit": round(medians["trainer"] / medians["limit"], 3)}


@contextmanager
def _kernels(free: bool, precision: runtime.Precision) -> Iterator[None]:
    """Allow any kernel for the block, or only deterministic ones."""
    runtime.exact(2, precision)
    if free:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    try:
        yield
    finally:
        runtime.exact(2, precision)


def _copy(base: Path, folder: Path, **values: Any) -> Path:
    """Return a study with the same data and other parameters; raw data are linked, not copied."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("raw"))
    (folder / "data/raw").symlink_to(base / "data/raw")
    change(folder, **values)
    return folder


def _start(study: Path, steps: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--train-in", str(study)]
    environment = os.environ | {"BRAINMRI_CHECKPOINT_STEPS": steps}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _first_checkpoint(study: Path, process: subprocess.Popen[str]) -> float:
    """Return the moment at which a run's first checkpoint lies there."""
    while process.poll() is None and not list((study / ".checkpoints").rglob("*-*-*.safetensors")):
        time.sleep(0.02)
    return time.monotonic()


def _ended(process: subprocess.Popen[str]) -> str:
    """Wait for a training to end, and return what it said."""
    said, _ = process.communicate()
    if process.returncode:
        raise InputError(f"a training of `determinism` failed: {said.strip()[-1000:]}")
    return said


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"gpu_study: {error}")
