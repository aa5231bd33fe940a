"""The workers of a run: how they add up what each has summed, and give each other what each has made of it.

Each holds a contiguous block of a batch's shards, and sums a vector along its part of one binary tree over the shards.
What is left is the top of the tree, which has a leaf for each worker: recursive halving (Thakur et al. 2005) walks it
with neighbours first, so every sum is (a + b) + (c + d), on whichever worker it is made, and its bits do not depend on
how many workers there are. Each ends with the sum of one part of the vector, its own, as in ZeRO's stage 1 (Rajbhandari
et al. 2020).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from stages import runtime
from stages.runtime import Device
from stages.shell.errors import InputError
from stages.train.flat import Layout, Span

PATIENCE = timedelta(minutes=10)  # with a machine that has gone without a word; the first's writing takes seconds
CHUNK = 1 << 16  # float32 values added at once: what is read and written then stays in a core's cache
Value = TypeVar("Value")


class Lost(Exception):
    """Another worker is gone: it, or who started it, says why."""


class Alone:
    """One worker, which holds all shards and looks after the whole vector."""

    rank, size = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes, and speaks."""
        return self.rank == 0

    def part(self, layout: Layout) -> Span:
        """Return the range of a vector that this worker looks after."""
        return layout.parts(self.size)[_reversed(self.rank, self.size)]

    def common(self, length: int) -> torch.Tensor:
        """Return a vector of zeros that `give` makes the same for all."""
        return torch.zeros(length, device=self.device)

    def own(self, length: int) -> torch.Tensor:
        """Return a vector of zeros for `add`."""
        return torch.zeros(length, device=self.device)

    def add(self, own: torch.Tensor, layout: Layout) -> None:
        """Put into this worker's part of its vector the sum of all workers' vectors, along the tree."""

    def give(self, common: torch.Tensor, layout: Layout) -> None:
        """Have the whole vector, of which each worker has set its part."""

    def wait(self) -> None:
        """Go on when all are here."""

    def all_of(self, value: Value) -> list[Value]:
        """Return every worker's value (small, picklable), by rank."""
        return [value]

    def from_first(self, tensors: dict[str, torch.Tensor] | None, value: Value) -> tuple[Any, Value]:
        """Return what the first worker has: tensors on the CPU, or None, and a value."""
        return tensors, value


class Linked(Alone):
    """A worker that exchanges by messages: over a network (gloo), or between GPUs (NCCL)."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def add(self, own: torch.Tensor, layout: Layout) -> None:
        """Put into this worker's part the sum of all vectors: halves go to the partner of each round."""
        spans, low, high = layout.parts(self.size), 0, self.size  # the parts whose sums this worker still makes
        for distance in _distances(self.size):
            middle = (low + high) // 2
            mine, theirs = ((low, middle), (middle, high))[:: -1 if self.rank & distance else 1]
            keep, send = _joined(spans, *mine), _joined(spans, *theirs)
            got = torch.empty(keep.end - keep.start, device=own.device)
            self._swap(own[send.start : send.end], got, self.rank ^ distance)
            own[keep.start : keep.end].add_(got)
            low, high = mine

    def give(self, common: torch.Tensor, layout: Layout) -> None:
        """Have the whole vector: by the same rounds, backwards."""
        spans, place = layout.parts(self.size), _reversed(self.rank, self.size)
        for distance in reversed(_distances(self.size)):
            width = self.size // (2 * distance)  # parts that this worker has so far
            low = place // width * width
            other = low ^ width
            have, want = _joined(spans, low, low + width), _joined(spans, other, other + width)
            self._swap(common[have.start : have.end], common[want.start : want.end], self.rank ^ distance)

    def wait(self) -> None:
        """Go on when all are here."""
        _whole(lambda: self.all_of(None))

    def all_of(self, value: Value) -> list[Value]:
        """Return every worker's value, by rank."""
        found: list[Any] = [None] * self.size
        _whole(lambda: distributed.all_gather_object(found, value))
        return found

    def from_first(self, tensors: dict[str, torch.Tensor] | None, value: Value) -> tuple[Any, Value]:
        """Return what the first worker has."""
        forms = {name: (each.shape, each.dtype) for name, each in (tensors or {}).items()}
        said: list[Any] = [tensors is not None, forms, value]
        _whole(lambda: distributed.broadcast_object_list(said))
        there, forms, value = said
        found = tensors or {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in forms.items()}
        for name in forms:
            _whole(lambda each=found[name]: distributed.broadcast(each, 0))  # type: ignore[misc]
        return (found if there else None), value

    def _swap(self, give: torch.Tensor, take: torch.Tensor, other: int) -> None:
        """Send a vector to another worker, and receive its own."""
        ways = ((distributed.isend, give), (distributed.irecv, take))
        swaps = [distributed.P2POp(way, tensor, other) for way, tensor in ways if len(tensor)]

        def both() -> None:
            for work in distributed.batch_isend_irecv(swaps) if swaps else ():
                work.wait()

        _whole(both)


