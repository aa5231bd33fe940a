"""Studies without DVC: a folder, its stages in processes of their own, a training that can be cut.

`python bench/gpu_runs.py FOLDER` trains in a study's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: I001, F401  it pins the instruction set before torch is loaded

import pandas as pd
import torch

from ablation import arrays
from stages import params, runtime
from stages.shell import provenance
from stages.shell.locks import only_one
from stages.shell.watch import end_with_parent
from stages.backbone import network
from stages.files import write_csv, write_json
from stages.shell.errors import InputError
from stages.train import launch, workers
from stages.train.checkpoint import Nowhere, Progress, Store, digest, every_steps, named
from stages.train.loop import Images, Trainer
from stages.train.schema import Params
from stages.dialect import parse, written

Row = TypeVar("Row")
ROOT = Path(__file__).parent.parent
CODE = sorted((ROOT / "stages").rglob("*.py"))
BEFORE = ["fetch", "verify", "prepare", "backbone"]  # once for all parts
SAVE_EVERY = 20.0  # seconds between two checkpoints of a training: one is 377 MB, and on a GPU an epoch takes seconds


class TimeUp(Exception):
    """--minutes are used up."""


def left(args: argparse.Namespace, needed: float = 0.0) -> float | None:
    """Return the seconds that are left of --minutes, None without a limit; TimeUp where they are not enough."""
    if args.until is None:
        return None
    seconds = args.until - time.monotonic()
    if seconds <= needed:
        raise TimeUp
    return seconds


def hardware(device: str) -> str:
    """Return the name of what trains: figures of two of them are never mixed."""
    return torch.cuda.get_device_name() if device == "cuda" else provenance.cpu()


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of the study: those of its params.yaml with what was asked for."""
    name = "params.yaml" if args.source == "phantom" else "studies/nickparvar/params.yaml"
    values: dict[str, Any] = parse((ROOT / name).read_text())
    patients = values["fetch"]["patients"]
    if patients and patients.get("table"):  # it lies by the study's own folder
        patients["table"] = str((ROOT / name).parent.joinpath(patients["table"]).resolve())
    change(values, root=str(ROOT), device=args.device, precision=args.precision, image_size=args.size)
    change(values, **{"split.folds": {"0": ""}, "split.networks": "model.safetensors"})  # each run trains one network
    change(values, epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, **{"train.size_schedule": []})
    change(values, **{key: parse(value) for key, _, value in (each.partition("=") for each in args.set)})
    if len(values["split"]["folds"]) > 1:
        raise InputError("--set split.folds: each run trains one network, with its own seed; leave it out")
    return values


def change(values: dict[str, Any], **changes: Any) -> None:
    """Change keys of a study's parameters; dots lead into groups."""
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        target: Any = values
        for part in group.split(".") if group else []:
            target = target.get(part) if isinstance(target, dict) else None
        if not isinstance(target, dict) or name not in target:
            raise InputError(f"--set {key}: params.yaml has no such key")
        target[name] = value


def prepared(scratch: Path, args: argparse.Namespace) -> Path:
    """Run all stages before train in a new study, where the same has not been done in `scratch` already; return it."""
    values = recipe(args)
    source = Path(args.source)
    inputs = [source] if source.is_file() else []
    made_of = digest(named([values, str(source.resolve()), listing(source)], inputs, CODE, hardware(args.device)))
    folder = scratch / made_of[:16] / "base"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(written(values))
    shutil.copy(ROOT / "studies/nickparvar/files.sha256", folder)
    passed(BEFORE, folder, args)
    return folder


def listing(source: Path) -> list[tuple[str, int, int]]:
    """Return each file of a folder with its size and time of change; nothing where it is no folder."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else []
    return [(path.relative_to(source).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def passed(names: list[str], folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Run those of the stages that have not run in this folder yet; return the seconds of each."""
    path = folder / "seconds.json"
    seconds = json.loads(path.read_text()) if path.is_file() else {}
    for stage in names:
        if stage not in seconds:
            seconds[stage] = run(stage, folder, args)
            write_json(path, seconds)
    return seconds


