"""A step over shards: a batch in equal shards, each passed through the network by itself, by one worker or by several.

Batch norm sees one shard at a time (ghost batch norm, Hoffer et al. 2017). Gradients, running statistics and losses are
summed along one binary tree over the shards, whoever computes them: see `workers`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from stages.train.flat import Layout, Span, floats, place
from stages.train.optimizer import Average
from stages.train.workers import Alone

LOSS = ".loss"  # the last place in a vector; no weight is called so


class Shards:
    """What a run over shards holds: its state in vectors, of which each worker looks after a part.

    Parameters
    ----------
    network, average, optimizer : a run's, at its start; their tensors are moved into the vectors
    count : shards of a batch, a power of two
    team : the workers
    """

    def __init__(
        self, network: nn.Module, average: Average | None, optimizer: torch.optim.Optimizer, count: int, team: Alone
    ) -> None:
        self.count, self.here, self.team, self.optimizer = count, count // team.size, team, optimizer
        self.weights = dict(network.named_parameters())
        tensors = floats(network)
        last = torch.zeros(1)
        statistics = {name: each for name, each in tensors.items() if name not in self.weights} | {LOSS: last}
        self.layout = Layout(tensors | {LOSS: last})
        self.part = team.part(self.layout)
        mine = [name for name in self.layout.within(self.part) if name != LOSS]
        self.mine = [name for name in mine if name in self.weights]
        # at the end of each vector, what is not trained but the mean of which is taken
        self.tail = Span(self.layout.start(next(iter(statistics))), self.layout.length)

        self.values = team.common(self.layout.length)
        values = self.layout.views(self.values)
        place(network, {name: values[name] for name in tensors})
        self.averages = team.common(self.layout.length) if average else None
        if average and self.averages is not None:
            averaged = self.layout.views(self.averages)
            place(average.network, {name: averaged[name] for name in tensors})
            average.follow([averaged[name] for name in mine], [values[name] for name in mine])
        self.moments = [team.common(self.layout.length) for _ in range(2)]
        first, second = map(self.layout.views, self.moments)
        for name, weight in self.weights.items():
            step = torch.zeros((), device=team.device)
            optimizer.state[weight] = {"step": step, "exp_avg": first[name], "exp_avg_sq": second[name]}

        own = Layout(statistics)  # those that a pass of this worker writes, and its loss
        self.written = torch.zeros(own.length, device=team.device)
        views = own.views(self.written)
        self.loss = views.pop(LOSS)
        place(network, views)
        self.passes = [each for _, each in network.named_buffers() if not each.is_floating_point()]

        self.sums = team.own(self.layout.length)
        self.summed, self.mean_loss = self.layout.views(self.sums), values[LOSS]
        self.levels = [self.sums, *(torch.zeros_like(self.sums) for _ in range((self.here // 2).bit_length() - 1))]
        for name, weight in self.weights.items():
            weight.register_post_accumulate_grad_hook(self._taking(name))
        self.team.wait()

    @property
    def block(self) -> slice:
        """The shards of this worker, by number in the batch."""
        return slice(self.team.rank * self.here, (self.team.rank + 1) * self.here)

    def backward(self, loss: Callable[[int], torch.Tensor]) -> None:
        """Pass this worker's shards through the network; leave in .grad the mean gradient of the weights in its part.

        `loss` returns that of a shard, by its number in the worker's block. When all weights have moved, call `give`.
        """
        used = 0  # of the levels
        for number in range(self.here):
            opens = number % 2 == 0
            used += opens
            self._pass(loss(number), self.levels[used - 1], add=not opens)
            for _ in range(0 if opens else _trailing_ones(number // 2)):
                used -= 1
                self.levels[used - 1].add_(self.levels[used])
        self.team.add(self.sums, self.layout)
        start = max(self.part.start, self.tail.start)
        if start < self.part.end:
            torch.mul(self.sums[start : self.part.end], 1 / self.count, out=self.values[start : self.part.end])
        for name in self.mine:
            self.weights[name].grad = self.summed[name]

    def _pass(self, loss: torch.Tensor, into: torch.Tensor, add: bool) -> None:
        """Put a shard's gradients, statistics and loss into a vector, or add them to it."""
        self.into, self.add = self.layout.views(into), add
        (loss / self.count).backward()  # a power of two: exact, and the sum of gradients is their mean
        self.loss.copy_(loss.detach())
        tail = into[self.tail.start :]
        if add:
            tail.add_(self.written)
        else:
            tail.copy_(self.written)
        self._rewind()

    def _taking(self, name: str) -> Callable[[torch.Tensor], None]:
        """Return what takes a weight's gradient as soon as it is there, while it is in the cache."""

        def take(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            if self.add:
                self.into[name].add_(weight.grad)
            else:
                self.into[name].copy_(weight.grad)
            weight.grad = None

        return take

    def _rewind(self) -> None:
        """Have the next pass start from the statistics that all have."""
        self.written.copy_(self.values[self.tail.start :])

    def give(self) -> torch.Tensor:
        """Have all weights and statistics, of which each worker has made its part; return the mean loss, float32."""
        self.team.give(self.values, self.layout)
        self._rewind()
        for passes in self.passes:
            passes -= self.here - 1  # one a step, as without shards
        self.optimizer.zero_grad(set_to_none=True)
        return self.mean_loss[0].clone()

    def gather_average(self) -> None:
        """Have the whole average, of which each worker has made its part."""
        if self.averages is not None:
            self.team.give(self.averages, self.layout)

    def gather(self) -> None:
        """Have the whole state."""
        self.gather_average()
        for vector in self.moments:
            self.team.give(vector, self.layout)
        steps = {name: float(self.optimizer.state[self.weights[name]]["step"]) for name in self.mine}
        for each in self.team.all_of(steps):
            for name, step in each.items():
                self.optimizer.state[self.weights[name]]["step"].fill_(step)

    def restored(self) -> None:
        """After a state was copied into the network: have its statistics where all have them."""
        self.values[self.tail.start :].copy_(self.written)
        self.team.wait()


def _trailing_ones(number: int) -> int:
    """Return how many pairs of sums are complete when the leaf pair `number` is: as a binary counter carries.

    Examples
    --------
    >>> [_trailing_ones(number) for number in range(8)]
    [0, 1, 0, 2, 0, 1, 0, 3]
    """
    return (~number & (number + 1)).bit_length() - 1
