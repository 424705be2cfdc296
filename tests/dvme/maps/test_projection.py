from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import openTSNE
import pytest
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from dvme.errors import DataError
from dvme.maps import projection
from dvme.maps.projection import METHODS, initial_positions, project, refuse_equal, settings
from dvme.vectors import unit_rows

Make = Callable[..., NDArray[Any]]


@pytest.fixture
def unit(make_features: Make) -> NDArray[Any]:
    """(90, 8), three clear classes."""
    return unit_rows(make_features(np.arange(90) % 3, 3.0, seed=0))


def _components(unit: NDArray[Any]) -> NDArray[Any]:
    """(N, 2) by the singular value decomposition in full precision; signs are open."""
    centred = unit.astype(np.float64) - unit.astype(np.float64).mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * values[:2]


def _up_to_sign(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(one * np.sign((one * other).sum(axis=0)))


def test_initial_positions__are_the_first_two_components(unit: NDArray[Any]) -> None:
    found, expected = initial_positions(unit, 0), _components(unit)
    assert found.dtype == np.float64
    np.testing.assert_allclose(_up_to_sign(found, expected), expected, atol=1e-5)


def test_initial_positions__of_many_dimensions(make_features: Make) -> None:
    """Where a randomised solver is taken."""
    wide = unit_rows(make_features(np.arange(700) % 3, 3.0, seed=0, dim=1100))
    found, expected = initial_positions(wide, 0), _components(wide)
    np.testing.assert_allclose(_up_to_sign(found, expected), expected, atol=1e-3)
    np.testing.assert_array_equal(found, initial_positions(wide, 0))


def test_project__pca_is_the_first_two_components_wherever_it_starts(unit: NDArray[Any]) -> None:
    found, expected = project(unit, "pca", initial=np.zeros((90, 2)), seed=0), _components(unit)
    assert found.dtype == np.float32
    np.testing.assert_allclose(_up_to_sign(found, expected), expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_project__same_seed_same_map_and_neighbours_stay(unit: NDArray[Any], method: str) -> None:
    initial = initial_positions(unit, 0)
    found = project(unit, method, initial=initial, seed=0)
    assert found.shape == (90, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, project(unit, method, initial=initial, seed=0))
    assert trustworthiness(unit, found, n_neighbors=15) > 0.9


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_project__another_seed_or_start_is_another_map(unit: NDArray[Any], method: str) -> None:
    initial = initial_positions(unit, 0)
    found = project(unit, method, initial=initial, seed=0)
    assert not np.array_equal(found, project(unit, method, initial=initial, seed=1))
    assert not np.array_equal(found, project(unit, method, initial=initial[::-1], seed=0))


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_project__scale_and_place_of_the_start_mean_nothing(unit: NDArray[Any], method: str) -> None:
    initial = np.round(initial_positions(unit, 0), 2) * 64
    found = project(unit, method, initial=initial, seed=0)
    moved = project(unit, method, initial=1000 * initial + 5, seed=0)
    assert trustworthiness(found, moved, n_neighbors=15) > 0.9


def test_project__tsne_is_the_same_to_the_bit_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    fit = openTSNE.TSNE.fit
    monkeypatch.setattr(openTSNE.TSNE, "fit", lambda self, **said: given.append(self.n_jobs) or fit(self, **said))
    rng = np.random.default_rng(0)
    unit = unit_rows(rng.normal(size=(300, 20)) + 2 * np.eye(20)[np.arange(300) % 4])
    initial = initial_positions(unit, 0)
    alone = project(unit, "tsne", initial=initial, seed=0)
    monkeypatch.setattr(projection, "THREADED_ROWS", 300)
    together = project(unit, "tsne", initial=initial, seed=0)
    assert given == [1, -1]
    assert np.ptp(alone) > 1
    np.testing.assert_array_equal(together, alone)


@pytest.mark.umap  # of whose import the peer needs a part
@pytest.mark.parametrize("n_rows", [8, 300])
def test_project__tsne_is_opentsnes_with_exact_neighbours(n_rows: int) -> None:
    unit = unit_rows(np.random.default_rng(n_rows).normal(size=(n_rows, 20)))
    initial = initial_positions(unit, 0)
    spread = initial - initial.mean(axis=0)
    spread = spread / spread[:, 0].std() * projection.TSNE_SPREAD
    spread += np.random.default_rng(0).normal(scale=projection.JITTER * projection.TSNE_SPREAD, size=spread.shape)
    perplexity = min(projection.PERPLEXITY, (n_rows - 1) / 3)
    peer = openTSNE.TSNE(perplexity=perplexity, initialization=spread, neighbors="exact", n_jobs=1, random_state=0)
    found = project(unit, "tsne", initial=initial, seed=0)
    reduced = projection._principal(unit, projection.COMPONENTS, 0)
    np.testing.assert_array_equal(found, np.array(peer.fit(reduced), dtype=np.float32))


def test_project__tsne_needs_no_pynndescent() -> None:
    code = (
        "import sys, numpy as np; from dvme.maps.projection import project; "
        "project(np.eye(8, dtype=np.float32), 'tsne', initial=np.eye(8)[:, :2], seed=0); "
        "print(sorted({'pynndescent', 'numba', 'umap'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_rows", [5, 6, 16, 17])
def test_project__few_rows_without_a_warning(method: str, n_rows: int) -> None:
    unit = unit_rows(np.random.default_rng(n_rows).normal(size=(n_rows, 7)))
    with warnings.catch_warnings(action="error"):
        found = project(unit, method, initial=initial_positions(unit, 0), seed=0)
    assert found.shape == (n_rows, 2)
    assert np.isfinite(found).all()
    assert np.ptp(found, axis=0).min() > 0


@pytest.mark.parametrize("method", METHODS)
def test_project__copies_and_a_single_dimension(method: str) -> None:
    copies = np.eye(6, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 1]]
    signs = np.array([[1], [1], [-1], [1], [-1], [1]], dtype=np.float32)
    for unit in (copies, signs):
        found = project(unit, method, initial=initial_positions(unit, 0), seed=0)
        assert found.shape == (len(unit), 2)
        assert np.isfinite(found).all()


def test_refuse_equal__up_to_roundings() -> None:
    row = np.random.default_rng(0).normal(size=7)
    unit = unit_rows(np.linspace(0.1, 30, 6)[:, None] * row)
    assert np.ptp(unit, axis=0).any()  # by roundings
    with pytest.raises(DataError, match=r"^all 6 of-a-kind embeddings are equal; there is nothing to map$"):
        refuse_equal(unit, "of-a-kind", 6)


def test_settings__name_the_libraries() -> None:
    assert "openTSNE" in settings("tsne")
    assert "umap-learn" in settings("umap")
    assert all("scikit-learn" in settings(method) for method in METHODS)