def run(stage: str, folder: Path, args: argparse.Namespace) -> float:
    """Run a stage in a process of its own, as DVC does; return its seconds, those of a cut training before it too."""
    source = {} if args.source == "phantom" else {"BRAINMRI_SOURCE": str(Path(args.source).resolve())}
    command, before = [sys.executable, "-m", f"stages.{stage}"], 0.0
    if stage == "train":  # its own shell writes the curves by dvclive
        command, before = training_command(folder), starts(folder)["seconds"]
    begun, limit = time.perf_counter(), left(args)
    try:
        done = subprocess.run(
            command, cwd=folder, env=variables(**source), text=True, capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise TimeUp from None
    if done.returncode:
        raise InputError(f"stage {stage} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return round(before + time.perf_counter() - begun, 1)


def side_by_side(runs: Sequence[Callable[[], Row]], together: int) -> Iterator[Row]:
    """Yield what each run returns when it ends, so many at once; an error is raised once those under way have ended."""
    stopped: BaseException | None = None
    with ThreadPoolExecutor(together) as threads:
        running = {threads.submit(run) for run in runs}
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for each in ended:
                if error := each.exception():
                    stopped = stopped or error
                    running = {run for run in running if not run.cancel()}  # of those begun none can be cancelled
                else:
                    yield each.result()
    if stopped:
        raise stopped


def variables(**more: str) -> dict[str, str]:
    """Return the environment of a stage: this code first on PYTHONPATH, then what the caller carries there."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | more


def training_command(folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), str(folder)]


def copied(base: Path, folder: Path, **values: Any) -> Path:
    """Make a study with the same data and other parameters, if it is not there; raw data are linked, not copied."""
    if folder.is_dir():
        return folder
    half = emptied(folder.with_name(f"{folder.name}.part"))
    shutil.copytree(base, half, ignore=shutil.ignore_patterns("raw", "seconds.json"))
    (half / "data/raw").symlink_to(base / "data/raw")
    chosen = parse((half / "params.yaml").read_text())
    change(chosen, **values)
    (half / "params.yaml").write_text(written(chosen))
    return half.rename(folder)


def emptied(folder: Path) -> Path:
    """Remove what a call that was cut left there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@contextmanager
def training(folder: Path, steps: int, trainers: int = 1) -> Iterator[subprocess.Popen[str]]:
    """Start a training by so many workers, which saves every so many steps; the end of the block kills it."""
    environment = variables(BRAINMRI_CHECKPOINT_STEPS=str(steps), BRAINMRI_TRAINERS=str(trainers))
    command, pipe = training_command(folder), subprocess.PIPE
    with subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def first_checkpoint(folder: Path, process: subprocess.Popen[str], args: argparse.Namespace) -> float:
    """Return the moment at which a run's first checkpoint lies there."""
    while process.poll() is None and not list((folder / ".checkpoints").rglob("*-*-*.safetensors")):
        left(args)
        time.sleep(0.02)
    return time.monotonic()


def ended(process: subprocess.Popen[str], args: argparse.Namespace) -> str:
    """Wait for a training to end, and return what it said."""
    try:
        said, _ = process.communicate(timeout=left(args))
    except subprocess.TimeoutExpired:
        raise TimeUp from None
    if process.returncode:
        raise InputError(f"a training failed: {said.strip()[-1000:]}")
    return said


def enough(images: Images, batch_size: int) -> None:
    if batch_size > len(images.images):
        raise InputError(f"batch_size = {batch_size} is more than the {len(images.images)} training images")


def causes(folder: Path) -> str:
    """Return the fingerprint of all that the bits of a study's training depend on."""
    chosen = params.load(Params, folder / "params.yaml")
    names = ["data/prepared/train.npy", "data/prepared/val.npy", "data/prepared/index.csv", "models/init.safetensors"]
    inputs = [folder / name for name in names]
    return digest(named(chosen.model_dump(mode="json"), inputs, CODE, hardware(chosen.device)))


def starts(folder: Path) -> dict[str, Any]:
    """Return how often a study's training was started, and its seconds up to its last checkpoint."""
    path = folder / "starts.json"
    return json.loads(path.read_text()) if path.is_file() else {"starts": 0, "seconds": 0.0}


class Sparing(Store):
    """A store that saves only when it is `due`, and keeps count of a training's starts and seconds."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        super().__init__(folder / ".checkpoints", fingerprint)
        self.study, self.begun, self.saved = folder, time.monotonic(), time.monotonic()
        self.earlier = starts(folder)
        self._count(self.earlier["seconds"])

    def due(self) -> bool:
        return every_steps() > 0 or time.monotonic() - self.saved >= SAVE_EVERY

    def save(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        """Save, unless nothing was handed over, see `SparingTrainer`."""
        if not tensors:
            return
        super().save(tensors, progress)
        self.saved = time.monotonic()
        seconds = self.earlier["seconds"] + self.saved - self.begun
        self._count(seconds)

    def remove(self) -> None:
        super().remove()
        self._count(0.0)  # a training that is made again now begins at the beginning

    def _count(self, seconds: float) -> None:
        write_json(self.study / "starts.json", {"starts": self.earlier["starts"] + 1, "seconds": seconds})


class SparingTrainer(Trainer):
    """Does not copy its state to the CPU where its store would not save it."""

    store: Sparing | None = None  # of the first worker

    def state(self) -> dict[str, torch.Tensor]:
        _, due = self.team.from_first(None, bool(self.store and self.store.due()))
        return super().state() if due else {}

    def _mark(self, store: Store) -> None:
        """Write no trail: nobody would read it, and its hashes cost a copy of the state."""


def train(chosen: Params, team: workers.Alone) -> None:
    """Write the weights and history that the train stage would in a study's folder; checkpoints lie in .checkpoints."""
    tensors, meta = network.read_tensors("models/init.safetensors")[0], network.load("models/init.safetensors")[1]
    images, val = arrays(Path())
    enough(images, chosen.batch_size)
    model = network.build(len(meta.classes), chosen.train.dropout)
    network.fit(model, tensors, "models/init.safetensors")
    trainer = SparingTrainer(model, images, val, chosen, meta.mean, meta.std, team)
    if not team.first:
        theirs: Progress | None = None
        state, theirs = team.from_first(None, theirs)
        if state is not None and theirs is not None:
            trainer.restore(state, theirs)
        trainer.fit(Nowhere())
        return
    with only_one("training.lock"):  # a call that was cut may have left its training running
        store = trainer.store = Sparing(Path.cwd(), causes(Path()))
        state, progress = team.from_first(*(store.newest() or (None, None)))
        if state is not None:
            trainer.restore(state, progress)
            print(f"resumed at step {trainer.progress.epoch * trainer.steps + trainer.progress.step}", flush=True)
        outcome = trainer.fit(store)
        about = replace(meta, dropout=chosen.train.dropout, made_by=chosen.digest())
        network.save("models/model.safetensors", outcome, about)
        columns = ["epoch", "lr", "train_loss", "val_loss", "val_accuracy"]
        write_csv("models/curves/history.csv", pd.DataFrame(trainer.progress.history, columns=columns))
        store.remove()


def main() -> None:
    """Train, by this process, or as one of the workers that it starts; end with who started it."""
    end_with_parent()
    chosen = params.load(Params)
    runtime.exact(chosen.threads, chosen.precision)
    shards = chosen.train.shards
    if launch.is_worker():
        train(chosen, workers.joined(chosen.device, shards))
        torch.distributed.destroy_process_group()  # else its threads can abort the process at its end
    elif (count := launch.workers(shards, chosen.threads, chosen.device)) > 1:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "bench"), variables()["PYTHONPATH"]])
        launch.run(count, chosen.threads, "gpu_runs", str(Path.cwd()))
    else:
        train(chosen, workers.Alone(runtime.device(chosen.device)))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    try:
        main()
    except InputError as error:
        sys.exit(f"gpu_study: {error}")
