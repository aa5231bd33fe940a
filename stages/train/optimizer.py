"""AdamW over groups of weights, and a running average of them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from stages.train.schema import Params


def make_optimizer(network: nn.Module, params: Params) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019): no decay on biases and norms, a smaller rate below the last layer.

    Each group carries `scale`, its factor on the learning rate, and `head`, whether it is the last layer.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        groups.setdefault((name.startswith("fc."), weight.dim() > 1), []).append(weight)
    train = params.train
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "weight_decay": train.weight_decay if decays else 0.0,
                "scale": 1.0 if head else train.backbone_lr_scale,
                "head": head,
            }
            for (head, decays), weights in groups.items()
        ],
        lr=params.lr,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float, frozen: bool) -> None:
    """Set every group's learning rate; with `frozen`, only the last layer moves."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"] if group["head"] or not frozen else 0.0
        if frozen and not group["head"]:
            for weight in group["params"]:
                weight.grad = None


class Average:
    """An exponential moving average of a network's weights and batch-norm statistics (Polyak and Juditsky 1992)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.follow(self._floats(self.network), self._floats(network))

    def follow(self, mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
        """Have `update` move these tensors of the average, towards those of the network."""
        self._mine, self._theirs = mine, theirs

    def update(self, decay: float) -> None:
        """Move the average by (1 - decay) of the way to where the network is now."""
        with torch.no_grad():
            torch._foreach_lerp_(self._mine, self._theirs, 1 - decay)

    @staticmethod
    def _floats(network: nn.Module) -> list[torch.Tensor]:
        return [tensor.detach() for tensor in network.state_dict().values() if tensor.is_floating_point()]
