from __future__ import annotations

import tempfile
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.neighbours import inverted_lists
from dvme.heads.neighbours.inverted_lists import InvertedLists
from dvme.heads.neighbours.of_rows import search
from dvme.vectors import unit_rows


def _listed(rows: NDArray[Any], *, n_lists: int | None = None, seed: int = 0) -> InvertedLists:
    return InvertedLists.of(rows, np.arange(len(rows)), seed=seed, n_lists=n_lists)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 60), n_lists=st.integers(1, 80), n_distinct=st.integers(1, 60))
def test_lists__all_of_them_probed_are_the_exact_search(seed: int, k: int, n_lists: int, n_distinct: int) -> None:
    """With copies, lists shorter than k, and more lists than distinct rows."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_distinct, 8)).astype(np.float32)[rng.integers(0, n_distinct, 60)]
    queries = unit_rows(rng.normal(size=(7, 8)))
    similarities, found = search(queries, _listed(rows, n_lists=n_lists, seed=seed), k)
    expected = search(queries, unit_rows(rows), k)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(expected[1], axis=1))
    np.testing.assert_allclose(similarities, expected[0], atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_lists__hold_each_row_once_as_it_was_given(kind: type) -> None:
    rng = np.random.default_rng(0)
    values: NDArray[Any] = rng.normal(size=(300, 6)).astype(kind)
    bank = rng.permutation(300)[:200]
    lists = InvertedLists.of(values, bank, seed=3)
    np.testing.assert_array_equal(np.sort(lists.places), np.arange(200))
    np.testing.assert_array_equal(lists.rows, values[bank][lists.places].astype(lists.rows.dtype))
    assert lists.rows.dtype == (np.float16 if kind is np.float16 else np.float32)
    some = np.array([[5, 0], [199, 7]])
    np.testing.assert_array_equal(lists[some], unit_rows(values[bank])[some])
    nearest = (unit_rows(values[bank]) @ lists.centroids.T).argmax(axis=1)
    np.testing.assert_array_equal(lists.lists_of(np.arange(200)), nearest)
    assert (np.diff(lists.starts) > 0).all()


@pytest.mark.parametrize("n_probes", [1, 3, 9])
def test_nearest__of_the_lists_that_are_probed(n_probes: int) -> None:
    """Against a slow search of each query's own lists."""
    rng = np.random.default_rng(1)
    rows, queries = rng.normal(size=(900, 12)).astype(np.float32), unit_rows(rng.normal(size=(25, 12)))
    lists = replace(_listed(rows), n_probes=n_probes)
    similarities, found = lists.nearest(queries, 5)
    unit, of_row = unit_rows(rows), lists.lists_of(np.arange(900))
    for query, own, near in zip(queries, found, similarities, strict=True):
        probed = np.argsort(-(lists.centroids @ query))[:n_probes]
        seen = np.flatnonzero(np.isin(of_row, probed))
        expected = seen[np.argsort(-(unit[seen] @ query))][:5]
        np.testing.assert_array_equal(own, expected)
        np.testing.assert_allclose(near, unit[expected] @ query, atol=1e-6)


def test_nearest__a_query_whose_lists_are_too_short_looks_into_more() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(100, 4)).astype(np.float32)
    lists = replace(_listed(rows, n_lists=25), n_probes=1)
    queries = unit_rows(rng.normal(size=(6, 4)))
    for k in (30, 100):
        found = lists.nearest(queries, k)[1]
        assert all(len(set(own)) == k for own in found.tolist())
        assert found.min() >= 0
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(100), (6, 1)))


@pytest.mark.parametrize("rows", [np.zeros((40, 3)), np.ones((40, 3)), np.eye(3)[:1]], ids=["zeros", "copies", "one"])
def test_lists__of_rows_that_cannot_be_told_apart(rows: NDArray[Any]) -> None:
    k = (len(rows) + 1) // 2
    similarities, found = search(unit_rows(np.ones((2, 3))), replace(_listed(rows), n_probes=1), k)
    np.testing.assert_array_equal(found, np.tile(np.arange(k), (2, 1)))
    assert np.isfinite(similarities).all()


def test_lists__blocks_and_given_back_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    rows, queries = rng.normal(size=(700, 10)).astype(np.float16), unit_rows(rng.normal(size=(30, 10)))
    whole = replace(_listed(rows), n_probes=4)
    monkeypatch.setattr(inverted_lists, "AT_ONCE", 130)
    monkeypatch.setattr(inverted_lists, "SIMILARITIES", 90)
    monkeypatch.setattr(inverted_lists, "MAPPED", 500)
    parts = replace(_listed(rows), n_probes=4)
    for ours, theirs in zip(whole.arrays().values(), parts.arrays().values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(whole.nearest(queries, 9)[1], parts.nearest(queries, 9)[1])


def test_lists__seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(5).normal(size=(2000, 5)).astype(np.float32)
    monkeypatch.setattr(inverted_lists, "TRAINED_ON", 20)
    one, same, other = (_listed(rows, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.centroids, same.centroids)
    np.testing.assert_array_equal(one.places, same.places)
    assert (one.centroids != other.centroids).any()


def test_lists__a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvme.files.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    message = (
        rf"300 rows for knn take 4,800 bytes on disk and {tempfile.gettempdir()} has 1,000 left; make room, or set"
    )
    with pytest.raises(DataError, match=message):
        _listed(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32))
