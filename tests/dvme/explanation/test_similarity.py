from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from dvme.errors import DataError
from dvme.explanation import similarity as module
from dvme.explanation.similarity import similarity


def linear_cka(X: np.ndarray, Y: np.ndarray, *, debiased: bool = False) -> float:
    both = similarity({"X": X, "Y": Y})
    return float((both.debiased if debiased else both.cka)[0, 1])


def _hsic(X: np.ndarray, Y: np.ndarray) -> float:
    """tr(K H L H), Gretton et al. 2005."""
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace((X @ X.T) @ H @ (Y @ Y.T) @ H))


def _unbiased_hsic(X: np.ndarray, Y: np.ndarray) -> float:
    """Song et al. 2012, HSIC_1, term by term."""
    n, one = len(X), np.ones(len(X))
    K, L = X @ X.T, Y @ Y.T
    np.fill_diagonal(K, 0.0)
    np.fill_diagonal(L, 0.0)
    terms = (
        np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    )
    return float(terms / (n * (n - 3)))


def _pair(n: int, dims: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two embeddings with something in common, far from the origin."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 3))
    X, Y = (common @ rng.normal(size=(3, dim)) + rng.normal(size=(n, dim)) + 2 for dim in dims)
    return X, Y


# More samples than dimensions: by features; fewer: by Gram matrices.
@pytest.mark.parametrize(("n", "dims"), [(60, (9, 5)), (12, (80, 50)), (4, (3, 70)), (30, (1, 200))])
@pytest.mark.parametrize(("debiased", "hsic"), [(False, _hsic), (True, _unbiased_hsic)])
def test_linear_cka__is_the_ratio_of_direct_hsic(n: int, dims: tuple[int, int], debiased: bool, hsic) -> None:
    X, Y = _pair(n, dims)
    expected = hsic(X, Y) / np.sqrt(hsic(X, X) * hsic(Y, Y))
    assert linear_cka(X, Y, debiased=debiased) == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_linear_cka__by_hand() -> None:
    # Centred: x = (-1, -1, 1, 1) and y = (-1, 1, -1, 3) / ... with x'y = 2 * 2; |x|^2 = 4, |y|^2 = 8 about the mean 1.
    X = np.array([[0.0], [0.0], [2.0], [2.0]])
    Y = np.array([[-1.0], [1.0], [1.0], [3.0]])
    assert linear_cka(X, Y) == pytest.approx(4.0**2 / (4.0 * 8.0))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n", [12, 80])
def test_linear_cka__ignores_rotation_scale_and_shift(debiased: bool, n: int) -> None:
    X, Y = _pair(n, (20, 15))
    before = linear_cka(X, Y, debiased=debiased)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]
    assert linear_cka(300 * X @ rotation - 7, 1e-3 * Y + 5, debiased=debiased) == pytest.approx(before, rel=1e-9)
    assert linear_cka(X, X @ rotation, debiased=debiased) == pytest.approx(1.0, rel=1e-9)
    stretched = X * np.linspace(0.1, 10, 20)  # no such invariance: this one has to show
    assert abs(linear_cka(stretched, Y, debiased=debiased) - before) > 0.01


def test_linear_cka__few_samples_of_many_dimensions_look_alike_only_if_biased() -> None:
    values = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(2, 40, 600))
        assert linear_cka(X, Y) > 0.9
        values.append(linear_cka(X, Y, debiased=True))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(10) + 0.005
    assert np.abs(values).max() < 0.15
    assert linear_cka(*_pair(40, (600, 500)), debiased=True) > 0.7  # what is in common is still found


def test_similarity__is_the_matrix_of_pairs() -> None:
    X, Y = _pair(40, (9, 200))
    Z = np.random.default_rng(3).normal(size=(40, 6))
    result = similarity({"x": X, "y": Y, "z": Z})
    for debiased, matrix in ((False, result.cka), (True, result.debiased)):
        expected = [[linear_cka(A, B, debiased=debiased) for B in (X, Y, Z)] for A in (X, Y, Z)]
        np.testing.assert_allclose(matrix, expected, atol=1e-10)
        np.testing.assert_allclose(np.diag(matrix), 1.0)
        np.testing.assert_array_equal(matrix, matrix.T)
    assert result.debiased[0, 1] > 0.5 > result.debiased[0, 2]
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (value["backbones"], value["n_samples"]) == (["x", "y", "z"], 40)
    np.testing.assert_array_equal(value["debiased"], result.debiased)


@pytest.mark.parametrize("n", [12, 90])
def test_similarity__does_not_depend_on_the_blocks(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = _pair(n, (30, 20))
    whole = similarity({"x": X, "y": Y})
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 70)
    pieces = similarity({"x": X, "y": Y})
    np.testing.assert_allclose(pieces.cka, whole.cka, rtol=1e-10)
    np.testing.assert_allclose(pieces.debiased, whole.debiased, rtol=1e-8)


def test_similarity__never_copies_the_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 1 << 12)
    embeddings = {name: np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32) for name in "ab"}
    tracemalloc.start()
    similarity(embeddings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # an embedding is 2.6 MB, and 5.1 MB in float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_linear_cka__of_stored_precision(dtype: type) -> None:
    X, Y = _pair(50, (20, 30))
    expected = linear_cka(X, Y, debiased=True)
    assert linear_cka(X.astype(dtype), Y.astype(dtype), debiased=True) == pytest.approx(expected, abs=1e-3)


def test_similarity__what_does_not_vary_has_none() -> None:
    X, _ = _pair(30, (8, 8))
    result = similarity({"x": X, "constant": np.full((30, 8), 0.1), "orthogonal": np.eye(30)})
    assert np.isnan(result.cka[1]).all()
    assert np.isfinite(result.cka[[0, 0, 2], [0, 2, 2]]).all()
    assert np.isnan(result.debiased[[1, 2]]).all()
    assert result.debiased[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_similarity__refuses_what_it_cannot_compare(bad: float) -> None:
    X, Y = _pair(30, (8, 5))
    with pytest.raises(DataError, match="N >= 4"):
        linear_cka(X[:3], Y[:3])
    X[[3, 4], 2] = bad, -bad
    with pytest.raises(DataError, match="first has values that are not finite"):
        similarity({"first": X, "second": Y})
