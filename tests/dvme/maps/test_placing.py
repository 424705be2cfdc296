from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import KDTree

from dvme.maps import placing
from dvme.maps.placing import place
from dvme.maps.projection import tsne_layout

N, LAID_OUT, COPIES = 360, 120, 60
CLUSTERS = np.arange(N) % 4
SAMPLE = np.arange(LAID_OUT) * 3
METHODS = ["tsne", pytest.param("umap", marks=pytest.mark.umap)]


@pytest.fixture(scope="module")
def reduced() -> NDArray[np.float32]:
    """(N + COPIES, 6), four separated clusters, and copies of rows of the sample."""
    rng = np.random.default_rng(0)
    values = 4 * rng.normal(size=(4, 6))[CLUSTERS] + rng.normal(size=(N, 6))
    return np.concatenate([values, values[SAMPLE[:COPIES]]]).astype(np.float32)


def _place(reduced: NDArray[Any], method: str, seed: int = 0) -> NDArray[np.float32]:
    return place(reduced, SAMPLE, method, initial=reduced[SAMPLE, :2].astype(np.float64), seed=seed)


@pytest.mark.parametrize("method", METHODS)
def test_place__rows_lie_in_their_own_cluster_and_copies_at_their_row(reduced: NDArray[Any], method: str) -> None:
    found = _place(reduced, method)
    assert found.shape == (N + COPIES, 2)
    assert found.dtype == np.float32
    laid_out, rest = KDTree(found[SAMPLE]), np.setdiff1d(np.arange(N), SAMPLE)
    _, nearest = laid_out.query(found[rest])
    np.testing.assert_array_equal(CLUSTERS[SAMPLE[nearest]], CLUSTERS[rest])
    away = np.linalg.norm(found[N:] - found[SAMPLE[:COPIES]], axis=1)
    others = np.linalg.norm(found[N:] - found[np.roll(SAMPLE[:COPIES], 4)], axis=1)  # of the same cluster
    assert np.median(away) < 0.5 * np.median(others)
    np.testing.assert_array_equal(found, _place(reduced, method))


def test_place__tsne_is_opentsnes_layout_and_transform(reduced: NDArray[Any]) -> None:
    embedding = tsne_layout(reduced[SAMPLE], reduced[SAMPLE, :2].astype(np.float64), 0)
    rest = np.setdiff1d(np.arange(len(reduced)), SAMPLE)
    found = _place(reduced, "tsne")
    np.testing.assert_array_equal(found[rest], np.asarray(embedding.transform(reduced[rest]), dtype=np.float32))
    np.testing.assert_array_equal(found[SAMPLE], np.asarray(embedding, dtype=np.float32))


def test_place__tsne_in_blocks_of_any_size(reduced: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = _place(reduced, "tsne"), list[tuple[str, int, int]]()
    monkeypatch.setitem(placing.BLOCK, "tsne", 110)
    initial = reduced[SAMPLE, :2].astype(np.float64)
    found = place(reduced, SAMPLE, "tsne", initial=initial, seed=0, progress=lambda *step: told.append(step))
    np.testing.assert_array_equal(found, whole)
    assert told == [("tsne images placed", done, 300) for done in (0, 110, 220, 300)]


@pytest.mark.umap
def test_place__umap_lays_out_the_sample_alone(reduced: NDArray[Any]) -> None:
    import umap

    found = _place(reduced, "umap")
    start = reduced[SAMPLE, :2].astype(np.float64)
    start -= start.mean(axis=0)
    start = start * (10 / np.abs(start).max()) + np.random.default_rng(0).normal(scale=1e-4, size=start.shape)
    with warnings.catch_warnings(action="ignore"):
        peer = umap.UMAP(init=start.astype(np.float32), random_state=0, n_jobs=1).fit_transform(reduced[SAMPLE])
    np.testing.assert_array_equal(found[SAMPLE], peer)
    rest = np.setdiff1d(np.arange(len(reduced)), SAMPLE)
    assert np.isfinite(found[rest]).all()
