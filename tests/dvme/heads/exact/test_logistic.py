from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from dvme.heads.exact import minimise, newton
from dvme.heads.exact.logistic import LogisticFit, fit_from_gram, fit_logistic

Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def _data(n_rows: int, dim: int, n_classes: int, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, dim))
    labels = np.arange(n_rows) % n_classes
    scales = np.logspace(0, -3, dim)  # ill-conditioned, as features of a network are
    return (centres[labels] + 2.0 * rng.normal(size=(n_rows, dim))) * scales + 5.0, labels


def _fit(problems: list[Data], l2: list[float], n_classes: int) -> list[LogisticFit]:
    rows = [torch.from_numpy(features) for features, _ in problems]
    labels = [torch.from_numpy(own) for _, own in problems]
    return fit_logistic(rows, labels, [torch.tensor(l2, dtype=torch.float64)] * len(problems), n_classes)


def _loss(data: Data, weights: NDArray[np.float64], intercepts: NDArray[np.float64]) -> float:
    """The log loss written out a row at a time."""
    total = 0.0
    for row, label in zip(*data, strict=True):
        logits = row @ weights + intercepts
        peak = logits.max()
        total += peak + np.log(np.exp(logits - peak).sum()) - logits[label]
    return float(total)


def _objective(data: Data, fit: LogisticFit, index: int, l2: float) -> float:
    """F from the weights in the features' own coordinates."""
    weights, intercepts = fit.weights[index].numpy(), fit.intercepts[index].numpy()
    double = 2.0 if weights.shape[1] == 2 else 1.0
    return _loss(data, weights, intercepts) + double * l2 / 2 * float((weights**2).sum())


