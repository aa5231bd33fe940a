"""Writes models/model.safetensors and models/curves/. Run as `python -m stages.train` in a study's folder."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from dvclive import Live

from stages import params, runtime
from stages.backbone import network
from stages.files import atomic_folder, write_csv
from stages.shell import provenance
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.shell.running import run
from stages.train.checkpoint import Store, beside_cache, fingerprint
from stages.train.loop import Images, Trainer
from stages.train.schema import Params

STAGES = Path(__file__).parent.parent
INPUTS = ["data/prepared/train.npy", "data/prepared/val.npy", "data/prepared/index.csv", "models/init.safetensors"]
CODE = [
    *sorted(STAGES.glob("*.py")),
    *sorted((STAGES / "backbone").glob("*.py")),
    *sorted((STAGES / "train").glob("*.py")),
]


def main() -> None:
    """Read parameters, arrays and starting weights; train, or go on from a checkpoint; write weights and curves."""
    chosen = params.load(Params)
    runtime.exact(chosen.threads, chosen.precision)
    with only_one("logs/train.lock"):
        try:
            _train(chosen)
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


def _train(chosen: Params) -> None:
    _, meta = network.load("models/init.safetensors")
    train, val = _images("train", meta.classes), _images("val", meta.classes)
    if chosen.batch_size > len(train.images):
        raise InputError(
            f"batch_size = {chosen.batch_size} is more than the {len(train.images)} training images: choose less"
        )
    model = network.build(len(meta.classes), chosen.train.dropout)
    network.fit(model, network.read_tensors("models/init.safetensors")[0], "models/init.safetensors")
    trainer = Trainer(model, train, val, chosen, meta.mean, meta.std)
    made_by = fingerprint(chosen.model_dump(mode="json"), INPUTS, CODE, _device_name(trainer.device, chosen))
    store = Store(beside_cache(Path.cwd()), made_by)
    with only_one(store.folder.with_suffix(".lock")):
        found = store.newest()
        if found:
            trainer.restore(*found)
            print(f"going on from a checkpoint at epoch {trainer.progress.epoch + 1}, step {trainer.progress.step}")
        outcome = trainer.fit(store)
        about = replace(meta, dropout=chosen.train.dropout, made_by=chosen.digest())
        _write(outcome, about, trainer.progress.history)
        store.remove()


def _images(array: str, classes: list[str]) -> Images:
    """Return an array as a memory map, and the number of each image's class."""
    index = pd.read_csv("data/prepared/index.csv", keep_default_na=False, dtype={"label": str})
    labels = index.loc[index["array"] == array, "label"].map({name: number for number, name in enumerate(classes)})
    return Images(np.load(f"data/prepared/{array}.npy", mmap_mode="r"), np.array(labels, np.int64))


def _write(outcome: torch.nn.Module, meta: network.Meta, history: list[dict[str, float]]) -> None:
    """Write the weights, and the curves as dvclive's folder with the same figures as one table, history.csv."""
    network.save("models/model.safetensors", outcome, meta)
    with atomic_folder(Path("models/curves").absolute()) as folder:
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
    run("train", main)
