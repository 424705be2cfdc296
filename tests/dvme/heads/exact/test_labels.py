from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dvme.errors import DataError, OptionError
from dvme.heads.exact.footprint import Footprint
from dvme.heads.exact.gram_pool import pooled
from dvme.heads.exact.linear import STRENGTHS, FittedLinear, Linear
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.runtime import Runtime

N, L, DIM = 130, 4, 30
FEW, MANY = 26, 70
"""Training rows below and above the number of dimensions."""


def _data(seed: int = 0, unknown: float = 0.3, soft: float = 0.0) -> Embedded:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, DIM)) * np.logspace(0, -1, DIM) + 2.0
    signs = (features - 2.0) @ rng.normal(size=(DIM, L)) + rng.normal(size=(N, L))
    cells = (signs > [0.0, 0.5, -0.5, 0.0]).astype(np.float32)
    cells[rng.random(cells.shape) < soft] = 0.7
    cells[rng.random(cells.shape) < unknown] = np.nan
    cells[np.isnan(cells).all(axis=1), 0] = 1.0
    return Embedded({"a": features.astype(np.float32)}, cells, L)


def _job(n_train: int, n_validation: int = 50) -> Job:
    return Job(Linear(), ("a",), np.arange(n_train), np.arange(n_train, n_train + n_validation))


def _fit(jobs: list[Job], data: Embedded, runtime: Runtime | None = None) -> list[FittedLinear]:
    heads = fit_jobs(jobs, data, runtime=runtime)
    assert all(isinstance(head, FittedLinear) for head in heads)
    return heads  # type: ignore[return-value]


def _logits(head: FittedLinear, data: Embedded) -> NDArray[np.float64]:
    return head.logits(data.embeddings["a"])


