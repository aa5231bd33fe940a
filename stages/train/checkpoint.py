"""Checkpoints: written whole or not at all, checked before use, and never taken by another run.

They lie beside DVC's cache, not in the study: DVC deletes a stage's outputs before it runs it, and an experiment in a
temporary workspace starts again in a new folder. Their folder is named by a fingerprint of everything that can change
the result, so a run finds its own checkpoints and no other's.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from stages.backbone.network import write_tensors
from stages.files import replacing, sha256_file
from stages.shell.errors import InputError
from stages.shell.locks import only_one

KEPT = 2  # checkpoints of one run: the one before the last too, should the last be torn
OTHERS = 2  # folders of other runs, the newest ones; older ones are removed


@dataclass
class Progress:
    """Where a run stands: the next step to take, and what was measured so far."""

    epoch: int = 0
    step: int = 0  # in the epoch
    loss_sum: float = 0.0  # over the epoch's steps so far
    history: list[dict[str, float]] = field(default_factory=list)  # one row an epoch
    best_epoch: int = -1
    scaler: dict[str, Any] = field(default_factory=dict)  # of fp16's loss scaling
    stretch_loss: float = 0.0  # over the steps since the trail's last row
    trail: list[dict[str, str]] = field(default_factory=list)  # its rows so far, see `trail`


def named(params: Any, inputs: Iterable[Path | str], code: Iterable[Path | str], device: str) -> dict[str, str]:
    """Return digests of all that a run's bits depend on, each by the name that a person knows it by."""
    versions = [platform.python_version(), torch.__version__, torch.backends.cudnn.version(), np.__version__]
    files = {
        kind: [f"{Path(each).name} {sha256_file(each)}" for each in paths]
        for kind, paths in (("data", inputs), ("code", code))
    }
    found = {"parameters": params, "data": files["data"], "code": files["code"], "versions": versions, "device": device}
    return {name: digest(value) for name, value in found.items()}


