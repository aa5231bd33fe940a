"""The starting weights: seeded random ones, torchvision's ImageNet ones, or a file of your own."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.models import ResNet50_Weights

from stages import runtime
from stages.backbone import network
from stages.backbone.schema import Backbone
from stages.files import sha256_file
from stages.shell.errors import InputError

IMAGENET = ResNet50_Weights.IMAGENET1K_V2
# torchvision names its file after the first 8 digits only; these are all 64
IMAGENET_SHA256 = "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca"


def starting_weights(classes: int, seed: int, backbone: Backbone) -> nn.Module:
    """Return ResNet-50 with the starting weights that `backbone` asks for; its last layer is always seeded and new.

    Raises
    ------
    InputError
        Where the download fails, a digest differs, or the file's tensors are not those of ResNet-50.
    """
    runtime.seed_step(seed, 0)
    model = network.build(classes)
    if backbone.weights != "random":
        state = _imagenet(backbone.sha256) if backbone.weights == "imagenet" else _own(backbone)
        adopt(model, state, backbone.weights)
    return model


def adopt(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load `state` (torchvision's names) into `model`, its stem folded to grey and its own last layer kept."""
    # counters of batches seen: many conversions leave them out, and nothing here reads them
    counters = {name: tensor for name, tensor in model.state_dict().items() if name.endswith("num_batches_tracked")}
    state = counters | {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    stem = state.get("conv1.weight")
    if stem is not None and stem.dim() == 4 and stem.shape[1] == 3:
        state["conv1.weight"] = network.fold(stem)
    head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("fc.")}
    network.fit(model, {**state, **head}, source)


def _own(backbone: Backbone) -> dict[str, torch.Tensor]:
    path = Path(backbone.weights)
    if backbone.sha256 is None:
        raise InputError(
            f"backbone.sha256 = None: pin the digest of {path}, so that a changed file is noticed (sha256sum {path})"
        )
    if not path.is_file():
        raise InputError(
            f"backbone.weights = {str(path)!r}: no such file; expected 'random', 'imagenet' or a .safetensors file"
        )
    _check(path, backbone.sha256)
    return network.read_tensors(path)[0]


def _imagenet(sha256: str | None) -> dict[str, torch.Tensor]:
    """Return torchvision's ImageNet weights, downloaded once (BRAINMRI_IMAGENET: another URL, such as a mirror's)."""
    sha256 = sha256 or IMAGENET_SHA256
    place = os.environ.get("BRAINMRI_IMAGENET", IMAGENET.url)
    if place.startswith(("http://", "https://")):
        path = _download(place, sha256)
    else:
        path = Path(place.removeprefix("file://"))
        if not path.is_absolute() or not path.is_file():
            raise InputError(f"BRAINMRI_IMAGENET is {place!r}: expected an absolute path of a file, or an http(s) URL")
        _check(path, sha256)
    try:
        # a pickle, read without running any code in it; nothing here ever writes one
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, IndexError, pickle.UnpicklingError):
        state = None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise InputError(f"{place}: not a file of torchvision's weights, though its sha256 is the one asked for")
    return state


def _download(url: str, sha256: str) -> Path:
    import pooch

    cache = Path(os.environ.get("BRAINMRI_CACHE") or pooch.os_cache("brainmri"))
    if not cache.is_absolute():
        raise InputError(f"BRAINMRI_CACHE is {str(cache)!r}: expected an absolute path, as experiments run elsewhere")
    name = f"{sha256[:16]}-{IMAGENET.url.rsplit('/', 1)[-1]}"
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=cache, progressbar=sys.stderr.isatty()))
    except ValueError:
        raise InputError(f"{url}: the file's sha256 is not {sha256}, which was asked for; it was discarded") from None
    except Exception as error:  # pooch lets each transport's own errors through
        raise InputError(
            f"{url}: download failed ({' '.join(str(error).split())}); get it by hand and set BRAINMRI_IMAGENET to "
            "its absolute path, or set backbone.weights to random"
        ) from None


def _check(path: Path, sha256: str) -> None:
    found = sha256_file(path)
    if found != sha256:
        raise InputError(f"{path}: sha256 is {found}, expected backbone.sha256 = {sha256}")
