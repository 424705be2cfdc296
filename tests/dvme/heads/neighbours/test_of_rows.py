from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.heads.neighbours import of_rows
from dvme.heads.neighbours.brute_force import faiss_module
from dvme.heads.neighbours.of_rows import TIED, search
from dvme.vectors import unit_rows


def test_search__is_exact_against_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    queries, bank = unit_rows(rng.normal(size=(7, 16))), unit_rows(rng.normal(size=(50, 16)))
    similarities, neighbours = search(queries, bank, 5)
    full = queries @ bank.T
    np.testing.assert_array_equal(neighbours, np.argsort(-full, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-full, axis=1)[:, :5], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 40), n_distinct=st.integers(1, 12))
def test_search__equal_similarities_come_in_bank_order(seed: int, k: int, n_distinct: int) -> None:
    rng = np.random.default_rng(seed)
    distinct = np.eye(12, dtype=np.float32)[:n_distinct]
    bank, queries = distinct[rng.integers(0, n_distinct, 40)], unit_rows(rng.integers(0, 3, size=(9, 12)))
    similarities, neighbours = search(queries, bank, k)
    full = queries @ bank.T  # a single product each: no rounding
    expected = np.argsort(-full, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(np.sort(neighbours, axis=1), np.sort(expected, axis=1))
    np.testing.assert_allclose(similarities, np.take_along_axis(full, expected, axis=1), atol=1e-7)


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 3e-4])
def test_search__embeddings_that_hardly_differ_keep_their_nearest(spread: float) -> None:
    """As of an untrained network: similarities follow each other closely, and still the far ones are no neighbours."""
    rng = np.random.default_rng(0)
    centre = np.abs(rng.normal(size=64))
    bank, queries = (unit_rows(centre + spread * rng.normal(size=(n, 64))) for n in (900, 20))
    expected = np.argsort(-(queries.astype(np.float64) @ bank.T.astype(np.float64)), axis=1)
    found = search(queries, bank, [3, 20])[1]
    for k in (3, 20):
        np.testing.assert_array_equal(np.sort(found[:, :k], axis=1), np.sort(expected[:, :k], axis=1))


def test_search__many_copies_of_one_row() -> None:
    rng = np.random.default_rng(0)
    bank = unit_rows(rng.normal(size=(500, 32)))
    copies = np.sort(rng.permutation(500)[:300])
    bank[copies] = bank[copies[0]]
    neighbours = search(bank[copies[:1]], bank, 20)[1]
    np.testing.assert_array_equal(neighbours[0], copies[:20])


@pytest.mark.parametrize("dim", [512, 2048])
@pytest.mark.parametrize("k", [1, 20, 250])
def test_search__rows_that_are_the_same_to_the_bit_come_in_bank_order(dim: int, k: int) -> None:
    """Though a matrix product rounds their similarities differently."""
    rng = np.random.default_rng(dim)
    bank = unit_rows(np.abs(rng.normal(size=(1503, dim))))
    copies = np.sort(rng.permutation(1503)[:401])
    bank[copies] = bank[copies[0]]
    queries = unit_rows(bank[copies[0]] + 0.1 * np.abs(rng.normal(size=(257, dim))) / np.sqrt(dim))
    raw = of_rows._found(queries, bank, 401, "cpu")[0]
    assert (raw[:, 0] != raw[:, -1]).any()  # else this shows nothing
    similarities, neighbours = search(queries, bank, k)
    np.testing.assert_array_equal(neighbours, np.tile(copies[:k], (257, 1)))
    assert (np.diff(similarities, axis=1) <= TIED).all()  # descending
    np.testing.assert_allclose(similarities, np.einsum("bd,bkd->bk", queries, bank[neighbours]), atol=1e-5)


def test_search__many_deep_queries_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    bank, queries = unit_rows(rng.integers(0, 2, size=(90, 4)) + 1e-3), unit_rows(rng.normal(size=(30, 4)))
    whole = search(queries, bank, 7)
    monkeypatch.setattr(of_rows, "FOUND", 100)
    widest: list[int] = []
    found = of_rows._found

    def watched(some: np.ndarray, *arguments: Any) -> Any:
        widest.append(len(some) * arguments[1])
        return found(some, *arguments)

    monkeypatch.setattr(of_rows, "_found", watched)
    np.testing.assert_array_equal(search(queries, bank, 7)[1], whole[1])
    assert max(widest[1:]) <= 100  # after the first search, of as many as are asked for


@pytest.mark.gpu
def test_search__same_neighbours_on_a_gpu() -> None:
    if not hasattr(faiss_module(), "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed")
    rng = np.random.default_rng(0)
    bank, queries = unit_rows(rng.normal(size=(3000, 64))), unit_rows(rng.normal(size=(200, 64)))
    bank[100:150] = bank[0]
    for k in (1, 20, 2900):
        ours, theirs = search(queries, bank, k), search(queries, bank, k, device="cuda")
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
        assert (ours[1] == theirs[1]).mean() > 0.99  # rounding may swap two that are all but equally near
