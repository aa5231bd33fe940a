"""Which files show the same picture: candidates by descriptor, verdicts by aligned views, in parallel.

Works on *pictures*: files with equal pixels are one picture, so nothing is compared twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.runtime import ordered
from stages.verify.confirm import framed_similarities, framed_starts, similarities
from stages.verify.describe import CELLS, VIEWS
from stages.verify.frames import FRAMES, SIDE, view_of, views_in
from stages.verify.groups import group_files
from stages.verify.index import build, search
from stages.verify.overlap import (
    Settled,
    best_starts,
    nearest_frames,
    nearest_open,
    of_those_left_out,
    sides,
    stand_ins,
)
from stages.verify.scan import AHEAD
from stages.verify.schema import Twins
from stages.verify.search import best_turns, close, nearest_k, parts
from stages.verify.turns import INVERSE, TURNS

TILE = 512  # descriptors by which as many others are compared at a time: what fits the cache
STRETCH = 256  # pictures of which is asked at a time whether they are parts of others
Ints = NDArray[np.int64]


class Pictures(NamedTuple):
    """Where the pictures' arrays lie (workers map them)."""

    descriptors: Path  # .npy, int8 [N, VIEWS, CELLS * CELLS]
    frames: Path  # .npy, int8 [N, FRAMES, CELLS * CELLS]
    views: Path  # raw int8 [files, VIEWS, SIDE, SIDE]
    rows: Path  # .npy, int64 [N]: a picture's place in `views`
    inside: Path  # .npy, bool [splits, N]: whether a picture has a file in each split
    total: int  # N


class Pairs(NamedTuple):
    """Pairs of pictures that were looked at closely; every field is [P]."""

    left: Ints
    right: Ints  # more than left
    turn: Ints  # what must be done to `left` to see `right`
    similarity: NDArray[np.float64]  # correlation of the aligned views, 4 decimals
    same: NDArray[np.bool_]  # the verdict: one picture
    near: NDArray[np.bool_]  # or two of one head, about a slice apart


Judge = Callable[[Ints], Sequence[NDArray[np.generic]]]


def audit(pictures: Pictures, twins: Twins, pool: Executor) -> Pairs:
    """Return all pairs of pictures worth a closer look, with verdicts, sorted by (left, right)."""
    judge = partial(_judged, pictures=pictures, twins=twins)
    plain = _verdicts(candidates(pictures, twins, pool), judge, twins, pool)
    settled, place = _settled(pictures, plain), _stand_ins(pictures, plain)
    near = framed_candidates(pictures, settled, place, twins, pool)
    found = _joined(plain, _framed_verdicts(near, pictures, twins, pool))
    rest = of_those_left_out(found.left[found.same], found.right[found.same], place, settled)
    return _joined(found, _framed_verdicts(rest, pictures, twins, pool))


def _framed_verdicts(near: Ints, pictures: Pictures, twins: Twins, pool: Executor) -> Pairs:
    found = _verdicts(near, partial(_judged_framed, pictures=pictures, twins=twins), twins, pool)
    # Two heads, turned and cropped until they fit, agree more than they otherwise would: no sign of one patient.
    return found._replace(near=np.zeros_like(found.near))


def _stand_ins(pictures: Pictures, plain: Pairs) -> Ints:
    heads = np.asarray(_opened(pictures)[0][:, 0])
    return stand_ins(heads, plain.left[plain.same], plain.right[plain.same], _inside(pictures))


def _verdicts(near: Ints, judge: Judge, twins: Twins, pool: Executor) -> Pairs:
    """Judge candidates, in the order given."""
    chunks = [near[start : start + 512] for start in range(0, len(near), 512)]
    found = list(ordered(pool, judge, chunks, AHEAD))
    if not found:
        return Pairs._make(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, float, bool, bool))
    left, right, turn, similarity, same = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Pairs(left, right, turn, similarity, same, ~same & (similarity >= twins.neighbour))


def _joined(plain: Pairs, framed: Pairs) -> Pairs:
    """Return all pairs, sorted; of a pair that was looked at twice the better verdict."""
    both = Pairs._make(np.concatenate(fields) for fields in zip(plain, framed, strict=True))
    order = np.lexsort((-both.similarity, ~both.near, ~both.same, both.right, both.left))
    left, right = both.left[order], both.right[order]
    first = np.ones(len(order), bool)
    first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return Pairs._make(field[order][first] for field in both)


