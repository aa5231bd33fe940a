"""Which stretches of a trail are trained again: drawn at random among those that begin where a state is stored.

A stretch runs from one row of the trail to the next. Those behind one starting point form a chain that reaches to the
next starting point, and can be trained again in their order only.
"""

from __future__ import annotations

import random
from itertools import pairwise
from math import comb


def chains(steps: list[int], starts: list[int]) -> list[list[int]]:
    """Return, for each starting point, the steps at which its stretches end, up to the next starting point.

    Examples
    --------
    >>> chains([0, 10, 20, 30, 40, 45], [0, 20, 40])
    [[10, 20], [30, 40], [45]]
    """
    return [
        [step for step in steps if start < step <= end] for start, end in pairwise([*starts, steps[-1] if steps else 0])
    ]


def draw(lengths: list[int], count: int, seed: int) -> list[int]:
    """Return how many stretches of each chain are trained again, `count` in all or as many as there are.

    Each chain gets its first one, in random order; every further one falls to a chain that has one left, at random.
    """
    dice = random.Random(seed)
    drawn = [0] * len(lengths)
    first = [chain for chain, length in enumerate(lengths) if length]
    for chain in dice.sample(first, min(count, len(first))):
        drawn[chain] = 1
    for _ in range(count - len(first)):
        left = [chain for chain, length in enumerate(lengths) if drawn[chain] < length]
        if left:
            drawn[dice.choice(left)] += 1
    return drawn


def chance_missed(chains: int, false: int, count: int) -> float:
    """Return the chance that `count` stretches miss `false` of the chains, whose very first stretch is made up.

    Drawn without replacement: C(chains - false, count) / C(chains, count); 0 once every chain is drawn from.

    Examples
    --------
    >>> chance_missed(3, 1, 1), chance_missed(3, 1, 2), chance_missed(3, 1, 3)
    (0.6666666666666666, 0.3333333333333333, 0.0)
    """
    return comb(chains - false, count) / comb(chains, count) if count <= chains else 0.0
