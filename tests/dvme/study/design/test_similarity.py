from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

from dvme.study.design import similarity
from dvme.study.design.similarity import COSINE, PRODUCT, PROJECTION, TREE, close_pairs

WAYS = (TREE, PROJECTION, PRODUCT)


def _all_pairs(values: NDArray[Any]) -> dict[tuple[int, int], float]:
    """Each with each, in float64; a row that is not finite is like no other."""
    wide = values.astype(np.float64)
    odd = ~np.isfinite(wide).all(axis=1)
    wide[odd] = 0.0
    wide /= np.abs(wide).max(axis=1, keepdims=True, initial=1e-300)
    cosines = cosine_similarity(wide)
    pairs = np.argwhere(np.triu(cosines > COSINE, 1)).tolist()
    return {(one, other): cosines[one, other] for one, other in pairs}


def _check(values: NDArray[Any], *, block: int) -> dict[tuple[int, int], float]:
    expected, found = _all_pairs(values), close_pairs(values, block=block)
    assert found is not None
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(expected)
    np.testing.assert_allclose(found.cosines, [expected[pair] for pair in sorted(expected)], atol=1e-6)
    return expected


def _spread(seed: int, n: int, dim: int) -> NDArray[Any]:
    """Unlike each other, in few directions, about a mean far from 0: as the features of a network."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(dim, dim)) / (1 + np.arange(dim))[:, None]
    values: NDArray[Any] = (rng.normal(size=(n, dim)) @ axes + 0.5).astype(np.float32)
    return values


def _copy(values: NDArray[Any], one: int, other: int, cosine: float) -> None:
    """Turn a row into one at this cosine to another, up to float32."""
    row = values[one].astype(np.float64)
    aside = np.random.default_rng(other).normal(size=len(row))
    aside -= (aside @ row) / (row @ row) * row
    aside *= np.linalg.norm(row) / np.linalg.norm(aside)
    values[other] = 2.5 * (cosine * row + np.sqrt(1 - cosine**2) * aside)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=settings.default.max_examples // 3)
@given(
    seed=st.integers(0, 99),
    dim=st.sampled_from([2, 3, 7, 40]),
    copies=st.lists(st.tuples(st.integers(0, 49), st.integers(0, 49), st.integers(-40, 40)), max_size=12),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_close_pairs__are_those_of_all_pairs_whichever_way(
    way: str, seed: int, dim: int, copies: list[tuple[int, int, int]], dtype: type
) -> None:
    """Copies lie at both sides of the threshold, up to the last bits of float32, and copies of copies at a distance."""
    values = _spread(seed, 50, dim)
    for one, other, step in copies:
        if one != other:
            _copy(values, one, other, COSINE + step * 3e-8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "cheapest", lambda *_: way)
        patch.setattr(similarity, "BLIND", 1.0)  # in two dimensions many are alike
        _check(values.astype(dtype), block=16)


@pytest.mark.parametrize("way", WAYS)
def test_close_pairs__a_chain_a_cluster_and_rows_without_a_direction(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chain only neighbours are pairs; of a cluster all; zeros, NaN and infinity are like nothing; tiny is not."""
    monkeypatch.setattr(similarity, "cheapest", lambda *_: way)
    values = _spread(1, 300, 48)
    angle = 0.8 * np.arccos(COSINE)
    start, across = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 2)))[0].T
    values[:5] = [3 * (np.cos(step * angle) * start + np.sin(step * angle) * across) for step in range(5)]
    values[[20, 130, 131, 299]] = values[7] * np.array([[1.0], [0.5], [1e-30], [1e20]], dtype=np.float32)
    values[[30, 31, 200]] = 0.0
    values[40, 3], values[41, 3], values[42, 3], values[43] = np.nan, np.inf, -np.inf, np.nan
    expected = {pair for pair in _check(values, block=32) if max(pair) < 7}
    assert expected == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert {(7, 20), (7, 299), (130, 131)} <= set(_all_pairs(values))


def test_close_pairs__a_sum_that_float32_loses() -> None:
    """One large value and thousands of small ones: a product in float32 is wrong by more than the pairs differ."""
    rng = np.random.default_rng(0)
    values = np.zeros((60, 3000), dtype=np.float32)
    for other in range(1, 60, 2):
        values[other - 1, other] = 40.0
        values[other - 1, 60:] = 1e-2 * rng.normal(size=2940)
        _copy(values, other - 1, other, COSINE + 1e-7 * (other - 30))
    assert len(_check(values, block=16)) == 15


@pytest.mark.parametrize("dim", [1, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_close_pairs__of_hardly_any_rows(n: int, dim: int) -> None:
    values = np.ones((n, dim), dtype=np.float32)
    values[2:] = -1.0
    found = close_pairs(values)
    assert (found is None) == (n in {2, 3})  # of 1 or 3 pairs, 1 is close
    assert found is None or found.pairs.shape == (0, 2)


def _noting(gone: list[str], way: str, own: Callable[..., Any], *args: Any) -> Any:
    gone.append(way)
    return own(*args)


def test_close_pairs__the_way_depends_on_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a network go by the tree, isotropic ones by projections, nearly collapsed ones by whole rows."""
    rng, gone = np.random.default_rng(0), list[str]()
    for way, name in ((TREE, "_by_tree"), (PROJECTION, "_by_projection"), (PRODUCT, "_by_product")):
        monkeypatch.setattr(similarity, name, partial(_noting, gone, way, getattr(similarity, name)))
    isotropic = rng.normal(size=(2000, 768)).astype(np.float32)
    for values in (_spread(0, 2000, 768), isotropic, 2.0 + 0.1 * isotropic):
        _copy(values, 3, 1501, 0.9995)
        assert _check(values, block=1024).keys() == {(3, 1501)}
    assert gone == [TREE, PROJECTION, PRODUCT]


def test_close_pairs__none_where_copies_cannot_explain_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained, say: every image is all but the same to it. Or so many copies that random pairs do not show them."""
    assert close_pairs(100.0 + 1e-3 * _spread(0, 60, 16)) is None
    crowd = np.random.default_rng(0).normal(size=(600, 12)).astype(np.float32)
    monkeypatch.setattr(similarity, "MOST_PAIRS", 2)
    for n_copies, is_found in ((49, True), (50, False)):  # 1176 and 1225 pairs
        crowd[:n_copies] = crowd[0]
        assert (close_pairs(crowd, block=64) is not None) is is_found