def _peers(data: Embedded, job: Job, label: int) -> list[LogisticRegression]:
    """scikit-learn on the rows where the label is known, at each strength; a soft label is two rows with weights."""
    cells = data.labels[job.train, label].astype(float)
    known = job.train[~np.isnan(cells)]
    rows, part = data.embeddings["a"][known].astype(float), data.labels[known, label].astype(float)
    counts = np.ones(len(known)) if data.weights is None else data.weights[known]
    mean = counts @ rows / counts.sum()
    scale = float(counts @ np.square(rows - mean).sum(axis=1))
    twice, truth = np.concatenate([rows, rows]), np.repeat([1, 0], len(rows))
    weights = np.concatenate([part * counts, (1.0 - part) * counts])
    return [
        LogisticRegression(C=1 / (strength * scale), solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(
            twice, truth, sample_weight=weights
        )
        for strength in STRENGTHS
    ]


def _check_against_scikit_learn(head: FittedLinear, data: Embedded, job: Job) -> None:
    features = data.embeddings["a"].astype(float)
    assert head.chosen["is_converged"]
    for label in range(L):
        truth = data.truth_of(job.validation)[:, label]
        judges = ~np.isnan(truth)
        counts = None if data.weights is None else data.weights[job.validation][judges]
        peers = _peers(data, job, label)
        losses = [
            log_loss(truth[judges], peer.predict_proba(features[job.validation[judges]])[:, 1], sample_weight=counts)
            for peer in peers
        ]
        best = int(np.argmin(losses))
        assert head.chosen["strength"][label] == STRENGTHS[best]
        np.testing.assert_allclose(head.logits(features)[:, label], peers[best].decision_function(features), atol=1e-5)


@pytest.mark.parametrize("n_train", [FEW, MANY])
@pytest.mark.parametrize("seed", [0, 1])
def test_linear__each_label_is_scikit_learns_on_its_own_rows(n_train: int, seed: int) -> None:
    data, job = _data(seed), _job(n_train)
    _check_against_scikit_learn(_fit([job], data)[0], data, job)


@pytest.mark.parametrize("n_train", [FEW, MANY])
def test_linear__soft_labels_are_cross_entropy_and_judge_nothing(n_train: int) -> None:
    data, job = _data(2, soft=0.3), _job(n_train)
    assert (data.labels == np.float32(0.7)).any()
    head = _fit([job], data)[0]
    _check_against_scikit_learn(head, data, job)
    truth = np.where(data.labels == np.float32(0.7), np.nan, data.labels)
    assert _fit([job], replace(data, truth=truth))[0].chosen == head.chosen
    other = np.where(np.isnan(truth), 1.0, truth)
    assert _fit([job], replace(data, truth=other))[0].chosen != head.chosen


@pytest.mark.parametrize("n_train", [FEW, MANY])
def test_linear__weights_are_repeated_rows_for_every_label(n_train: int) -> None:
    weights = np.random.default_rng(3).integers(0, 4, N)
    data, job = _data(3), _job(n_train)
    weighted = replace(data, weights=weights.astype(float))
    head = _fit([job], weighted)[0]
    _check_against_scikit_learn(head, weighted, replace(job, train=job.train[weights[job.train] > 0]))
    repeated = replace(job, **{side: np.repeat(rows, weights[rows]) for side, rows in _sides(job).items()})
    plain = _fit([repeated], data)[0]
    assert plain.chosen == head.chosen
    np.testing.assert_allclose(_logits(head, data), _logits(plain, data), atol=1e-6)


def _sides(job: Job) -> dict[str, NDArray[np.int64]]:
    return {"train": job.train, "validation": job.validation}


@pytest.mark.parametrize("n_train", [FEW, MANY])
def test_linear__a_masked_label_is_fitted_as_if_its_other_rows_were_not_there(n_train: int) -> None:
    data, job = _data(4), _job(n_train)
    together = _fit([job], data)[0]
    for label in range(L):
        cells = data.labels[:, label]
        own = replace(job, **{side: rows[~np.isnan(cells[rows])] for side, rows in _sides(job).items()})
        alone = _fit([own], Embedded(data.embeddings, cells[:, None], 1))[0]
        assert alone.chosen["strength"] == [together.chosen["strength"][label]]
        np.testing.assert_allclose(_logits(alone, data)[:, 0], _logits(together, data)[:, label], atol=1e-6)
        # and as the same two classes that exclude each other
        classes = Embedded(data.embeddings, np.nan_to_num(cells).astype(int), 2)
        pair = _fit([own], classes)[0]
        assert pair.chosen["strength"] == together.chosen["strength"][label]
        difference = pair.logits(data.embeddings["a"]) @ [-1.0, 1.0]
        np.testing.assert_allclose(difference, _logits(together, data)[:, label], atol=1e-6)


def test_linear__rows_that_know_nothing_change_nothing() -> None:
    data, job = _data(5), _job(MANY)
    cells = data.labels.copy()
    cells[::7] = np.nan
    masked = replace(data, labels=cells)
    kept = replace(job, **{side: rows[rows % 7 > 0] for side, rows in _sides(job).items()})
    one, other = _fit([job], masked)[0], _fit([kept], data)[0]
    np.testing.assert_array_equal(one.weights, other.weights)


def test_linear__labels_with_one_value_are_constant_and_named() -> None:
    data, job = _data(6), _job(MANY)
    cells = data.labels.copy()
    cells[:MANY, 0] = np.where(np.isnan(cells[:MANY, 0]), np.nan, 0.0)
    cells[:MANY, 1] = 1.0
    cells[:MANY, 3] = np.nan
    head = _fit([job], replace(data, labels=cells))[0]
    assert head.chosen["constant_labels"] == [0, 1, 3]
    strengths = head.chosen["strength"]
    assert [strengths[label] for label in (0, 1, 3)] == [None] * 3
    assert strengths[2] in STRENGTHS
    probabilities = head.predict_proba([data.embeddings["a"]])
    assert (probabilities[:, [0, 1, 3]] == [0.0, 1.0, 0.5]).all()
    usual = _fit([job], data)[0]
    assert strengths[2] == usual.chosen["strength"][2]
    np.testing.assert_allclose(head.logits(data.embeddings["a"])[:, 2], _logits(usual, data)[:, 2], atol=1e-6)
    assert head.log_proba([data.embeddings["a"]])[0, :2].tolist() == [-np.inf, 0.0]


def test_linear__only_a_part_of_a_label_is_its_constant() -> None:
    data, job = _data(7), _job(MANY)
    cells = data.labels.copy()
    cells[:, 2] = np.where(np.isnan(cells[:, 2]), np.nan, np.float32(0.25))
    head = _fit([job], replace(data, labels=cells))[0]
    assert head.chosen["constant_labels"] == [2]
    np.testing.assert_allclose(head.predict_proba([data.embeddings["a"]])[:, 2], 0.25)


@pytest.mark.parametrize("judge", [0.0, 1.0, np.nan])
def test_linear__without_both_values_on_validation_the_middle_of_the_path(judge: float) -> None:
    data, job = _data(8), _job(MANY)
    truth = data.labels.copy()
    truth[:, 1] = np.where(np.isnan(truth[:, 1]), np.nan, judge)
    usual, head = _fit([job], data)[0], _fit([job], replace(data, truth=truth))[0]
    expected = list(usual.chosen["strength"])
    expected[1] = STRENGTHS[5]
    assert head.chosen["strength"] == expected
    assert _fit([_job(MANY, 0)], data)[0].chosen["strength"] == [STRENGTHS[5]] * L


@pytest.mark.parametrize("n_train", [FEW, MANY])
def test_linear__the_path_in_parts_and_several_jobs_together(n_train: int) -> None:
    data = _data(9)
    jobs = [_job(n_train), Job(Linear(), ("a",), np.arange(n_train - 3) + 9, np.arange(100, 130))]
    whole = _fit(jobs, data)
    footprint = Footprint(DIM, L, is_multilabel=True)
    for memory in (footprint(n_train, 1), footprint(n_train, 4)):
        for one, other in zip(whole, _fit(jobs, data, Runtime(memory=memory)), strict=True):
            assert one.chosen == other.chosen
            np.testing.assert_allclose(_logits(one, data), _logits(other, data), atol=1e-6)
    with pytest.raises(OptionError, match="needs"):
        _fit(jobs, data, Runtime(memory=footprint(n_train, 1) - 1))
    assert Linear().least_bytes(n_train, [DIM], L, is_multilabel=True) == footprint(n_train, 1)
    for alone, job in zip(whole, jobs, strict=True):
        again = _fit([job], data)[0]
        np.testing.assert_allclose(_logits(alone, data), _logits(again, data), atol=1e-6)
        np.testing.assert_array_equal(again.weights, _fit([job], data)[0].weights)


def test_linear__from_a_shared_gram_matrix() -> None:
    rng = np.random.default_rng(10)
    wide = rng.normal(size=(60, 150)).astype(np.float32) + 3.0
    cells = (wide[:, :L] + rng.normal(size=(60, L)) > 3.0).astype(np.float32)
    cells[rng.random(cells.shape) < 0.3] = np.nan
    data = Embedded({"a": wide}, cells, L)
    orders = [rng.permutation(60) for _ in range(4)]
    jobs = [Job(Linear(), ("a",), order[:40], order[40:]) for order in orders]
    assert pooled(jobs, wide, 1 << 30) is not None
    for job, together in zip(jobs, _fit(jobs, data), strict=True):
        alone = _fit([job], data)[0]
        assert pooled([job], wide, 1 << 30) is None
        assert alone.chosen == together.chosen
        np.testing.assert_allclose(_logits(alone, data), _logits(together, data), atol=1e-6)


def test_linear__a_label_that_is_known_on_equal_rows_only() -> None:
    """Its rows have no spread, which the strengths are relative to; rows stand for it, as of a single label."""
    data, job = _data(11), _job(FEW)
    features, cells = data.embeddings["a"].copy(), data.labels.copy()
    features[:4] = features[0]
    cells[:FEW, 1] = np.nan
    cells[:4, 1] = [0, 1, 1, 0]
    other = Job(Linear(), ("a",), np.arange(FEW)[::-1].copy(), job.validation)
    equal = Embedded({"a": features}, cells, L)
    for head in _fit([job, other], equal):
        assert head.chosen["is_converged"]
        np.testing.assert_allclose(head.predict_proba([features])[:, 1], 0.5, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(2, 40), dim=st.integers(1, 60), unknown=st.sampled_from([0.0, 0.5, 0.9])
)
def test_linear__any_cells_give_probabilities(seed: int, n: int, dim: int, unknown: float) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n + 10, dim)).astype(np.float32).round(int(rng.integers(0, 3)))
    cells = rng.choice([0.0, 1.0, 0.5], (n + 10, 3), p=[0.6, 0.3, 0.1]).astype(np.float32)
    cells[rng.random(cells.shape) < unknown] = np.nan
    cells[0] = [0, 1, np.nan]
    (head,) = fit_jobs([Job(Linear(), ("a",), np.arange(n), np.arange(n, n + 10))], Embedded({"a": features}, cells, 3))
    probabilities = head.predict_proba([features])
    assert ((probabilities >= 0.0) & (probabilities <= 1.0)).all()
    assert head.chosen["is_converged"]