def candidates(pictures: Pictures, twins: Twins, pool: Executor) -> Ints:
    """Return the entries of pairs to be looked at, int64 [P, 2], sorted: each picture's nearest in each split.

    An entry is a picture's number times VIEWS, plus the view. Few entries are all compared with all; many are searched
    by an index of clusters.
    """
    entries = _entries(pictures)
    if len(entries) <= twins.exact_up_to:
        starts = range(0, len(entries), TILE)
        tiles = [(one, two) for one in starts for two in starts if one <= two]
        parts_found: Iterator[Ints] = ordered(pool, partial(_near_tile, pictures=pictures, twins=twins), tiles, AHEAD)
    else:
        parts_found = _near_indexed(pictures, twins, pool)
    found = np.concatenate([np.zeros((0, 3), np.int64), *parts_found])
    best = found[np.lexsort((found[:, 1], found[:, 0], -found[:, 2]))]
    _, first = np.unique(best[:, 0] // VIEWS * pictures.total + best[:, 1] // VIEWS, return_index=True)
    return _nearest(best[first], pictures, twins.neighbours)[:, :2]


def _near_indexed(pictures: Pictures, twins: Twins, pool: Executor) -> Iterator[Ints]:
    """Yield (entry, entry, product), the smaller picture first, of what an index finds in each split."""
    entries = _entries(pictures)
    flat = np.asarray(_opened(pictures)[0]).reshape(-1, CELLS * CELLS)[entries]
    number = entries // VIEWS
    queries = pictures.descriptors.with_name("entries.npy")
    np.save(queries, flat)
    for split, inside in enumerate(_inside(pictures)):
        stored = entries[inside[number]]
        at_split = pictures.descriptors.with_name(f"entries-{split}.index")
        build(flat[inside[number]], at_split)
        for query, at, product in search(queries, at_split, 3 * twins.neighbours, twins.candidate, pool):
            pair = np.sort(np.stack([entries[query], stored[at]], axis=1), axis=1)
            apart = pair[:, 0] // VIEWS < pair[:, 1] // VIEWS
            yield np.concatenate([pair, product[:, None]], axis=1)[apart]


def _nearest(found: Ints, pictures: Pictures, k: int) -> Ints:
    """Keep, of int64 [P, 3] (entry, entry, product), those that are among the k nearest of either, in each split."""
    one, two = found[:, 0] // VIEWS, found[:, 1] // VIEWS
    keep = np.zeros(len(found), bool)
    for row, other in ((one, two), (two, one)):
        for inside in _inside(pictures):
            at = np.nonzero(inside[other])[0]
            keep[at[nearest_k(row[at], other[at], found[at, 2], k)]] = True
    return found[keep]


@lru_cache(maxsize=1)
def _opened(pictures: Pictures) -> tuple[NDArray[np.int8], NDArray[np.int8], Ints]:
    """Map the arrays once in each worker."""
    descriptors = np.load(pictures.descriptors, mmap_mode="r")
    views = np.memmap(pictures.views, np.int8, "r").reshape(-1, VIEWS, SIDE, SIDE)
    return descriptors, views, np.load(pictures.rows)


@lru_cache(maxsize=1)
def _inside(pictures: Pictures) -> NDArray[np.bool_]:
    return np.asarray(np.load(pictures.inside))


@lru_cache(maxsize=1)
def _entries(pictures: Pictures) -> Ints:
    """Return the entries that are not empty."""
    return np.nonzero(np.asarray(_opened(pictures)[0]).reshape(-1, CELLS * CELLS).any(axis=1))[0]


@lru_cache(maxsize=1)
def _parts(pictures: Pictures) -> NDArray[np.float32]:
    return parts(np.asarray(_opened(pictures)[0]).reshape(-1, CELLS * CELLS)[_entries(pictures)])


def _near_tile(tile: tuple[int, int], pictures: Pictures, twins: Twins) -> Ints:
    """Return (entry, entry, product), the smaller picture first, of one tile of the table of all pairs."""
    entries, found = _entries(pictures), _parts(pictures)
    one, two = (slice(start, start + TILE) for start in tile)
    left, right, product = close(found[:, one], found[:, two], twins.candidate)
    left, right = entries[one][left], entries[two][right]
    later = left // VIEWS < right // VIEWS
    return _nearest(np.stack([left[later], right[later], product[later]], axis=1), pictures, 3 * twins.neighbours)


def framed_candidates(pictures: Pictures, settled: Settled, place: Ints, twins: Twins, pool: Executor) -> Ints:
    """Return pairs of which the second picture may be a part of the first or turned a little, int64 [P, 2], sorted.

    `place` says which picture is looked at in place of each, int64 [N].
    """
    shown = np.unique(place)
    if len(_entries(pictures)) <= twins.exact_up_to:
        work = partial(_near_frames, pictures=pictures, twins=twins, settled=settled, shown=shown.tobytes())
        found: Iterator[Ints] = ordered(pool, work, range(0, len(shown), STRETCH), AHEAD)
    else:
        found = _near_frames_indexed(pictures, shown, twins, settled, pool)
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)


