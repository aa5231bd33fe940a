"""Descriptors and their search: exact, the same from either side, and the index finds what exact search finds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from copying import phantom

from stages import runtime
from stages.verify.describe import CELLS, UNIT, describe
from stages.verify.index import build, search
from stages.verify.search import best_products, best_turns, close, nearest_k, parts
from stages.verify.turns import INVERSE, TURNS, turned


@pytest.fixture(scope="module")
def squares():
    found = [describe(phantom(3, number)) for number in range(24)]
    flat = np.concatenate([each.descriptors for each in found])
    return flat[flat.any(axis=1)]


def test_products_are_those_of_all_eight_turns(squares):
    plain = [turned(squares, turn, CELLS).astype(np.int64) @ squares.astype(np.int64).T for turn in range(8)]
    assert np.array_equal(best_products(parts(squares), parts(squares)), 4 * np.max(plain, axis=0))


def test_products_stay_exact_in_single_precision():
    widest = np.full((1, CELLS * CELLS), 127, np.int8)
    assert best_products(parts(widest), parts(widest))[0, 0] == 4 * 127 * 127 * CELLS * CELLS


def test_descriptors_have_one_length(squares):
    lengths = np.sqrt((squares.astype(np.int64) ** 2).sum(axis=1))
    assert np.abs(lengths / UNIT - 1).max() < 0.02


def test_each_turn_is_undone_by_its_inverse():
    square = np.arange(9).reshape(3, 3)
    for turn, back in enumerate(INVERSE):
        assert np.array_equal(TURNS[back](TURNS[turn](square)), square)


def test_the_turn_of_a_pair_is_found(squares):
    for turn in range(8):
        assert (best_turns(squares, turned(squares, turn, CELLS)) == turn).all()


def test_k_nearest_do_not_depend_on_the_order_of_pairs():
    generator = np.random.default_rng(0)
    rows, others = np.divmod(generator.permutation(400), 20)
    products = generator.integers(0, 5, 400)  # many equals
    shuffled = generator.permutation(400)
    one = {(rows[i], others[i]) for i in np.nonzero(nearest_k(rows, others, products, 3))[0]}
    mark = nearest_k(rows[shuffled], others[shuffled], products[shuffled], 3)
    assert one == {(rows[i], others[i]) for i in shuffled[mark]}
    assert len(one) == 60


@pytest.fixture
def found(tmp_path):
    """Return what asks an index of some descriptors for the nearest of each of them, in this process."""

    def pairs(squares, k, floor):
        np.save(tmp_path / "queries.npy", squares)
        build(squares, tmp_path / f"{len(squares)}-{k}.index")
        with ThreadPoolExecutor(1) as here:
            asked = list(search(tmp_path / "queries.npy", tmp_path / f"{len(squares)}-{k}.index", k, floor, here))
        return {pair for one, two, _ in asked for pair in zip(one.tolist(), two.tolist(), strict=True)}

    return pairs


@pytest.mark.parametrize("n", [0, 1, 2, 6, 14])
def test_index_of_fewer_descriptors_than_it_has_clusters_finds_each(squares, found, n):
    pairs = found(squares[:n], 3, 0.9)
    assert {(k, k) for k in range(n)} <= pairs


def test_kernels_of_the_index_do_not_depend_on_the_machine(squares, found):
    import faiss

    found(squares, 3, 0.99)
    assert faiss.SIMDConfig.get_level() == faiss.SIMDLevel_AVX2


def test_index_finds_what_exact_search_finds(squares, found):
    # Many jittered and turned versions, so that the index has clusters to miss.
    generator = np.random.default_rng(1)
    many = np.concatenate([turned(squares, turn, CELLS) for turn in range(8)] * 8).astype(np.int16)
    many = np.clip(many + generator.integers(-9, 10, many.shape), -127, 127).astype(np.int8)
    left, right, product = close(parts(many), parts(many), 0.9)
    best = nearest_k(left, right, product, 5)
    exact = set(zip(left[best].tolist(), right[best].tolist(), strict=True))
    near = found(many, 40, 0.9)
    assert len(exact - near) <= 0.001 * len(exact)


def test_processes_forked_from_one_that_searched_search_themselves(squares, found, tmp_path):
    here = found(squares[:14], 3, 0.9)
    with runtime.pool(1, "fork") as forked:
        for name in ("14-3.index", "other.index"):
            build(squares[:14], tmp_path / name)
            asked = list(search(tmp_path / "queries.npy", tmp_path / name, 3, 0.9, forked))
            assert {pair for one, two, _ in asked for pair in zip(one.tolist(), two.tolist(), strict=True)} == here
