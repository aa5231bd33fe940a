"""Writes models/model.safetensors, models/curves/, models/trail/ and plots/trail.csv.

Run as `python -m stages.train [FOLD]` in a study's folder: the files of a cross-validation's fold,
such as /folds/3, lie in folders of that name.
"""

import contextlib
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from dvclive import Live

from stages import params, runtime
from stages.backbone import network
from stages.files import atomic_folder, write_csv
from stages.shell import provenance
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.shell.running import run, work
from stages.shell.watch import end_with_parent
from stages.train import launch, start, trail, workers
from stages.train.checkpoint import Nowhere, Store, beside_cache, digest, named
from stages.train.loop import Trainer
from stages.train.schema import Params

STAGES = Path(__file__).parent.parent
CODE = [
    *sorted(STAGES.glob("*.py")),
    *sorted((STAGES / "backbone").glob("*.py")),
    *sorted((STAGES / "train").glob("*.py")),
]


def main(fold: str = "") -> None:
    """Read parameters, arrays and weights; train, or go on from a checkpoint; write weights, curves and trail.

    By this process, or by workers that it starts.
    """
    chosen = _chosen(fold)
    count = launch.workers(chosen.train.shards, chosen.threads, chosen.device)
    with only_one(f"logs/train{fold.replace('/', '-')}.lock"):
        if count * launch.machines() > 1:
            launch.run(count, chosen.threads, "stages.train", fold)
        else:
            _told(chosen, fold, workers.Alone(runtime.device(chosen.device)))


def worker(fold: str = "") -> None:
    """Do a worker's part of `main`."""
    chosen = _chosen(fold)
    try:
        _told(chosen, fold, workers.joined(chosen.device, chosen.train.shards))
        torch.distributed.destroy_process_group()
    except workers.Lost:
        sys.exit(launch.LOST)


def _chosen(fold: str) -> Params:
    if not re.fullmatch(r"(/folds/\d+)?", fold):
        raise InputError(f"fold {fold!r}: expected a folder such as /folds/3, or none where there is one fold alone")
    chosen = params.load(Params)
    runtime.exact(chosen.threads, chosen.precision)
    return chosen


def _told(chosen: Params, fold: str, team: workers.Alone) -> None:
    try:
        _train(chosen, fold, team)
    except (MemoryError, RuntimeError) as error:
        if not _memory_is_short(error):
            raise
        raise InputError(
            f"out of memory with batch_size = {chosen.batch_size}: try half of it "
            f"(dvc exp run -S batch_size={max(2, chosen.batch_size // 2)})"
        ) from None


def _memory_is_short(error: Exception) -> bool:
    """Whether it is the host's, torch's, CUDA's, cuBLAS's or cuDNN's way to say that memory is used up."""
    said = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in said for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _train(chosen: Params, fold: str, team: workers.Alone) -> None:
    causes = named(chosen.model_dump(mode="json"), start.inputs(fold), CODE, _device_name(team.device, chosen))
    workers.refuse_others(team, causes)
    trainer, meta = start.trainer(chosen, fold, team)
    store: Store = Nowhere()
    found = None
    with contextlib.ExitStack() as held:
        if team.first:
            store = Store(beside_cache(Path.cwd(), fold), digest(causes))
            held.enter_context(only_one(store.folder.with_suffix(".lock")))
            found = store.newest()
        tensors, progress = team.from_first(*(found or (None, None)))
        if tensors is not None:
            trainer.restore(tensors, progress)
        if not team.first:
            trainer.fit(store)
            return
        if found:
            print(f"going on from a checkpoint at epoch {trainer.progress.epoch + 1}, step {trainer.progress.step}")
        outcome = trainer.fit(store)
        about = replace(meta, dropout=chosen.train.dropout, made_by=chosen.digest())
        _write(outcome, about, trainer.progress.history, fold)
        _write_trail(trainer, store, fold)
        store.remove()


def _write_trail(trainer: Trainer, store: Store, fold: str) -> None:
    """Write the trail's table, and its stored states into models/trail/."""
    options, end = trainer.params.train, trainer.done
    planned = trainer.params.epochs * trainer.steps
    with atomic_folder(Path(f"models/trail{fold}").absolute()) as folder:
        store.hand_over(trail.stored_at(end, planned, options.trail_steps, options.trail_checkpoints), folder)
    write_csv(f"plots{fold}/trail.csv", pd.DataFrame(trainer.progress.trail, columns=trail.COLUMNS))


def _write(outcome: torch.nn.Module, meta: network.Meta, history: list[dict[str, float]], fold: str) -> None:
    """Write the weights, and the curves as dvclive's folder with the same figures as one table, history.csv."""
    network.save(f"models{fold}/model.safetensors", outcome, meta)
    with atomic_folder(Path(f"models/curves{fold}").absolute()) as folder:
        # elsewhere, dvclive finds no repository: in one it reads the state of Git, which is no input of this stage
        with (
            tempfile.TemporaryDirectory() as elsewhere,
            contextlib.chdir(elsewhere),
            Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live,
        ):
            for row in history:
                for name in ("lr", "train_loss", "val_loss", "val_accuracy"):
                    live.log_metric(name, row[name])
                live.next_step()
        write_csv(
            folder / "history.csv",
            pd.DataFrame(history, columns=["epoch", "lr", "train_loss", "val_loss", "val_accuracy"]),
        )


def _device_name(device: torch.device, chosen: Params) -> str:
    """Return what a checkpoint may not change: the GPU, and where the CPU's own kernels are used the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return provenance.cpu() if chosen.precision == "bf16" or chosen.train.compile else "cpu"


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    if launch.is_worker():
        end_with_parent()
        work(lambda: worker(asked))
    else:
        run("train", lambda: main(asked), asked.rpartition("/")[2] or "0")