def _peer(data: Data, l2: float) -> tuple[float, LogisticRegression]:
    """scikit-learn's objective, by another algorithm than ours; it warns where rounding ends its line search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = LogisticRegression(C=1.0 / l2, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(*data)
    weights, intercepts = peer.coef_.T, peer.intercept_
    if weights.shape[1] == 1:
        weights, intercepts = np.c_[0 * weights, weights], np.r_[0.0, intercepts]
    return _loss(data, weights, intercepts) + l2 / 2 * float((peer.coef_**2).sum()), peer


def _scale(data: Data) -> float:
    return float(np.square(data[0] - data[0].mean(axis=0)).sum())


@pytest.mark.parametrize(("n_rows", "dim"), [(120, 20), (101, 100), (100, 100), (30, 80), (200, 401)], ids=str)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_fit_logistic__same_optimum_as_scikit_learn(n_rows: int, dim: int, n_classes: int) -> None:
    data = _data(n_rows, dim, n_classes, seed=1)
    l2 = [1e-5 * _scale(data), 1e-3 * _scale(data), 0.1 * _scale(data)]
    fit = _fit([data], l2, n_classes)[0]
    assert fit.is_converged.all()
    for index, strength in enumerate(l2):
        best, peer = _peer(data, strength)
        assert _objective(data, fit, index, strength) == pytest.approx(best, rel=1e-6)
        ours = (torch.from_numpy(data[0]) @ fit.weights[index] + fit.intercepts[index]).softmax(-1)
        np.testing.assert_allclose(ours, peer.predict_proba(data[0]), atol=1e-7)


def _imbalanced() -> Data:
    features, _ = _data(60, 150, 3, seed=5)
    return features, np.array([0] * 55 + [1] * 4 + [2])


def _duplicated() -> Data:
    features, labels = _data(75, 320, 3, seed=6)
    return np.concatenate([features, features]), np.concatenate([labels, labels])


def _constant_features() -> Data:
    features, labels = _data(60, 12, 3, seed=7)
    features[:, 3:8] = 4.0
    return features, labels


def _separable() -> Data:
    features, labels = _data(60, 20, 3, seed=8)
    features[np.arange(60), labels] += 30.0
    return features, labels


def _one_row_per_class() -> Data:
    return _data(3, 40, 3, seed=9)


@pytest.mark.parametrize("make", [_imbalanced, _duplicated, _constant_features, _separable, _one_row_per_class])
def test_fit_logistic__awkward_rows(make: object) -> None:
    assert callable(make)
    data = make()
    l2 = [1e-6 * _scale(data), 1e-2 * _scale(data)]  # the first is the weakest of the path
    fit = _fit([data], l2, 3)[0]
    assert fit.is_converged.all()
    for index, strength in enumerate(l2):
        reached = _objective(data, fit, index, strength)
        assert reached == pytest.approx(_peer(data, strength)[0], rel=1e-6)
        assert float(fit.objectives[index]) == pytest.approx(reached, rel=1e-8)


@pytest.mark.parametrize("make", [_duplicated, _separable, _one_row_per_class])
def test_fit_logistic__very_weak_strength(make: object) -> None:
    assert callable(make)
    data = make()
    l2 = [1e-8 * _scale(data)]
    fit = _fit([data], l2, 3)[0]
    assert fit.is_converged.all()
    assert _objective(data, fit, 0, l2[0]) == pytest.approx(_peer(data, l2[0])[0], rel=1e-6)


def _from_gram(data: Data, origin: NDArray[np.float64], l2: list[float], n_classes: int) -> LogisticFit:
    """With intercepts and weights of the features."""
    rows, labels = torch.from_numpy(data[0] - origin), torch.from_numpy(data[1])
    fit = fit_from_gram([rows @ rows.T], [labels], [torch.tensor(l2, dtype=torch.float64)], n_classes)[0]
    weights = rows.T @ fit.weights
    return LogisticFit(weights, fit.intercepts - torch.from_numpy(origin) @ weights, fit.objectives, fit.is_converged)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("n_rows", "dim"), [(40, 90), (90, 40)], ids=["regular", "singular"])
def test_fit_from_gram__same_from_any_origin(n_rows: int, dim: int, n_classes: int) -> None:
    data = _data(n_rows, dim, n_classes, seed=2)
    l2 = [1e-5 * _scale(data), 1e-2 * _scale(data)]
    expected = _fit([data], l2, n_classes)[0]
    for origin in (data[0].mean(axis=0), np.full(dim, 4.0)):
        fit = _from_gram(data, origin, l2, n_classes)
        assert fit.is_converged.all()
        np.testing.assert_allclose(fit.objectives, expected.objectives, rtol=1e-8)
        for index, strength in enumerate(l2):
            reached = _objective(data, fit, index, strength)
            assert reached == pytest.approx(float(expected.objectives[index]), rel=1e-8)


def test_fit_from_gram__objective_is_that_of_its_coefficients_after_many_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images are carried along, never recomputed; rounding must not pile up in them."""
    monkeypatch.setattr("dvme.heads.exact.logistic_problem.RANK", 1)
    data = _data(150, 300, 3, seed=3)
    l2 = [1e-9 * _scale(data)]
    fit = _from_gram(data, data[0].mean(axis=0), l2, 3)
    assert fit.is_converged.all()
    assert _objective(data, fit, 0, l2[0]) == pytest.approx(float(fit.objectives[0]), rel=1e-8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fit_logistic__a_problem_does_not_depend_on_the_others(n_classes: int) -> None:
    problems = [_data(n_rows, 400, n_classes, seed=n_rows) for n_rows in (7, 30, 150, 180, 250)]
    l2 = [0.01, 0.1, 10.0, 1000.0]
    for alone, together in zip(problems, _fit(problems, l2, n_classes), strict=True):
        fit = _fit([alone], l2, n_classes)[0]
        for index, strength in enumerate(l2):
            own = _objective(alone, fit, index, strength)
            assert _objective(alone, together, index, strength) == pytest.approx(own, rel=1e-9)
        np.testing.assert_allclose(together.weights, fit.weights, atol=1e-5)


def test_fit_logistic__twice_the_same() -> None:
    data = _data(90, 100, 3, seed=4)
    one, other = _fit([data], [0.1, 1.0], 3)[0], _fit([data], [0.1, 1.0], 3)[0]
    assert torch.equal(one.weights, other.weights)


def test_fit_logistic__class_without_a_row_gets_no_probability() -> None:
    features, labels = _data(60, 8, 3, seed=5)
    data = features[labels != 1], labels[labels != 1]
    fit = _fit([data], [1.0], 3)[0]
    probabilities = (torch.from_numpy(features) @ fit.weights[0] + fit.intercepts[0]).softmax(-1)
    assert fit.is_converged.all()
    assert (probabilities[:, 1] == 0).all()
    assert float(fit.intercepts[0, [0, 2]].sum()) == pytest.approx(0.0, abs=1e-9)
    # two classes are left under the three-class penalty: twice scikit-learn's two-class C
    peer = LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-10).fit(*data)
    np.testing.assert_allclose(probabilities[:, [0, 2]], peer.predict_proba(features), atol=1e-7)


