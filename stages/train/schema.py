"""The parameters that the train stage reads."""

import hashlib
import json
from typing import Annotated

from pydantic import Field, model_validator

from stages.params import Group, Isa
from stages.runtime import Device, Precision

COMPILED_SIZES = 7  # and the full one: beyond 8, torch.compile no longer compiles
Fraction = Annotated[float, Field(ge=0, le=1)]


class Train(Group):
    """The recipe, less the five keys that stand at the top of params.yaml."""

    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    class_weights: bool
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    select_best: bool
    patience: Annotated[int, Field(ge=0)]
    freeze_epochs: Annotated[float, Field(ge=0)]
    backbone_lr_scale: Annotated[float, Field(gt=0, le=1)]
    size_schedule: list[tuple[Fraction, Annotated[int, Field(ge=16, le=1024)]]]
    compile: bool
    shards: Annotated[int, Field(ge=1, le=1024)]
    trail_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    trail_checkpoints: Annotated[int, Field(ge=0, le=1_000)]

    @model_validator(mode="after")
    def _compiled_sizes_are_few(self) -> "Train":
        sizes = len({size for _, size in self.size_schedule})
        if self.compile and sizes > COMPILED_SIZES:
            raise ValueError(f"size_schedule has {sizes} sizes: with compile = true at most {COMPILED_SIZES}")
        return self


class Augment(Group):
    """How far each training image is changed, anew in every epoch; 0 switches a change off."""

    mirror: bool
    rotate: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, le=0.9)]
    translate: Fraction
    brightness: Fraction
    contrast: Fraction
    noise: Fraction


class Params(Group):
    """Keys of params.yaml that train reads."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    lr: Annotated[float, Field(gt=0, le=10)]
    epochs: Annotated[int, Field(ge=0, le=10_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    threads: Annotated[int, Field(ge=1, le=256)]
    device: Device
    precision: Precision
    isa: Isa
    train: Train
    augment: Augment

    @model_validator(mode="after")
    def _precision_has_a_device(self) -> "Params":
        if self.device == "cpu" and self.precision in ("tf32", "fp16"):
            raise ValueError(f"precision = {self.precision!r} needs device = 'cuda'; on a CPU use fp32 or bf16")
        return self

    @model_validator(mode="after")
    def _shards_divide_a_batch(self) -> "Params":
        shards, size = self.train.shards, self.batch_size
        if shards & (shards - 1):
            raise ValueError(f"train.shards = {shards}: expected a power of two")
        if size % shards or size < 2 * shards:
            raise ValueError(
                f"train.shards = {shards} of batch_size = {size}: expected equal shards of at least 2 images"
            )
        if shards > 1 and self.precision == "fp16":
            raise ValueError(f"train.shards = {shards} with precision = 'fp16': use bf16, which needs no loss scaling")
        return self

    def digest(self) -> str:
        """As of any group, less what only says how the run is written down: weights of equal bits have one digest.

        So one shard, which is none, says nothing either, nor does the instruction set that everybody has.
        """
        values = self.model_dump(mode="json", exclude={"train": {"trail_steps", "trail_checkpoints"}})
        if self.train.shards == 1:
            del values["train"]["shards"]
        if self.isa == "avx2":
            del values["isa"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
