from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from dvme.heads import logistic
from dvme.heads.logistic import LogisticFit, fit_logistic


def _data(n_rows: int, dim: int, n_classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, dim))
    labels = np.arange(n_rows) % n_classes
    scales = np.logspace(0, -3, dim)  # ill-conditioned, as features of a network are
    return (centres[labels] + 2.0 * rng.normal(size=(n_rows, dim))) * scales + 5.0, labels


def _fit(
    features: NDArray[np.float64], labels: NDArray[np.int64], masks: NDArray[np.bool_], l2: list[float], n_classes: int
) -> LogisticFit:
    strengths = torch.tensor(l2, dtype=torch.float64)
    return fit_logistic(
        torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(masks), strengths, n_classes
    )


def _objective(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    intercepts: NDArray[np.float64],
) -> float:
    """The loss written out a row at a time."""
    total = 0.0
    for row, label in zip(features, labels, strict=True):
        logits = row @ weights + intercepts
        peak = logits.max()
        total += peak + np.log(np.exp(logits - peak).sum()) - logits[label]
    return float(total)


@pytest.mark.parametrize(("n_rows", "dim"), [(120, 20), (30, 80)], ids=["tall", "wide"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_fit_logistic__same_optimum_as_scikit_learn(n_rows: int, dim: int, n_classes: int) -> None:
    features, labels = _data(n_rows, dim, n_classes, seed=1)
    l2 = [1e-2, 1.0, 30.0]
    fit = _fit(features, labels, np.ones((3, n_rows), bool), l2, n_classes)
    assert fit.is_converged.all()
    for index, strength in enumerate(l2):
        peer = LogisticRegression(C=1.0 / strength, solver="newton-cholesky", tol=1e-10).fit(features, labels)
        ours = np.asarray(torch.softmax(torch.from_numpy(features) @ fit.weights[index] + fit.intercepts[index], -1))
        np.testing.assert_allclose(ours, peer.predict_proba(features), atol=2e-4)
        losses = [-np.log(table[np.arange(n_rows), labels]).sum() for table in (ours, peer.predict_proba(features))]
        own_square = float(fit.weights[index].square().sum()) * (2 if n_classes == 2 else 1)
        reached = losses[0] + strength / 2 * own_square
        assert reached <= (losses[1] + strength / 2 * float((peer.coef_**2).sum())) * (1 + 1e-6)


def test_fit_logistic__objective_matches_rows_one_by_one() -> None:
    features, labels = _data(40, 6, 3, seed=2)
    mask = np.arange(40) % 2 == 0
    fit = _fit(features, labels, mask[None], [0.7], 3)
    weights, intercepts = fit.weights[0].numpy(), fit.intercepts[0].numpy()
    expected = _objective(features[mask], labels[mask], weights, intercepts) + 0.35 * float((weights**2).sum())
    assert float(fit.objectives[0]) == pytest.approx(expected, rel=1e-10)
    predicted = torch.from_numpy(features) @ fit.weights[0] + fit.intercepts[0]
    np.testing.assert_allclose(fit.logits[0].softmax(-1), predicted.softmax(-1), atol=1e-10)


def test_fit_logistic__rows_outside_the_mask_do_not_count() -> None:
    features, labels = _data(60, 10, 3, seed=3)
    mask = np.arange(60) < 40
    wrong, elsewhere = labels.copy(), features.copy()
    wrong[40:] = 0
    elsewhere[40:] += 7.0
    plain = _fit(features, labels, mask[None], [0.5], 3)
    changed = _fit(elsewhere, wrong, mask[None], [0.5], 3)
    np.testing.assert_allclose(plain.logits[0, :40].softmax(-1), changed.logits[0, :40].softmax(-1), atol=1e-4)
    np.testing.assert_allclose(plain.objectives, changed.objectives, rtol=1e-8)


def test_fit_logistic__a_job_does_not_depend_on_the_others() -> None:
    features, labels = _data(90, 12, 3, seed=4)
    masks = np.random.default_rng(0).random((5, 90)) < 0.6
    l2 = [0.01, 0.1, 1.0, 10.0, 100.0]
    together = _fit(features, labels, masks, l2, 3)
    for index in range(5):
        alone = _fit(features, labels, masks[index : index + 1], l2[index : index + 1], 3)
        np.testing.assert_allclose(together.logits[index].softmax(-1), alone.logits[0].softmax(-1), atol=1e-4)
        assert float(together.objectives[index]) == pytest.approx(float(alone.objectives[0]), rel=1e-8)


def test_fit_logistic__class_without_a_row_gets_no_probability() -> None:
    features, labels = _data(60, 8, 3, seed=5)
    mask = labels != 1
    fit = _fit(features, labels, mask[None], [1.0], 3)
    probabilities = fit.logits[0].softmax(-1)
    assert fit.is_converged.all()
    assert (probabilities[:, 1] == 0).all()
    # two classes are left under the three-class penalty: twice scikit-learn's two-class C
    peer = LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-10).fit(features[mask], labels[mask])
    np.testing.assert_allclose(probabilities[:, [0, 2]], peer.predict_proba(features), atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n_rows=st.integers(4, 40), dim=st.integers(1, 60), log_l2=st.floats(-4, 4))
def test_fit_logistic__never_above_scikit_learns_objective(seed: int, n_rows: int, dim: int, log_l2: float) -> None:
    features, labels = _data(n_rows, dim, 3, seed)
    l2 = 10.0**log_l2
    fit = _fit(features, labels, np.ones((1, n_rows), bool), [l2], 3)
    peer = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-8).fit(features, labels)
    best = _objective(features, labels, peer.coef_.T, peer.intercept_) + l2 / 2 * float((peer.coef_**2).sum())
    assert fit.is_converged.all()
    assert float(fit.objectives[0]) <= best * (1 + 1e-6)


def test_fit_logistic__all_rows_equal() -> None:
    fit = _fit(np.ones((6, 4)), np.array([0, 0, 0, 1, 1, 2]), np.ones((1, 6), bool), [1.0], 3)
    np.testing.assert_allclose(fit.logits[0].softmax(-1), np.tile([3 / 6, 2 / 6, 1 / 6], (6, 1)), atol=1e-4)


def test_fit_logistic__a_search_that_finds_nothing_far_from_the_optimum_is_not_called_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logistic, "MAX_HALVINGS", 0)
    features, labels = _data(40, 6, 3, seed=2)
    assert not _fit(features, labels, np.ones((2, 40), bool), [0.1, 1.0], 3).is_converged.any()
