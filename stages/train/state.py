"""A run's state as named tensors: every one that the rest of the run depends on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stages.train.optimizer import Average

State = dict[str, torch.Tensor]
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def gathered(
    network: nn.Module, average: Average | None, best: State | None, optimizer: torch.optim.Optimizer
) -> State:
    """Return the tensors on the CPU, contiguous; their names begin with `network.`, `average.`, `best.`, `adamw.`."""
    parts: State = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    if average:
        parts |= {f"average.{name}": tensor for name, tensor in average.network.state_dict().items()}
    parts |= {f"best.{name}": tensor for name, tensor in (best or {}).items()}
    for name, weight in network.named_parameters():
        parts |= {f"adamw.{name}.{key}": value for key, value in optimizer.state.get(weight, {}).items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in parts.items()}


def restore(
    state: State, network: nn.Module, average: Average | None, optimizer: torch.optim.Optimizer
) -> State | None:
    """Copy values into the tensors that are there, so that memory layouts stay; return the best weights so far."""
    network.load_state_dict(_part(state, "network."))
    if average:
        average.network.load_state_dict(_part(state, "average."))
    for name, weight in network.named_parameters():
        saved = _part(state, f"adamw.{name}.")
        if saved:
            held = optimizer.state.get(weight) or {key: torch.zeros_like(weight) for key in MOMENTS}
            moments = {key: held[key].copy_(saved[key]) for key in MOMENTS}
            optimizer.state[weight] = {"step": saved["step"].to(weight.device), **moments}
    return {
        name: tensor.to(next(network.parameters()).device) for name, tensor in _part(state, "best.").items()
    } or None


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
