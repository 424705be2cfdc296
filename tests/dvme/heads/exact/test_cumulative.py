from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, log_loss

from dvme.errors import DataError
from dvme.heads.exact.cumulative import cumulative_log_proba, fit_cumulative
from dvme.heads.exact.linear import FittedLinear, Linear
from dvme.heads.exact.logistic import LogisticFit, fit_logistic
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.fusion.controls import Concat, FittedConcat, MeanLogits

STRENGTHS = (0.01, 0.3, 10.0)


def _drawn(n: int, dim: int, n_classes: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, dim)) + 1.0
    scores = rows @ rng.normal(size=dim) / 2 + n_classes / 2 + rng.normal(size=n)
    return rows, np.clip(np.round(scores), 0, n_classes - 1).astype(np.int64)


def _fit(rows: NDArray[Any], labels: NDArray[Any], n_classes: int, weights: NDArray[Any] | None = None) -> LogisticFit:
    own = None if weights is None else [torch.from_numpy(weights)]
    strengths = [torch.tensor(STRENGTHS, dtype=torch.float64)]
    given = [torch.from_numpy(rows)], [torch.from_numpy(labels)], strengths, n_classes, own
    return fit_logistic(*given, solve=fit_cumulative)[0]


def _probabilities(rows: NDArray[Any], w: NDArray[Any], cuts: NDArray[Any]) -> NDArray[Any]:
    """(n, C) as differences of sigmoids."""
    above = np.column_stack([np.ones(len(rows)), expit((rows @ w)[:, None] + cuts), np.zeros(len(rows))])
    return above[:, :-1] - above[:, 1:]


def _slowly(rows: NDArray[Any], labels: NDArray[Any], strength: float, weights: NDArray[Any]) -> tuple[float, Any, Any]:
    """The least of the same objective by a general optimiser, with gaps between the cuts as exponentials."""
    dim, n_cuts = rows.shape[1], int(labels.max())

    def apart(p: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        return p[:dim], p[dim] - np.concatenate([[0.0], np.cumsum(np.exp(p[dim + 1 :]))])

    def objective(p: NDArray[Any]) -> float:
        w, cuts = apart(p)
        own = _probabilities(rows, w, cuts)[np.arange(len(rows)), labels]
        return float(-(weights * np.log(own)).sum() + strength / 2 * w @ w)

    start = np.concatenate([np.zeros(dim), [1.0], np.zeros(n_cuts - 1)])
    found = minimize(objective, start, method="BFGS", options={"gtol": 1e-8, "maxiter": 3000})
    return found.fun, *apart(found.x)


@pytest.mark.parametrize(("n", "dim", "n_classes"), [(60, 6, 4), (24, 30, 3), (50, 4, 5)])
def test_fit_cumulative__is_the_optimum_of_a_general_optimiser(n: int, dim: int, n_classes: int) -> None:
    rows, labels = _drawn(n, dim, n_classes)
    assert len(np.unique(labels)) == n_classes
    weights = np.random.default_rng(1).uniform(0.5, 2.0, n)
    fit = _fit(rows, labels, n_classes, weights)
    assert fit.is_converged.all()
    for place, strength in enumerate(STRENGTHS):
        value, w, cuts = _slowly(rows, labels, strength, weights)
        assert float(fit.objectives[place]) == pytest.approx(value, abs=1e-8 * max(1.0, value))
        np.testing.assert_allclose(fit.weights[place, :, 0], w, atol=2e-5)
        np.testing.assert_allclose(fit.intercepts[place], cuts, atol=2e-4)


def test_fit_cumulative__without_a_penalty_as_published_software() -> None:
    """statsmodels 0.15's OrderedModel(distr="logit"), method "bfgs", on these rows."""
    places = np.arange(40.0)
    rows = np.column_stack([np.sin(places), np.cos(1.7 * places), places % 5 - 2.0])
    labels = np.digitize(rows @ [1.0, -0.5, 0.4] + 1.5 * np.sin(3.1 * places), [-0.8, 0.2, 1.2]).astype(np.int64)
    strengths = [torch.tensor([1e-10], dtype=torch.float64)]
    given = [torch.from_numpy(rows)], [torch.from_numpy(labels)], strengths, 4
    fit = fit_logistic(*given, solve=fit_cumulative)[0]
    np.testing.assert_allclose(fit.weights[0, :, 0], OF_STATSMODELS[:3], atol=1e-4)
    np.testing.assert_allclose(-fit.intercepts[0].numpy(), OF_STATSMODELS[3:], atol=1e-4)


OF_STATSMODELS = (1.42486, -0.655589, 0.503812, -1.039008, -0.054032, 1.686389)
"""Coefficients, then thresholds."""


def test_fit_cumulative__of_two_classes_is_logistic_regression() -> None:
    rows, labels = _drawn(50, 5, 2)
    fit = _fit(rows, labels, 2)
    for place, strength in enumerate(STRENGTHS):
        peer = LogisticRegression(C=1 / strength, solver="newton-cholesky", tol=1e-12).fit(rows, labels)
        np.testing.assert_allclose(fit.weights[place, :, 0], peer.coef_[0], atol=1e-6)
        np.testing.assert_allclose(fit.intercepts[place], peer.intercept_, atol=1e-6)


@pytest.mark.parametrize("absent", [(0,), (2,), (4,), (0, 1, 4), (1, 2, 3)])
def test_fit_cumulative__a_class_without_a_row_gets_no_probability(absent: tuple[int, ...]) -> None:
    rows, labels = _drawn(60, 4, 5)
    present = np.setdiff1d(np.arange(5), absent)
    kept = np.isin(labels, present)
    fit = _fit(rows[kept], labels[kept], 5)
    alone = _fit(rows[kept], np.searchsorted(present, labels[kept]), len(present))
    logits = rows @ fit.weights[1].numpy() + fit.intercepts[1].numpy()
    found = np.exp(cumulative_log_proba(logits))
    np.testing.assert_array_equal(found[:, absent], 0.0)
    expected = _probabilities(rows, alone.weights[1, :, 0].numpy(), alone.intercepts[1].numpy())
    np.testing.assert_allclose(found[:, present], expected, atol=1e-9)


def test_fit_cumulative__one_class_is_certain() -> None:
    rows, _ = _drawn(9, 3, 3)
    fit = _fit(rows, np.ones(9, dtype=np.int64), 3)
    found = cumulative_log_proba(rows @ fit.weights[0].numpy() + fit.intercepts[0].numpy())
    np.testing.assert_array_equal(found, np.array([[-np.inf, 0.0, -np.inf]] * 9))


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=5), st.floats(-30, 30))
@settings(max_examples=60, deadline=None)
def test_cumulative_log_proba__are_differences_of_sigmoids(cuts: list[float], score: float) -> None:
    falling = np.sort(np.array(cuts))[::-1]
    logs = cumulative_log_proba((score + falling)[None])
    expected = _probabilities(np.array([[score]]), np.ones(1), falling)
    np.testing.assert_allclose(np.exp(logs), expected, atol=1e-12)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-12)