def _settled(pictures: Pictures, plain: Pairs) -> Settled:
    left, right = plain.left[plain.same], plain.right[plain.same]
    inside = _inside(pictures)
    direct = np.where(inside.sum(axis=0) > 1, inside, False)  # of files in several
    for has, present in zip(direct, inside, strict=True):
        for one, two in ((left, right), (right, left)):
            has[one[present[two]]] = True
    groups = group_files(pictures.total, list(zip(left.tolist(), right.tolist(), strict=True)))
    return Settled(np.array(groups, np.int64), direct, inside)


def _near_frames(start: int, pictures: Pictures, twins: Twins, settled: Settled, shown: bytes) -> Ints:
    """Return the framed pictures nearest to some of the plain ones, all of those `shown`."""
    numbers = np.frombuffer(shown, np.int64)
    asked = numbers[start : start + STRETCH]
    views = _opened(pictures)[0][asked]
    there = np.asarray(views.any(axis=2))
    there[:, 0] = True
    first = np.concatenate([[0], np.cumsum(there.sum(axis=1))[:-1]])
    return nearest_frames(
        _framed_sides(pictures, shown),
        numbers,
        sides(views[there]),
        asked,
        first,
        settled,
        twins.framed_neighbours,
        twins.framed,
    )


def _near_frames_indexed(
    pictures: Pictures, shown: Ints, twins: Twins, settled: Settled, pool: Executor
) -> Iterator[Ints]:
    """Yield the same of what an index of the plain views finds, asked for every frame, upright and mirrored."""
    views = np.asarray(_opened(pictures)[0])[shown]
    number, view = np.nonzero(views.any(axis=2))
    index, queries = (pictures.descriptors.with_name(name) for name in ("views.index", "shown.npy"))
    build(views[number, view], index)
    np.save(queries, np.load(pictures.frames, mmap_mode="r")[shown])
    near = [
        np.stack([shown[query // len(FRAMES)], shown[number[at]], product], axis=1)
        for query, at, product in search(queries, index, 2 * twins.framed_neighbours, twins.framed, pool, 2)
    ]
    one, two, product = np.concatenate([np.zeros((0, 3), np.int64), *near]).T
    for present in settled.inside:
        inside = present[one]
        yield nearest_open(one[inside], two[inside], product[inside], settled, twins.framed_neighbours)


@lru_cache(maxsize=1)
def _framed_sides(pictures: Pictures, shown: bytes) -> NDArray[np.float32]:
    frames = np.load(pictures.frames, mmap_mode="r")[np.frombuffer(shown, np.int64)]
    return sides(frames.reshape(-1, CELLS * CELLS))


def _judged_framed(pairs: Ints, pictures: Pictures, twins: Twins) -> Sequence[NDArray[np.generic]]:
    """Return left, right, turn and agreement of pairs of pictures, the framed one first."""
    descriptors, views, rows = _opened(pictures)
    frames = np.load(pictures.frames, mmap_mode="r")
    pair, frame, view, turn = best_starts(frames[pairs[:, 0]], descriptors[pairs[:, 1]])
    one, two = pairs[pair].T
    coarse = _upright(
        frames[one, frame].reshape(-1, CELLS, CELLS), descriptors[two, view].reshape(-1, CELLS, CELLS), turn
    )
    start, fit = framed_starts(*coarse, pair, turn)
    one, two, frame, view, turn = (each[start] for each in (one, two, frame, view, turn))
    shown = view_of(frame, views_in(descriptors[one]))
    fixed, moving = _upright(views[rows[one], shown], views[rows[two], view], turn)
    return np.minimum(one, two), np.maximum(one, two), turn, *framed_similarities(fixed, moving, fit, frame, twins)


def _judged(pairs: Ints, pictures: Pictures, twins: Twins) -> Sequence[NDArray[np.generic]]:
    """Return left, right, turn and agreement of pairs of entries."""
    descriptors, views, rows = _opened(pictures)
    (left, seen_left), (right, seen_right) = np.divmod(pairs[:, 0], VIEWS), np.divmod(pairs[:, 1], VIEWS)
    one, two = descriptors[left, seen_left], descriptors[right, seen_right]
    turn = best_turns(one, two)
    fine = _upright(views[rows[left], seen_left], views[rows[right], seen_right], turn)
    coarse = _upright(one.reshape(-1, CELLS, CELLS), two.reshape(-1, CELLS, CELLS), turn)
    return left, right, turn, *similarities(*fine, *coarse, twins)


def _upright(left: NDArray[np.int8], right: NDArray[np.int8], turn: Ints) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return both, [P, side, side], with `right` turned back to how `left` is."""
    back = np.empty_like(right)
    for each in np.unique(turn):
        back[turn == each] = TURNS[INVERSE[each]](right[turn == each])
    return left, back
