"""Many tensors in one long vector, and which part of it each worker looks after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

ALIGNED = 16  # float32 values, 64 bytes: tensors begin there, as those do that torch allocates by itself


class Span(NamedTuple):
    """A range of a vector, `end` exclusive."""

    start: int
    end: int


class Layout:
    """Where each of some named float32 tensors lies in a vector, in their order; strides stay as they are."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.places: dict[str, tuple[int, torch.Size, tuple[int, ...]]] = {}
        self.length = 0
        for name, tensor in tensors.items():
            self.places[name] = (self.length, tensor.shape, tensor.stride())
            self.length += -(-tensor.numel() // ALIGNED) * ALIGNED

    def views(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return each tensor as a view of `vector`."""
        begin = vector.storage_offset()
        return {
            name: vector.as_strided(shape, strides, begin + start)
            for name, (start, shape, strides) in self.places.items()
        }

    def start(self, name: str) -> int:
        """Return where a tensor begins."""
        return self.places[name][0]

    def within(self, span: Span) -> list[str]:
        """Return the tensors that begin in a range."""
        return [name for name, (start, *_) in self.places.items() if span.start <= start < span.end]

    def parts(self, count: int) -> list[Span]:
        """Return `count` (a power of two) ranges of about equal length that cut no tensor, halves within halves."""
        found = [Span(0, self.length)]
        while len(found) < count:
            found = [half for span in found for half in self._halves(span)]
        return found

    def _halves(self, span: Span) -> tuple[Span, Span]:
        cuts = [start for start, *_ in self.places.values() if span.start <= start < span.end] + [span.end]
        middle = min(cuts, key=lambda cut: abs(2 * cut - span.start - span.end))
        return Span(span.start, middle), Span(middle, span.end)


def floats(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return weights, then running statistics, by name: a network's floating-point state."""
    weights = dict(network.named_parameters())
    return weights | {name: each for name, each in network.named_buffers() if each.is_floating_point()}


def place(network: nn.Module, views: Mapping[str, torch.Tensor]) -> None:
    """Have a network's weights and statistics lie in `views`, with the values that they have."""
    for name, view in views.items():
        group, _, last = name.rpartition(".")
        owner = network.get_submodule(group)
        held = getattr(owner, last)
        with torch.no_grad():
            view.copy_(held)
        if isinstance(held, nn.Parameter):
            held.data = view
        else:
            owner._buffers[last] = view
