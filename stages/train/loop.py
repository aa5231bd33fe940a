"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from stages import runtime
from stages.backbone.inference import logits, normalise
from stages.shell.errors import InputError
from stages.shell.progress import progress_bar, say
from stages.train import data, order, schedule, state, trail
from stages.train.augment import augment, resample
from stages.train.checkpoint import Nowhere, Progress, Store, every_steps
from stages.train.optimizer import Average, make_optimizer, set_lr
from stages.train.schema import Params
from stages.train.shards import Shards
from stages.train.workers import Alone

LOOK = 50  # steps between looks at the loss on a GPU, where each look waits for the device


@dataclass(frozen=True)
class Images:
    """Images uint8 [N, S, S] and their labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


class Trainer:
    """One run: network, optimizer, average, and where it stands.

    `fit` runs from where `progress` stands to the end. The state after any step is a function of the parameters, the
    data and the starting weights alone, so a run restored from a checkpoint ends with the same bits. `retrain` runs a
    stretch of it for the sake of its trail. Each worker of a `team` has one, and all call the same methods: only the
    first one's store, trail and state are whole.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Images,
        val: Images,
        params: Params,
        mean: float,
        std: float,
        team: Alone | None = None,
    ) -> None:
        self.params, self.train, self.val = params, train, val
        self.mean, self.std = mean, std
        self.team = team or Alone(runtime.device(params.device))
        self.device = self.team.device
        self.network = network.to(self.device)
        # not dynamic: kernels for a size must not depend on which sizes this process, maybe a resumed one, saw before
        self.forward = torch.compile(self.network, dynamic=False) if params.train.compile else self.network
        self.optimizer = make_optimizer(self.network, params)
        self.average = Average(self.network) if params.train.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=params.precision == "fp16")
        self.best: dict[str, torch.Tensor] | None = None
        self.progress = Progress()
        self.steps = len(train.images) // params.batch_size
        self.labels = torch.from_numpy(train.labels).to(self.device)
        self.class_weights = _class_weights(train.labels).to(self.device) if params.train.class_weights else None
        self.resident = data.resident(train.images, self.device)
        count = params.train.shards
        self.shards = Shards(self.network, self.average, self.optimizer, count, self.team) if count > 1 else None

    def fit(self, store: Store) -> nn.Module:
        """Train to the end, with a checkpoint after each epoch, and return the chosen network in evaluation mode."""
        if not self.progress.trail:
            self._mark(store)
        while self.progress.epoch < self.params.epochs and not self._stalled():
            self._epoch(store, self.steps)
            store.save(self.state(), self.progress)
        self._mark(store)
        if self.best is not None:
            self._outcome().load_state_dict(self.best)
        return self._outcome().eval()

    def retrain(self, until: int) -> list[trail.Row]:
        """Run from where `progress` stands to step `until`, counted from the run's start; return the trail from here.

        Its first row is that of the state from which it runs, its last that of `until`. No checkpoint is written.
        """
        nowhere = Nowhere()
        self.progress.trail = []
        self._mark(nowhere)
        while self.done < until:
            self._epoch(nowhere, min(self.steps, until - self.progress.epoch * self.steps))
        self._mark(nowhere)
        return self.progress.trail

    @property
    def done(self) -> int:
        """Steps done since the run's start."""
        return self.progress.epoch * self.steps + self.progress.step

    def _epoch(self, store: Store, until: int) -> None:
        """Run the steps of an epoch up to `until`, exclusive; an epoch that is then at its end is validated."""
        progress, begun, every = self.progress, time.perf_counter(), every_steps()
        first = progress.step
        rows = self._rows(progress.epoch)
        labels = self.labels[torch.from_numpy(rows).to(self.device)]  # [steps, batch_size]
        losses = self._losses()
        bar = self._bar(first)
        for step, batch in enumerate(self._batches(rows[first:until]), first):
            losses += self._step(batch, labels[step], step)
            progress.step = step + 1
            within = progress.step < self.steps
            saves = within and bool(every) and progress.step % every == 0
            marks = within and self.done % self.params.train.trail_steps == 0
            looks = self.device.type == "cpu" or step % LOOK == 0 or saves or marks or progress.step == until
            if looks and not bool(torch.isfinite(losses).all()):
                raise InputError(self._diverged("loss", step, store))
            bar.update(self.params.batch_size)
            if saves or marks or progress.step == until:
                progress.loss_sum, progress.stretch_loss = losses.tolist()
            if marks:
                self._mark(store)
                losses = self._losses()
            if saves:
                store.save(self.state(), progress)
        bar.close()
        if progress.step == self.steps:
            self._validate(store)
            self._report(time.perf_counter() - begun, self.steps - first)

    def _rows(self, epoch: int) -> np.ndarray:
        """Return the numbers of an epoch's images, int64 [steps, images], of those that this worker passes."""
        rows = order.batches(len(self.train.images), self.params.batch_size, self.params.seed, epoch)
        if self.shards is None:
            return rows
        return rows.reshape(len(rows), self.shards.count, -1)[:, self.shards.block].reshape(len(rows), -1)

    def _losses(self) -> torch.Tensor:
        """Return the sums of losses so far, float64 [2]: of the epoch's steps, of those since the trail's last row."""
        sums = [self.progress.loss_sum, self.progress.stretch_loss]
        return torch.tensor(sums, dtype=torch.float64, device=self.device)

    def _bar(self, first: int) -> Any:
        return progress_bar(
            total=self.steps * self.params.batch_size,
            initial=first * self.params.batch_size,
            unit="img",
            desc=f"epoch {self.progress.epoch + 1}/{self.params.epochs}",
            mininterval=1,
            disable=None if self.team.first else True,
        )

    def _mark(self, store: Store) -> None:
        """Write the trail's row of the state as it stands, unless it is there; store the state where one is due."""
        progress, options, step = self.progress, self.params.train, self.done
        if progress.trail and progress.trail[-1]["step"] == str(step):
            return
        tensors = self.state()
        since = step - trail.before(step, options.trail_steps)
        loss = repr(progress.stretch_loss / since) if step and progress.trail else ""
        about = {"step": str(step), "epoch": str(step // self.steps), "train_loss": loss}
        progress.trail.append(about | (trail.hashes(tensors) if self.team.first else {}))
        progress.stretch_loss = 0.0
        planned = trail.spread(self.params.epochs * self.steps, options.trail_steps, options.trail_checkpoints)
        ends = not self._stalled() and trail.may_end(
            step, options.trail_steps, self.steps, self.params.epochs, options.patience, progress.best_epoch
        )
        if step in planned or (ends and step and options.trail_checkpoints):
            store.keep(step, tensors, progress, planned)

    def _batches(self, rows: np.ndarray) -> Iterator[torch.Tensor]:
        if self.resident is not None:
            return data.gathered(self.resident, rows)
        return data.batches(self.train.images, rows, self.device)

    def _step(self, batch: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:
        """Take one optimizer step; return the loss, still on the device."""
        params = self.params
        number, total = self.progress.epoch * self.steps + step, params.epochs * self.steps
        self.network.train()
        if self.shards is None:
            loss = self._loss(batch, labels, step)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
        else:
            self.shards.backward(self._of_shard(batch, labels, step))
        warmup = round(params.train.warmup_epochs * self.steps)
        rate = params.lr * schedule.lr_factor(number, total, warmup)
        set_lr(self.optimizer, rate, frozen=number < params.train.freeze_epochs * self.steps)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(schedule.ema_decay_at(number, params.train.ema_decay))
        return loss.detach() if self.shards is None else self.shards.give()

    def _loss(self, batch: torch.Tensor, labels: torch.Tensor, step: int, *shard: int) -> torch.Tensor:
        """Pass a batch, or a shard of it, through the network; its draws are its own."""
        params, epoch = self.params, self.progress.epoch
        at = (epoch * self.steps + step) / (params.epochs * self.steps)
        runtime.seed_step(params.seed, order.TORCH, epoch, step, *shard)
        draws = order.generator(params.seed, order.AUGMENT, epoch, step, *shard)
        x = augment(normalise(batch, self.mean, self.std), params.augment, draws)
        x = resample(x, schedule.size_at(at, params.train.size_schedule, x.shape[-1]))
        with runtime.autocast(self.device, params.precision):
            output = self.forward(x)
        return F.cross_entropy(output.float(), labels, self.class_weights, label_smoothing=params.train.label_smoothing)

    def _of_shard(self, batch: torch.Tensor, labels: torch.Tensor, step: int) -> Callable[[int], torch.Tensor]:
        """Return the loss of one of this worker's shards as a function of its number in the worker's block."""
        assert self.shards is not None
        first, images, theirs = self.shards.block.start, batch.chunk(self.shards.here), labels.chunk(self.shards.here)
        return lambda number: self._loss(images[number], theirs[number], step, first + number)

    def _validate(self, store: Store) -> None:
        """Score the validation images, write the epoch's row, and keep the weights if they are the best so far."""
        progress = self.progress
        if self.shards:
            self.shards.gather_average()
        # batches are passed one by one, so it does not matter which worker passes which
        batches = -(-len(self.val.images) // self.params.batch_size)
        bounds = [batches * rank // self.team.size * self.params.batch_size for rank in range(self.team.size + 1)]
        output = logits(
            self._outcome(),
            self.val.images[bounds[self.team.rank] : bounds[self.team.rank + 1]],
            mean=self.mean,
            std=self.std,
            device=self.device,
            batch_size=self.params.batch_size,
            precision=self.params.precision,
        )
        output = np.concatenate([each for each in self.team.all_of(output) if len(each)] or [output])
        loss, accuracy = score(output, self.val.labels)
        if not math.isfinite(loss):
            raise InputError(self._diverged("validation loss", self.steps - 1, store))
        progress.history.append(
            {
                "epoch": progress.epoch,
                "lr": float(self.optimizer.param_groups[-1]["lr"]),
                "train_loss": progress.loss_sum / self.steps,
                "val_loss": loss,
                "val_accuracy": accuracy,
            }
        )
        if self._better():
            progress.best_epoch = progress.epoch
            if self.params.train.select_best:
                self.best = {name: tensor.clone() for name, tensor in self._outcome().state_dict().items()}
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        if self.done % self.params.train.trail_steps == 0:
            self._mark(store)

    def _better(self) -> bool:
        """Whether the last epoch has the best validation accuracy so far, the smaller loss deciding between equals."""
        rank = [(row["val_accuracy"], -row["val_loss"]) for row in self.progress.history]
        return all(rank[-1] > earlier for earlier in rank[:-1])

    def _stalled(self) -> bool:
        """Whether validation has not improved for `patience` epochs (0: never stop early)."""
        since = self.progress.epoch - 1 - self.progress.best_epoch
        return bool(self.params.train.patience) and since >= self.params.train.patience

    def _outcome(self) -> nn.Module:
        return self.average.network if self.average else self.network

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that the rest of the run depends on, by name, on the CPU; of a team, to the first."""
        self.progress.scaler = self.scaler.state_dict()
        if self.shards:
            self.shards.gather()
        if not self.team.first:
            return {}
        return state.gathered(self.network, self.average, self.best, self.optimizer)

    def restore(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        """Go back to a checkpoint."""
        self.progress = progress
        self.best = state.restore(tensors, self.network, self.average, self.optimizer)
        if progress.scaler:
            self.scaler.load_state_dict(progress.scaler)
        if self.shards:
            self.shards.restored()

    def _diverged(self, what: str, step: int, store: Store) -> str:
        last = store.last()
        return (
            f"the {what} became NaN or infinite in epoch {self.progress.epoch + 1}, at or before step {step + 1} of "
            f"{self.steps}; the last checkpoint before it: {last or 'none yet'}; try a smaller lr "
            f"(now {self.params.lr}), more train.warmup_epochs, or precision: fp32"
        )

    def _report(self, seconds: float, steps: int) -> None:
        if not self.team.first:
            return
        row = self.progress.history[-1]
        say(
            f"epoch {self.progress.epoch}/{self.params.epochs}  train loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val accuracy {row['val_accuracy']:.4f}  "
            f"{steps * self.params.batch_size / seconds:.0f} img/s"
        )


def score(output: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return (cross-entropy in nats, accuracy in 0..1) of logits [N, C], summed in float64."""
    shifted = output.astype(np.float64) - output.max(axis=1, keepdims=True)
    likelihood = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(axis=1))
    return float(-likelihood.mean()), float((output.argmax(axis=1) == labels).mean())


def _class_weights(labels: np.ndarray) -> torch.Tensor:
    """Return float32 [C]: inversely proportional to how often a class occurs, 1 for a class of average size."""
    counts = np.bincount(labels)
    return torch.from_numpy((len(labels) / (len(counts) * counts)).astype(np.float32))
