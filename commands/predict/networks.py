"""The networks of a study, asked as one: what they say of an image is the mean of what each says.

One network where the study trains one, of a cross-validation that of each fold: their mean is the usual way to answer
for a new image (nnU-Net, Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from commands.predict.predictor import Predictor
from stages.backbone import network
from stages.backbone.inference import logits
from stages.evaluate.calibration import probabilities
from stages.files import sha256_file
from stages.report.gradcam import gradcam
from stages.shell.errors import InputError


class Networks:
    """Networks of the same classes and image size, each with its temperature."""

    def __init__(self, study: Path, about: dict[str, Predictor], device: torch.device) -> None:
        """Load them; `about` is what `predictor.read` gives. InputError where files do not belong together."""
        self.device, self.each = device, []
        metas = []
        for fold, known in about.items():
            module, meta = _load(study / f"models{fold}/model.safetensors", known)
            self.each.append((module.to(device), known))
            metas.append(meta)
        self.meta = metas[0]
        shared = [(meta.classes, meta.image_size, meta.mean, meta.std) for meta in metas]
        if any(each != shared[0] for each in shared):
            raise InputError(f"{study}/models: the folds' networks are not of one study: run `dvc repro`")

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the mean of the networks' calibrated probabilities, float64 [N, C], of uint8 images [N, S, S]."""
        return np.mean([self._of_one(*one, images) for one in self.each], axis=0)

    def _of_one(self, module: nn.Module, about: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = logits(
            module,
            images,
            mean=self.meta.mean,
            std=self.meta.std,
            batch_size=about.batch_size,
            device=self.device,
            mirror=about.mirror,
        )
        return probabilities(found, about.temperature)

    def heat(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return how much each place of images [N, S, S] speaks for one class each: the mean of the networks' maps."""
        maps = [gradcam(module, images, classes, mean=self.meta.mean, std=self.meta.std) for module, _ in self.each]
        return np.mean(maps, axis=0, dtype=np.float32)


def _load(weights: Path, about: Predictor) -> tuple[nn.Module, network.Meta]:
    loaded = network.load(weights)
    if sha256_file(weights) != about.weights_sha256:
        raise InputError(f"{weights} is not the file that models/predictor.json was made for: run `dvc repro`")
    return loaded