def digest(value: Any) -> str:
    """Return the digest of a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def beside_cache(start: Path, fold: str = "") -> Path:
    """Return the folder for checkpoints: inside DVC's cache folder, or `.checkpoints` in `start` where DVC is not used.

    One for each fold, whose folder is /folds/3 say: else one that ends would push out those of folds stopped with it.
    DVC gives a temporary workspace the main repository's cache by its `.dvc/config.local`, which is read here.
    """
    apart = fold.replace("/", "-")
    for folder in [start, *start.parents]:
        if (folder / ".dvc").is_dir():
            config = configparser.ConfigParser()
            config.read([folder / ".dvc" / "config", folder / ".dvc" / "config.local"])
            cache = config.get("cache", "dir", fallback="cache").strip("'\"")
            return folder / ".dvc" / cache / f"checkpoints{apart}"
    return start / f".checkpoints{apart}"


class Store:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : where the checkpoints of all runs lie
    fingerprint : the digest of this run's causes, see `named`
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.folder = folder / fingerprint[:16]

    def save(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        """Write a checkpoint, then drop all but the newest `KEPT`. Its name carries its digest, so a torn one shows."""
        about = json.dumps({"fingerprint": self.fingerprint, "progress": asdict(progress)})
        plain = self.folder / "written.safetensors"
        with replacing(plain) as part:
            write_tensors(part, tensors, about)
            digest = sha256_file(part)
        plain.replace(self.folder / f"{progress.epoch:06d}-{progress.step:08d}-{digest}.safetensors")
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def keep(self, step: int, tensors: dict[str, torch.Tensor], progress: Progress, planned: list[int]) -> None:
        """Write a stored state of the trail; it outlives checkpoints, but not one that is neither `planned` nor newer.

        What it says of the run names neither code nor device: its bytes are the same wherever the same bits come out.
        """
        with replacing(self.folder / "trail" / stored_name(step)) as part:
            write_tensors(part, tensors, json.dumps({"progress": asdict(replace(progress, trail=[]))}))
        for old in (self.folder / "trail").glob("*.safetensors"):
            if old.name not in {stored_name(each) for each in [*planned, step]}:
                old.unlink()

    def hand_over(self, steps: list[int], target: Path) -> None:
        """Give `target`, a new folder, the stored states of `steps`; the store has them too until `remove`."""
        for name in map(stored_name, steps):
            if not (self.folder / "trail" / name).is_file():
                raise InputError(f"{self.folder}/trail/{name} is gone: remove {self.folder} and run `dvc repro` again")
            try:
                (target / name).hardlink_to(self.folder / "trail" / name)
            except OSError:  # another file system
                shutil.copyfile(self.folder / "trail" / name, target / name)

    def newest(self, say: Any = print) -> tuple[dict[str, torch.Tensor], Progress] | None:
        """Return the newest sound checkpoint of this very run, or None; what is passed over is said by `say`.

        What a killed run left half-written is removed: hold the run's lock.
        """
        for half in self.folder.glob(".*.part"):
            half.unlink()
        for path in self._newest_first():
            found = self._read(path)
            if found:
                return found
            say(f"checkpoint {path.name[:15]} is torn or another run's: not used, removed")
            path.unlink()  # by its name it may be the newest, and would then push out those that this run writes
        if others := self._others():
            say(f"checkpoints of {len(others)} other runs (other parameters, data, code or device) lie there: not used")
        return None

    def last(self) -> str | None:
        """Return where the newest checkpoint stands, for people to read; None if there is none."""
        found = self._newest_first()
        if not found:
            return None
        epoch, step, _ = found[0].stem.split("-")
        return f"epoch {int(epoch) + 1}, {int(step)} steps done"

    def remove(self) -> None:
        """Drop this run's checkpoints (it has ended), those of others but the newest few, and locks left by any."""
        for path in self._others()[:-OTHERS]:
            # another run that goes on at this moment, in another workspace, holds its lock
            with contextlib.suppress(InputError), only_one(path.with_suffix(".lock"), seconds=0):
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        for lock in self.folder.parent.glob("*.lock"):  # of killed runs: to take one is to remove it
            with contextlib.suppress(InputError), only_one(lock, seconds=0):
                pass

    def _others(self) -> list[Path]:
        """Return the folders of other runs, the oldest first."""
        found = []
        for path in self.folder.parent.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another run that ends removes its own
                if path.is_dir() and path != self.folder:
                    found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*-*-*.safetensors"), reverse=True)

    def _read(self, path: Path) -> tuple[dict[str, torch.Tensor], Progress] | None:
        if sha256_file(path) != path.stem.rsplit("-", 1)[-1]:
            return None
        try:
            tensors, progress, about = _contents(path)
            return (tensors, progress) if about["fingerprint"] == self.fingerprint else None
        except (SafetensorError, KeyError, TypeError, ValueError):
            return None


class Nowhere(Store):
    """Keeps nothing."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), "")

    def save(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        """Do nothing."""

    def keep(self, step: int, tensors: dict[str, torch.Tensor], progress: Progress, planned: list[int]) -> None:
        """Do nothing."""


def stored_name(step: int) -> str:
    """Return the file name of a stored state of the trail."""
    return f"{step:08d}.safetensors"


def stored(path: Path) -> tuple[dict[str, torch.Tensor], Progress]:
    """Return a stored state of the trail, or raise InputError."""
    try:
        return _contents(path)[:2]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no stored state of this pipeline's training: {error}") from None


def _contents(path: Path) -> tuple[dict[str, torch.Tensor], Progress, dict[str, Any]]:
    with safe_open(path, framework="pt") as handle:
        about = json.loads((handle.metadata() or {})["brainmri"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    return tensors, Progress(**about["progress"]), about


def every_steps() -> int:
    """Return after how many steps within an epoch a checkpoint is also written; 0: at the end of epochs only.

    The environment's affair (BRAINMRI_CHECKPOINT_STEPS), not a parameter: it changes no bit of any output.
    """
    chosen = os.environ.get("BRAINMRI_CHECKPOINT_STEPS", "0")
    if not chosen.isdecimal():
        raise InputError(f"BRAINMRI_CHECKPOINT_STEPS is {chosen!r}: expected a whole number of steps, 0 for never")
    return int(chosen)