def test_cumulative_log_proba__keeps_apart_what_as_probabilities_are_0() -> None:
    logs = cumulative_log_proba(np.array([[900.0, 800.0], [-800.0, -900.0]]))
    assert logs[0, 0] == pytest.approx(-900.0)
    assert logs[0, 1] == pytest.approx(-800.0)
    assert logs[1, 2] == pytest.approx(-900.0)


N, C = 120, 4


def _data(seed: int = 3) -> Embedded:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, N)
    embeddings = {
        name: (signal * labels[:, None] * rng.normal(size=dim) + rng.normal(size=(N, dim))).astype(np.float32)
        for name, signal, dim in (("a", 0.5, 30), ("b", 0.3, 20))
    }
    return Embedded(embeddings, labels, C)


def _job(n_train: int, head: Any = None, backbones: tuple[str, ...] = ("a",)) -> Job:
    head = head or Linear(link="cumulative", strengths=(1e-4, 1e-2, 1.0))
    return Job(head, backbones, np.arange(n_train), np.arange(80, 120))


def test_linear__by_cumulative_link_takes_the_strength_of_the_least_log_loss() -> None:
    data, job = _data(), _job(70)
    head = fit_jobs([job], data)[0]
    assert isinstance(head, FittedLinear)
    rows = data.embeddings["a"][job.train].astype(float)
    spread = float(np.square(rows - rows.mean(axis=0)).sum())
    every = [
        fit_jobs([replace(job, head=replace(job.head, strengths=(each,)))], data)[0] for each in job.head.strengths
    ]
    chosen = [each.predict_proba([data.embeddings["a"][job.validation]]) for each in every]
    best = int(np.argmin([log_loss(data.labels[job.validation], p, labels=np.arange(C)) for p in chosen]))
    assert head.chosen["strength"] == job.head.strengths[best]
    strengths = [torch.tensor([job.head.strengths[best] * spread], dtype=torch.float64)]
    given = [torch.from_numpy(rows)], [torch.from_numpy(data.labels[job.train])], strengths, C
    fit = fit_logistic(*given, solve=fit_cumulative)[0]
    expected = _probabilities(
        data.embeddings["a"].astype(float), fit.weights[0, :, 0].numpy(), fit.intercepts[0].numpy()
    )
    np.testing.assert_allclose(head.predict_proba([data.embeddings["a"]]), expected, atol=1e-7)
    assert head.arrays()["weights"].shape == (30, 1)


