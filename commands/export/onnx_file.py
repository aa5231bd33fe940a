"""ONNX: from grey slices to calibrated probabilities in one graph, held against torch before it is written."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from commands.export.about import about
from commands.extra import need
from commands.predict.model import Model
from stages.backbone.inference import normalise
from stages.files import atomic_write
from stages.shell.errors import InputError

IMAGES, MOST = 100, 1e-5  # test images that it is held against, and how far a probability may be off
OPSET = 18


class Probabilities(nn.Module):
    """What the evaluation does with an image, as one module: uint8 [N, S, S] -> float32 [N, C]."""

    def __init__(self, model: Model) -> None:
        """Copy the network: another memory layout would change it for whoever asks it next."""
        super().__init__()
        ((module, known),) = model.networks.each
        self.network = copy.deepcopy(module).to(memory_format=torch.contiguous_format).eval()
        self.meta, self.about = model.meta, known

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities."""
        x = normalise(images, self.meta.mean, self.meta.std)
        found = self.network(x)
        if self.about.mirror:
            found = (found + self.network(x.flip(3))) / 2
        return torch.softmax(found / self.about.temperature, dim=1)


def check() -> None:
    """Refuse where what writes or runs ONNX is not installed."""
    need("export onnx", "export", "onnx", "onnxscript", "onnxruntime")


def write(model: Model, out: Path) -> list[str]:
    """Write the file; how far it is from torch.

    Raises
    ------
    InputError
        Where the study's test images are not there, or a probability is further off than MOST.
    """
    images = _test_images(model)
    data = graph(model)
    off = float(np.abs(asked(data, images) - expected(model, images)).max())
    if not off <= MOST:
        raise InputError(f"export onnx: probabilities are up to {off:.1e} from torch's, at most {MOST} is allowed")
    atomic_write(out, data)
    return [
        f"{out}: images uint8 [N, {model.meta.image_size}, {model.meta.image_size}] -> probabilities float32 "
        f"[N, {len(model.classes)}]; how to cut and resize an image is in its metadata, `brainmri`",
        f"largest difference from torch over {len(images)} test images: {off:.1e}",
    ]


def graph(model: Model) -> bytes:
    """Return the model as ONNX; the same bytes for the same study."""
    import onnx

    side = model.meta.image_size
    example = torch.zeros(2, side, side, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own code
        program = torch.onnx.export(
            Probabilities(model).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.helper.set_model_props(proto, {"brainmri": json.dumps(about(model), sort_keys=True)})
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _strip(proto: Any) -> None:
    """Take away what the exporter notes of itself, and what varies: its code's lines and paths, attributes' order."""
    proto.producer_name = "brainmri"
    proto.ClearField("producer_version")
    for each in (proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.value_info):
        _without_notes(each)
    for each in (*proto.graph.input, *proto.graph.output):
        _without_notes(each)
    for node in proto.graph.node:
        node.attribute.sort(key=lambda attribute: attribute.name)


def _without_notes(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")


def asked(data: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what onnxruntime says of images, [N, S, S], on a CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"images": images})[0])


def expected(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what `brainmri predict` says of them."""
    return model.networks.probabilities(images)


def _test_images(model: Model) -> NDArray[np.uint8]:
    """Return up to IMAGES test images, evenly from all of them."""
    path = model.study / f"data/prepared{model.folds[0]}/test.npy"
    try:
        images = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(
            f"{path} not found, which ONNX is held against: `dvc repro` or `dvc pull` in the study"
        ) from None
    chosen = np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))
    return np.asarray(images[chosen])
