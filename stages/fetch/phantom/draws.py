"""Random numbers that are a function of their key alone.

Only NumPy's raw 64-bit streams are used: those of its bit generators and of SeedSequence are promised never to change
(NEP 19), which the methods of Generator are not. What is made of them here is exactly rounded on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Item = TypeVar("Item")

EVERY_OTHER_BYTE = np.uint64(0x00FF00FF00FF00FF)
FOUR_BYTES_STD = 147.8005  # of the sum of four bytes: sqrt(4 * (256**2 - 1) / 12)


class Draws:
    """A stream of draws.

    Examples
    --------
    >>> Draws(0, 1).uniform(2, 3) == Draws(0, 1).uniform(2, 3)
    True
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.uniform(0, 1) < probability

    def sign(self) -> float:
        """Return -1.0 or 1.0."""
        return -1.0 if self.chance(0.5) else 1.0

    def integer(self, low: int, high: int) -> int:
        """Return an int from low to high, both included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def choice(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.integer(0, len(items) - 1)]

    def shuffled(self, count: int) -> list[int]:
        """Return 0 .. count - 1 in random order."""
        keys = self._bits.random_raw(count)
        return [int(place) for place in np.argsort(keys, kind="stable")]

    def lattice(self, rows: int, columns: int) -> Floats:
        """Return float32 [rows, columns], uniform in [-1, 1)."""
        raw = (self._bits.random_raw(rows * columns) >> np.uint64(40)).astype(np.float32)
        return (raw * np.float32(2.0**-23) - np.float32(1)).reshape(rows, columns)

    def gaussian_pair(self, rows: int, columns: int) -> tuple[Floats, Floats]:
        """Return two float32 [rows, columns], close to standard normal: each number is a sum of four random bytes."""
        raw = self._bits.random_raw(rows * columns)
        pairs = (raw & EVERY_OTHER_BYTE) + ((raw >> np.uint64(8)) & EVERY_OTHER_BYTE)
        lanes = pairs.view(np.uint16).reshape(rows, columns, 4)
        first, second = lanes[..., 0] + lanes[..., 1], lanes[..., 2] + lanes[..., 3]
        return _standard(first), _standard(second)


class Between(Draws):
    """Draws that are those of one key in all that is counted or chosen, and in measures moved towards another key's.

    Pictures of equal first keys then differ as slices of one head do: the same parts, of somewhat other size and form.
    """

    def __init__(self, key: tuple[int, ...], own: tuple[int, ...], share: float) -> None:
        super().__init__(*key)
        self._own, self._share = Draws(*own), share

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high), `share` of the way from the first key's to the second's."""
        first, own = super().uniform(0, 1), self._own.uniform(0, 1)
        return low + (high - low) * (first + self._share * (own - first))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability: the first key's."""
        return super().uniform(0, 1) < probability

    def lattice(self, rows: int, columns: int) -> Floats:
        """Return float32 [rows, columns] in [-1, 1), `share` of the way from the first key's to the second's."""
        first = super().lattice(rows, columns)
        return first + np.float32(self._share) * (self._own.lattice(rows, columns) - first)

    def gaussian_pair(self, rows: int, columns: int) -> tuple[Floats, Floats]:
        """Return noise of the second key alone: no two pictures have the same."""
        return self._own.gaussian_pair(rows, columns)


def _standard(sums: NDArray[np.uint16]) -> Floats:
    return (sums.astype(np.float32) - np.float32(510)) * np.float32(1 / FOUR_BYTES_STD)