def test_fit_logistic__only_one_class() -> None:
    fit = _fit([(_data(6, 4, 3, seed=1)[0], np.full(6, 2))], [1.0], 3)[0]
    assert fit.intercepts[0].tolist() == [-np.inf, -np.inf, 0.0]
    assert not fit.weights.any()
    assert fit.is_converged.all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n_rows=st.integers(4, 40), dim=st.integers(1, 90), log_l2=st.floats(-4, 4))
def test_fit_logistic__scikit_learns_objective(seed: int, n_rows: int, dim: int, log_l2: float) -> None:
    data = _data(n_rows, dim, 3, seed)
    fit = _fit([data], [10.0**log_l2], 3)[0]
    assert fit.is_converged.all()
    assert _objective(data, fit, 0, 10.0**log_l2) <= _peer(data, 10.0**log_l2)[0] * (1 + 1e-6)


@pytest.mark.parametrize("dim", [4, 40])
def test_fit_logistic__all_rows_equal(dim: int) -> None:
    data = np.ones((6, dim)), np.array([0, 0, 0, 1, 1, 2])
    fit = _fit([data], [1.0], 3)[0]
    np.testing.assert_allclose(fit.intercepts[0].softmax(-1), [3 / 6, 2 / 6, 1 / 6], atol=1e-8)
    assert not fit.weights.any()


def test_fit_logistic__a_search_that_finds_nothing_far_from_the_optimum_is_not_called_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(newton, "MAX_STEPS", 1)
    monkeypatch.setattr(minimise, "MAX_HALVINGS", 0)
    monkeypatch.setattr(minimise, "SUFFICIENT_DECREASE", 1e6)
    assert not _fit([_data(40, 6, 3, seed=2)], [0.1, 1.0], 3)[0].is_converged.any()


def test_fit_logistic__too_few_iterations_are_not_called_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimise, "MAX_ITERATIONS", 2)
    monkeypatch.setattr(newton, "MAX_STEPS", 1)
    assert not _fit([_data(40, 6, 3, seed=2)], [0.01], 3)[0].is_converged.any()


def _outlier(size: float) -> Data:
    features, labels = _data(36, 50, 3, seed=10)
    features[4] *= size
    return features, labels


def _conflicting() -> Data:
    """Rows that are there several times, with several labels."""
    features, _ = _data(5, 40, 3, seed=11)
    rng = np.random.default_rng(11)
    return features[rng.integers(0, 5, 36)], np.arange(36) % 3


def _far_and_constant() -> Data:
    features, labels = _data(36, 20, 3, seed=12)
    features[:, 4:9] = 1e5
    return features, labels


FAR_END: dict[str, Data] = {
    **{f"outlier of {size:.0e}": _outlier(size) for size in (1e6, 1e8, 1e10, 1e12)},
    "conflicting": _conflicting(),
    "constant": _far_and_constant(),
    "separable": _separable(),
    "one row per class": _one_row_per_class(),
}


def _proba(fit: LogisticFit, data: Data) -> NDArray[np.float64]:
    """(S, n, C)."""
    logits = torch.from_numpy(data[0]) @ fit.weights + fit.intercepts[:, None]
    return logits.softmax(-1).numpy()


@pytest.mark.parametrize("name", FAR_END)
def test_fit_logistic__the_far_end_is_solved_in_any_order_and_company(name: str) -> None:
    data = FAR_END[name]
    l2 = [strength * _scale(data) for strength in (1e-6, 1e-4, 1e-2)]
    fit = _fit([data], l2, 3)[0]
    assert fit.is_converged.all()
    reached = _proba(fit, data)
    truth = np.eye(3)[data[1]]
    centred = data[0] - data[0].mean(axis=0)
    for index, strength in enumerate(l2):
        # the conditions of an optimum, which need no other solver: the slopes along intercepts and weights are 0
        residuals = reached[index] - truth
        slope = centred.T @ residuals + strength * fit.weights[index].numpy()
        size = np.linalg.norm(centred) * np.linalg.norm(residuals) + 1e-12 * np.linalg.norm(centred)
        assert np.abs(residuals.sum(0)).max() < 1e-6
        assert np.linalg.norm(slope) < 1e-6 * size
    order = np.random.default_rng(0).permutation(len(data[1]))
    permuted = _fit([(data[0][order], data[1][order])], l2, 3)[0]
    together = _fit([_data(40, data[0].shape[1], 3, seed=1), data], l2, 3)[1]
    for other in (permuted, together):
        assert other.is_converged.all()
        np.testing.assert_allclose(_proba(other, data), reached, atol=1e-6)
