from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dvme.heads import linear
from dvme.heads.jobs import Job
from dvme.heads.linear import STRENGTHS, Linear


def _task(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[Job]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 3
    features = (rng.normal(size=(3, 30))[labels] + 2 * rng.normal(size=(200, 30))).astype(np.float32)
    order = rng.permutation(200)
    parts = np.array_split(order[:150], 3)
    jobs = [Job(np.concatenate(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(3)]
    return features, labels, jobs


def test_linear__strength_is_the_best_on_validation_of_a_loop_over_scikit_learn() -> None:
    features, labels, jobs = _task()
    for job, fitted in zip(jobs, Linear().fit(features, labels, 3, jobs), strict=True):
        train = features[job.train].astype(np.float64)
        scale = ((train - train.mean(0)) ** 2).sum(1).mean() * len(train)
        losses = []
        for strength in STRENGTHS:
            peer = LogisticRegression(C=1 / (strength * scale), max_iter=5000, tol=1e-8).fit(train, labels[job.train])
            losses.append(log_loss(labels[job.validation], peer.predict_proba(features[job.validation])))
        assert fitted.chosen["strength"] == STRENGTHS[int(np.argmin(losses))]
        ours = fitted.predict_proba(features[job.validation])
        assert log_loss(labels[job.validation], ours) == pytest.approx(min(losses), abs=1e-4)
        np.testing.assert_allclose(ours.sum(1), 1.0)


def test_linear__splitting_into_groups_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, jobs = _task(1)
    whole = Linear().fit(features, labels, 3, jobs)
    monkeypatch.setattr(linear, "MEMORY_BUDGET", 1)
    split = Linear().fit(features, labels, 3, jobs)
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(one.predict_proba(features), other.predict_proba(features), atol=1e-5)


def test_linear__rows_of_no_job_are_never_looked_at() -> None:
    features, labels, jobs = _task(2)
    used = np.unique(np.concatenate([np.concatenate([job.train, job.validation]) for job in jobs]))
    unused = np.setdiff1d(np.arange(200), used)
    assert len(unused) == 50
    spoiled, shuffled = features.copy(), labels.copy()
    spoiled[unused] = np.nan
    shuffled[unused] = 99
    for one, other in zip(
        Linear().fit(features, labels, 3, jobs), Linear().fit(spoiled, shuffled, 3, jobs), strict=True
    ):
        np.testing.assert_array_equal(one.predict_proba(features[used]), other.predict_proba(features[used]))


def test_linear__class_absent_from_training_gets_probability_zero() -> None:
    features, labels, _ = _task(3)
    rows = np.flatnonzero(labels != 2)
    fitted = Linear().fit(features, labels, 3, [Job(rows[:80], rows[80:])])[0]
    probabilities = fitted.predict_proba(features)
    assert (probabilities[:, 2] == 0).all()
    assert np.isfinite(probabilities).all()
