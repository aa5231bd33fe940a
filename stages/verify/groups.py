"""Which pictures hang together by a chain of pairs."""

from __future__ import annotations


def group_files(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Return each file's group number, 0 on in the order of first files, joining all that a chain of pairs connects.

    Union-find (Tarjan 1975).

    Examples
    --------
    >>> group_files(5, [(0, 3), (3, 4)])
    [0, 1, 2, 0, 0]
    """
    parent = list(range(count))

    def root(file: int) -> int:
        while parent[file] != file:
            parent[file] = file = parent[parent[file]]
        return file

    for one, two in pairs:
        one, two = sorted((root(one), root(two)))
        parent[two] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(file), len(numbers)) for file in range(count)]
