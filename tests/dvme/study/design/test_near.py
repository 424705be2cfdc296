from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.study.design import crowds, near, similarity
from dvme.study.design.cells import cells_of, centres_of
from dvme.study.design.near import near_pairs
from dvme.study.design.similarity import COSINE, Close, close_pairs

N, DIM = 2000, 24


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of which few are enough to be searched in cells, and to be a crowd."""
    monkeypatch.setattr(near, "MANY", 1)
    monkeypatch.setattr(crowds, "FEWEST", 40)
    monkeypatch.setattr(crowds, "SAMPLED_SHARE", 1)


def _features(seed: int, n: int = N, dim: int = DIM) -> NDArray[Any]:
    """In clusters, of few directions, about a mean far from 0."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(dim, dim)) / (1 + np.arange(dim))[:, None]
    clusters = rng.normal(size=(12, dim))[rng.integers(0, 12, n)]
    values: NDArray[Any] = (1.0 + clusters + rng.normal(size=(n, dim)) @ loadings).astype(np.float32)
    return values


def _turned(row: NDArray[Any], angle: float, rng: np.random.Generator) -> NDArray[Any]:
    """A row at this angle to another, of another length."""
    aside = rng.normal(size=len(row))
    aside -= (aside @ row) / (row @ row) * row
    aside *= np.linalg.norm(row) / np.linalg.norm(aside)
    turned: NDArray[Any] = 1.5 * (np.cos(angle) * row + np.sin(angle) * aside)
    return turned


def _all_pairs(values: NDArray[Any]) -> set[tuple[int, int]]:
    """Each with each, in float64."""
    wide = values.astype(np.float64)
    wide[~np.isfinite(wide).all(axis=1)] = 0.0
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-300)
    return {(one, two) for one, two in np.argwhere(np.triu(wide @ wide.T > COSINE, 1)).tolist()}