@pytest.mark.parametrize("bad", [-1.0, 1.5, np.inf])
def test_fit_jobs__impossible_cells(bad: float) -> None:
    data = _data(12, unknown=0.0)
    data.labels[3, 1] = bad
    with pytest.raises(DataError, match=r"^1 of 280 cells are not from 0 to 1; pass nan for what is not known$"):
        fit_jobs([_job(MANY)], data)
    fit_jobs([replace(_job(MANY), train=np.arange(4, MANY))], data)


def test_fit_jobs__another_number_of_labels_and_nothing_known() -> None:
    data = _data(13)
    with pytest.raises(DataError, match="there are 5 of them"):
        fit_jobs([_job(MANY)], replace(data, n_classes=5))
    with pytest.raises(DataError, match="has no training rows"):
        fit_jobs([_job(MANY)], replace(data, labels=np.full((N, L), np.nan, dtype=np.float32)))


def _restored(head: FittedHead) -> FittedHead:
    return type(head).restored(head.settings(), head.arrays())


def test_linear__restored() -> None:
    data, job = _data(14), _job(MANY)
    head = _fit([job], data)[0]
    again = _restored(head)
    assert again.chosen == head.chosen
    np.testing.assert_array_equal(
        again.predict_proba([data.embeddings["a"]]), head.predict_proba([data.embeddings["a"]])
    )
