from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dvme.heads.exact import krylov, logistic
from dvme.heads.exact.krylov import minimise_together
from dvme.heads.exact.logistic import LogisticFit, fit_from_gram, fit_logistic
from dvme.heads.exact.logistic_problem import FromGramAlone

Data = tuple[NDArray[np.float64], NDArray[np.int64]]
STRENGTHS = (1e-6, 1e-4, 1e-2)


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "LARGEST_GROUPED", 0)


def _data(n_rows: int, dim: int, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    labels = np.arange(n_rows) % 2
    scales = np.logspace(0, -2, dim)  # ill-conditioned, as features of a network are
    return (rng.normal(size=(2, dim))[labels] + 2.0 * rng.normal(size=(n_rows, dim))) * scales, labels


def _duplicated() -> Data:
    features, labels = _data(30, 90, seed=2)
    return np.concatenate([features, features]), np.concatenate([labels, labels])


def _conflicting() -> Data:
    """Rows that are there several times, with both labels."""
    rng = np.random.default_rng(3)
    return _data(5, 40, seed=3)[0][rng.integers(0, 5, 36)], np.arange(36) % 2


def _separable() -> Data:
    features, labels = _data(60, 80, seed=4)
    features[:, 0] += 30.0 * labels
    return features, labels


def _outlier(size: float) -> Data:
    features, labels = _data(36, 50, seed=5)
    features[4] *= size
    return features, labels


def _imbalanced() -> Data:
    features, _ = _data(60, 90, seed=6)
    return features, np.array([0] * 58 + [1] * 2)


CASES: dict[str, Data] = {
    "usual": _data(120, 150, seed=1),
    "duplicated": _duplicated(),
    "conflicting": _conflicting(),
    "separable": _separable(),
    "imbalanced": _imbalanced(),
    "two rows": _data(2, 40, seed=7),
    "equal rows": (np.ones((6, 40)), np.array([0, 0, 0, 0, 1, 1])),
    "outlier of 1e6": _outlier(1e6),
    "outlier of 1e10": _outlier(1e10),
}


def _l2(data: Data) -> torch.Tensor:
    scale = float(np.square(data[0] - data[0].mean(axis=0)).sum()) or 1.0
    return torch.tensor([strength * scale for strength in STRENGTHS], dtype=torch.float64)


def _fit(data: Data, weights: NDArray[np.float64] | None = None) -> LogisticFit:
    own = None if weights is None else [torch.from_numpy(weights)]
    return fit_logistic([torch.from_numpy(data[0])], [torch.from_numpy(data[1])], [_l2(data)], 2, own)[0]


def _problem(data: Data) -> FromGramAlone:
    rows = torch.from_numpy(data[0] - data[0].mean(axis=0))
    targets, weights = torch.from_numpy(data[1]).double()[None, None], torch.ones(1, len(rows), dtype=torch.float64)
    return FromGramAlone([rows @ rows.T], [targets], [weights], _l2(data)[None])


@pytest.mark.parametrize("name", CASES)
def test_fit_logistic__meets_the_conditions_of_an_optimum(name: str) -> None:
    data = CASES[name]
    fit = _fit(data)
    assert fit.is_converged.all()
    probabilities = (torch.from_numpy(data[0]) @ fit.weights + fit.intercepts[:, None]).softmax(-1).numpy()
    centred = data[0] - data[0].mean(axis=0)
    for reached, weights, l2 in zip(probabilities, fit.weights.numpy(), _l2(data).tolist(), strict=True):
        residuals = reached - np.eye(2)[data[1]]
        slope = centred.T @ residuals + 2 * l2 * weights
        size = np.linalg.norm(centred) * np.linalg.norm(residuals) + 1e-12 * np.linalg.norm(centred)
        assert np.abs(residuals.sum(0)).max() < 1e-6
        assert np.linalg.norm(slope) <= 1e-6 * size


def test_fit_logistic__weighted_rows_are_scikit_learns() -> None:
    data = _data(90, 120, seed=8)
    weights = np.random.default_rng(8).uniform(0.2, 3.0, size=90)
    fit = _fit(data, weights)
    for index, l2 in enumerate(_l2(data).tolist()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer = LogisticRegression(C=1.0 / l2, solver="newton-cholesky", tol=1e-12, max_iter=1000)
            peer.fit(*data, sample_weight=weights)
        ours = (torch.from_numpy(data[0]) @ fit.weights[index] + fit.intercepts[index]).softmax(-1)
        np.testing.assert_allclose(ours, peer.predict_proba(data[0]), atol=1e-7)


@pytest.mark.parametrize("name", ["usual", "separable", "imbalanced"])
def test_minimise_together__reaches_what_l_bfgs_and_newton_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CASES[name]
    problem = _problem(data)
    together = minimise_together(problem)
    assert together.is_converged.all()
    monkeypatch.setattr(logistic, "LARGEST_GROUPED", len(data[0]))
    other = fit_from_gram([problem.matrix[0]], [torch.from_numpy(data[1])], [_l2(data)], 2)[0]
    np.testing.assert_allclose(together.objectives[0], other.objectives, rtol=1e-12)
    coefficients = together.parameters[0, :, :, 0, :-1]
    np.testing.assert_allclose(coefficients[:, 0] @ problem.matrix[0], coefficients[:, 1], atol=1e-9)


def test_minimise_together__finds_the_leading_eigenvectors_for_the_preconditioner() -> None:
    problem = _problem(CASES["usual"])
    minimise_together(problem)
    leading, energies = problem.leading[0], problem.energies[0, 0]
    inner = leading[:, 0] @ leading[:, 1].T
    np.testing.assert_allclose(inner, np.eye(len(inner)), atol=1e-8)
    expected = torch.linalg.eigvalsh(problem.matrix[0])
    assert (energies <= expected[-len(energies) :] * (1 + 1e-9)).all()  # as of any subspace
    np.testing.assert_allclose(energies[-3:], expected[-3:], rtol=0.05)
    rest = (problem.matrix[0].trace() - energies.sum()) / (120 - len(energies))
    assert float(problem.rest) == pytest.approx(float(rest))


def test_fit_logistic__a_basis_that_is_too_small_is_left_to_newtons_method(monkeypatch: pytest.MonkeyPatch) -> None:
    data = CASES["usual"]
    expected = _fit(data)
    monkeypatch.setattr(krylov, "MAX_DIMENSION", 5)
    assert not minimise_together(_problem(data)).is_converged.all()
    fit = _fit(data)
    assert fit.is_converged.all()
    np.testing.assert_allclose(fit.objectives, expected.objectives, rtol=1e-12)


def test_fit_logistic__alone_and_in_company() -> None:
    one, other = _data(90, 150, seed=9), _data(130, 150, seed=10)
    rows, labels = zip(*((torch.from_numpy(x), torch.from_numpy(y)) for x, y in (one, other)), strict=True)
    together = fit_logistic(rows, labels, [_l2(one), _l2(other)], 2)
    for data, fit in zip((one, other), together, strict=True):
        assert torch.equal(fit.weights, _fit(data).weights)


def test_fit_logistic__numbers_that_are_none_are_not_called_converged() -> None:
    data = _data(20, 30, seed=11)
    gram = torch.from_numpy(data[0] @ data[0].T)
    gram[3, 3] = torch.inf
    assert not minimise_together(_broken(gram, data)).is_converged.any()


def _broken(gram: torch.Tensor, data: Data) -> FromGramAlone:
    problem = _problem(data)
    problem.matrix = gram[None]
    return problem