def _everything(close: Close | None) -> set[tuple[int, int]]:
    """The pairs that are listed, and all within crowds; none is both."""
    assert close is not None
    listed = {(one, two) for one, two in close.pairs.tolist()}
    within = {pair for crowd in close.crowds for pair in combinations(crowd.rows.tolist(), 2)}
    assert len(listed) == len(close.pairs)
    assert not listed & within
    return listed | within


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("dim", "n_across"), [(DIM, 0), (4, 40)])
def test_near_pairs__in_cells_are_those_of_all_with_all(dim: int, n_across: int, dtype: type) -> None:
    """At both sides of the threshold, in few dimensions many of them in two cells; with rows that are like none."""
    rng, values = np.random.default_rng(0), _features(0, dim=dim)
    widest = np.arccos(COSINE)
    for one, two in rng.permutation(N)[:600].reshape(300, 2):
        values[two] = _turned(values[one], widest * rng.uniform(0.9, 1.1), rng)
    values[[3, 8]] = 0.0
    values[5, 3], values[6, 2] = np.nan, np.inf
    values = values.astype(dtype)
    found, plain = near_pairs(values), close_pairs(values)
    assert found is not None
    assert plain is not None
    assert found.recall is None
    assert _everything(found) == _all_pairs(values)
    assert np.array_equal(found.pairs, plain.pairs)
    np.testing.assert_allclose(found.cosines, plain.cosines, atol=1e-6)
    unit = np.nan_to_num(values.astype(np.float32), posinf=0.0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
    home = cells_of(unit, centres_of(unit), near.REACH).home
    assert n_across <= (home[found.pairs[:, 0]] != home[found.pairs[:, 1]]).sum() < len(found.pairs)


def test_near_pairs__a_mapped_file_gives_what_memory_gives(tmp_path: Any) -> None:
    values = _features(2)
    values[100:200] = values[:100] * 2.0
    np.save(tmp_path / "values.npy", values)
    mapped, held = near_pairs(np.load(tmp_path / "values.npy", mmap_mode="r")), near_pairs(values)
    assert mapped is not None
    assert _everything(mapped) == _everything(held) >= {(row, row + 100) for row in range(100)}


@pytest.mark.parametrize("spread", [0.0, 1.5e-3])
def test_near_pairs__within_a_crowd_none_is_listed(spread: float) -> None:
    """Two crowds, of which rows are partners of each other or not, with outsiders at all distances."""
    rng, values = np.random.default_rng(3), _features(3)
    widest = np.arccos(COSINE)
    centre = values[0].astype(np.float64)
    values[100:220] = centre + spread * rng.normal(size=(120, DIM))
    second = _turned(centre, 1.05 * widest, rng)
    values[400:460] = second + 1.5 * spread * rng.normal(size=(60, DIM))
    for row, share in zip(range(600, 700), np.linspace(0.0, 2.0, 100), strict=True):
        values[row] = _turned(centre, share * widest, rng)
    found = near_pairs(values)
    assert found is not None
    assert _everything(found) == _all_pairs(values)
    assert len(found.crowds) == 2
    assert sum(len(crowd.rows) for crowd in found.crowds) >= 180
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    for crowd in found.crowds:
        least = float((unit[crowd.rows] @ unit[crowd.rows].T).min())
        assert COSINE <= crowd.cosine <= least + 1e-6


def test_near_pairs__a_large_crowd_lists_as_few_pairs_as_there_are_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 black images of 60,000 are 12 million pairs."""
    monkeypatch.setattr(crowds, "SAMPLED_SHARE", 16)
    values = np.tile(_features(4, 60_000), 1)
    values[7:50_007:10] = values[7]
    found = near_pairs(values)
    assert found is not None
    assert [len(crowd.rows) for crowd in found.crowds] == [5000]
    assert found.crowds[0].cosine > 0.9999
    assert len(found.pairs) < 60_000


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_near_pairs__fewer_rows_than_cells(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "BLIND", 1.0)  # one of ten pairs is close
    values = np.eye(6, dtype=np.float32)[:n]
    values[4:] = 2.0 * values[:1]
    assert _everything(near_pairs(values)) == ({(0, 4)} if n == 5 else set())


def test_near_pairs__what_no_copies_explain_and_rows_without_direction() -> None:
    assert near_pairs(np.ones((300, 4), dtype=np.float16)) is None
    assert _everything(near_pairs(np.zeros((300, 4), dtype=np.float16))) == set()
    few = np.zeros((300, 4), dtype=np.float32)
    few[:2] = 1.0
    assert _everything(near_pairs(few)) == {(0, 1)}


def test_near_pairs__too_many_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    values = _features(5)
    values[1::2] = values[::2]
    assert len(_everything(near_pairs(values))) >= N // 2
    monkeypatch.setattr(near, "MOST_LISTED", N // 2 - 1)
    assert near_pairs(values) is None


def test_near_pairs__in_part_tells_its_recall_and_exact_finds_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody visits another cell: pairs in two cells are missed, and the sample is all rows."""
    monkeypatch.setattr(near, "MOST_VISITS", 0)
    rng, values = np.random.default_rng(6), _features(6, 400, dim=4)
    for one, two in rng.permutation(400).reshape(200, 2):
        values[two] = _turned(values[one], 0.9 * np.arccos(COSINE), rng)
    found, expected = near_pairs(values), _all_pairs(values)
    assert found is not None
    assert found.recall is not None
    assert _everything(found) < expected
    assert (found.recall.n_images, found.recall.n_pairs, found.recall.n_found) == (
        400,
        len(expected),
        len(found.pairs),
    )
    exact = near_pairs(values, exact=True)
    assert exact is not None
    assert exact.recall is None
    assert _everything(exact) == expected


def test_near_pairs__isotropic_rows_are_near_many_borders_and_few_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near, "MOST_VISITS", 3)
    rng = np.random.default_rng(7)
    values = rng.normal(size=(3000, 800))
    for one, two in rng.permutation(3000)[:1000].reshape(500, 2):
        values[two] = _turned(values[one], 0.9 * np.arccos(COSINE), rng)
    found = near_pairs(values.astype(np.float32))
    assert found is not None
    assert found.recall is not None
    assert len(_everything(found)) >= 0.95 * len(_all_pairs(values))
    assert found.recall.n_found >= 0.95 * found.recall.n_pairs > 50