class Neighbour(Linked):
    """A worker of one machine's, on a CPU: vectors lie in memory that all share, so none is sent anywhere."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.all_own: dict[int, list[torch.Tensor]] = {}  # by the address of this worker's

    def common(self, length: int) -> torch.Tensor:
        """Return zeros that all map: what one writes, all read."""
        return self._mapped(length)

    def own(self, length: int) -> torch.Tensor:
        """Return zeros that the others can read."""
        everyones = list(self._mapped(self.size * length).split(length))
        mine = everyones[self.rank]
        self.all_own[mine.data_ptr()] = everyones
        return mine

    def add(self, own: torch.Tensor, layout: Layout) -> None:
        """Put into this worker's part the sum of all vectors, read where they lie."""
        self._barrier()
        everyones, part = self.all_own[own.data_ptr()], self.part(layout)
        for start in range(part.start, part.end, CHUNK):
            end = min(start + CHUNK, part.end)
            total = _tree([each[start:end] for each in everyones])
            own[start:end].copy_(total)

    def give(self, common: torch.Tensor, layout: Layout) -> None:
        """Wait: who looks after a part has written it where all read it."""
        self._barrier()

    def _barrier(self) -> None:
        _whole(distributed.barrier)

    def _mapped(self, length: int) -> torch.Tensor:
        """Return zeros in memory of the first worker's that all map; the kernel frees it with the last of them."""
        handle = os.memfd_create("brainmri") if self.first else -1
        if self.first:
            os.ftruncate(handle, 4 * length)
        path = self.from_first(None, f"/proc/{os.getpid()}/fd/{handle}")[1]
        found = torch.from_file(path, shared=True, size=length, dtype=torch.float32)
        self.wait()
        if self.first:
            os.close(handle)
        return found


def joined(name: Device, shards: int) -> Alone:
    """Join the other workers, as torchrun's variables name them; refuse a number for which the tree has no place.

    Raises
    ------
    InputError
        Where they are more than shards, or no power of two, or more on this machine than it has GPUs.
    """
    size, local_rank = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if size > shards or size.bit_count() != 1:
        raise InputError(f"{size} workers for train.shards = {shards}: expected a power of two, at most {shards}")
    device = runtime.device(name)
    if cuda := device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(f"worker {local_rank + 1} on a machine of {torch.cuda.device_count()} GPUs: start fewer")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    kinds = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    _whole(lambda: distributed.init_process_group(kinds, timeout=PATIENCE))
    near = not cuda and os.environ.get("LOCAL_WORLD_SIZE") == str(size)
    return Neighbour(device) if near and hasattr(os, "memfd_create") else Linked(device)


def refuse_others(team: Alone, causes: dict[str, Any]) -> None:
    """Raise an InputError on all workers where one has other `causes` (name: digest or value) than the first."""
    first, *others = team.all_of(causes)
    for rank, other in enumerate(others, 1):
        differing = [name for name in first if other.get(name) != first[name]]
        if differing:
            raise InputError(
                f"worker {rank + 1} of {team.size} has other {' and '.join(differing)} than the first: "
                "give all machines the same commit, params.yaml, data and packages, then run again"
            )


def _whole(act: Callable[[], object]) -> None:
    """Do something together with the others; `Lost` where one is gone."""
    try:
        act()
    except RuntimeError as error:  # also torch's own kinds for a connection that is closed
        raise Lost(str(error)) from error


def _tree(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of a power of two of vectors: (a + b) + (c + d)."""
    while len(leaves) > 1:
        leaves = [one + other for one, other in zip(leaves[::2], leaves[1::2], strict=True)]
    return leaves[0]


def _distances(size: int) -> list[int]:
    """Return 1, 2, 4, ... below `size`: between the partners of each round."""
    return [1 << level for level in range(size.bit_length() - 1)]


def _reversed(rank: int, size: int) -> int:
    """Return the part that halving leaves to a worker: its rank's bits, backwards.

    Examples
    --------
    >>> [_reversed(rank, 8) for rank in range(8)]
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = size.bit_length() - 1
    return sum(1 << (bits - 1 - bit) for bit in range(bits) if rank >> bit & 1)


def _joined(spans: list[Span], low: int, high: int) -> Span:
    return Span(spans[low].start, spans[high - 1].end)