def test_linear__jobs_by_cumulative_link_do_not_depend_on_each_other() -> None:
    """Together they share one Gram matrix; some have more rows than values."""
    data, jobs = _data(), [_job(n) for n in (20, 24, 28, 60)]
    for together, job in zip(fit_jobs(jobs, data), jobs, strict=True):
        alone = fit_jobs([job], data)[0]
        found, expected = (each.predict_proba([data.embeddings["a"]]) for each in (together, alone))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_linear__of_two_classes_takes_no_heed_of_the_link() -> None:
    data = replace(_data(), labels=_data().labels // 2, n_classes=2)
    plain, linked = fit_jobs([_job(60, Linear()), _job(60, Linear(link="cumulative"))], data)
    rows = [data.embeddings["a"]]
    np.testing.assert_allclose(plain.predict_proba(rows), linked.predict_proba(rows), atol=1e-9)


@pytest.mark.parametrize("kind", [Concat, MeanLogits])
def test_controls__by_cumulative_link(kind: Any) -> None:
    data, linear = _data(), Linear(link="cumulative", strengths=(1e-2,))
    rows = data.blocks(("a", "b"), slice(None))
    head = fit_jobs([_job(70, kind(linear), ("a", "b"))], data)[0]
    found = head.predict_proba(rows)
    assert found.shape == (N, C)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    restored = type(head).restored(head.settings(), head.arrays())
    np.testing.assert_array_equal(restored.predict_proba(rows), found)
    if kind is MeanLogits:
        parts = [fit_jobs([_job(70, linear, (name,))], data)[0] for name in ("a", "b")]
        odds = [each.logits(block) for each, block in zip(parts, rows, strict=True)]  # type: ignore[attr-defined]
        above = expit(np.mean(odds, axis=0))
        np.testing.assert_allclose(found[:, 0], 1.0 - above[:, 0], atol=1e-12)
        np.testing.assert_allclose(found[:, -1], above[:, -1], atol=1e-12)


@pytest.mark.parametrize("link", ["softmax", "cumulative"])
def test_linear__cuts_for_kappa_leave_probabilities_as_they_are(link: str) -> None:
    data, strengths = _data(), (1e-2,)
    plain, tuned = fit_jobs(
        [_job(70, Linear(strengths, link=link)), _job(70, Linear(strengths, link=link, tune="kappa"))], data
    )
    rows = [data.embeddings["a"][80:]]
    np.testing.assert_array_equal(plain.predict_proba(rows), tuned.predict_proba(rows))
    grades, truth = tuned.predict_proba(rows) @ np.arange(C), data.labels[80:]
    taken = (grades[:, None] > tuned.chosen["cuts"]).sum(axis=1)
    kappa = cohen_kappa_score(truth, taken, weights="quadratic")
    assert kappa > cohen_kappa_score(truth, plain.predict_proba(rows).argmax(axis=1), weights="quadratic")
    assert "cuts" not in plain.chosen
    assert tuned.settings()["chosen"]["cuts"] == tuned.chosen["cuts"]


def test_linear__without_two_classes_on_validation_nothing_is_tuned() -> None:
    data = _data()
    job = replace(_job(70, Linear(tune="kappa")), validation=np.array([], dtype=np.int64))
    assert "cuts" not in fit_jobs([job], data)[0].chosen


def test_concat__is_tuned_as_linear_is() -> None:
    head = fit_jobs([_job(70, Concat(Linear((1e-2,), tune="kappa")), ("a", "b"))], _data())[0]
    assert isinstance(head, FittedConcat)
    assert len(head.chosen["cuts"]) == C - 1


def test_linear__several_labels_are_in_no_order() -> None:
    cells = Embedded({"a": _data().embeddings["a"]}, np.eye(C, dtype=np.float32)[_data().labels], C)
    for head in (Linear(link="cumulative"), Linear(tune="kappa")):
        with pytest.raises(DataError, match="have no order of classes"):
            fit_jobs([_job(70, head)], cells)
