from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import normalize

from dvme.heads import Embedded, FittedHead, Head, Job, fit_jobs, get_head
from dvme.heads.exact.linear import FittedLinear, Linear
from dvme.heads.fitting.jobs import fit_each
from dvme.heads.fusion.controls import Concat, FittedMeanLogits, MeanLogits, concatenated
from dvme.heads.neighbours.knn import KNN

STRENGTHS = (1e-4, 1e-2, 1.0)
LIGHT = Linear((1e-2,))
"""For what has nothing to do with the choice among several."""
N = 120


def _data(seed: int = 0) -> Embedded:
    """`a` knows more than `b`, and its units are another."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 3
    a = 30.0 * (rng.normal(size=(3, 7))[labels] + rng.normal(size=(N, 7)))
    b = 0.5 * rng.normal(size=(3, 5))[labels] + rng.normal(size=(N, 5))
    return Embedded({"a": a.astype(np.float32), "b": b.astype(np.float32)}, labels, 3)


def _jobs(head: Head, backbones: tuple[str, ...] = ("a", "b"), n_jobs: int = 2) -> list[Job]:
    rows = np.arange(N)
    parts = [rows[start::4] for start in range(n_jobs)]
    return [Job(head, backbones, np.setdiff1d(rows, part), part) for part in parts]


def _peers(features: NDArray[np.float64], labels: NDArray[np.int64], job: Job) -> list[LogisticRegression]:
    """scikit-learn's fits on the training rows, one for each strength."""
    train = features[job.train]
    scale = ((train - train.mean(0)) ** 2).sum(1).mean() * len(train)
    return [
        LogisticRegression(C=1 / (strength * scale), max_iter=5000, tol=1e-10).fit(train, labels[job.train])
        for strength in STRENGTHS
    ]


def _best(peers: list[LogisticRegression], features: NDArray[np.float64], labels: NDArray[np.int64], job: Job) -> int:
    rows = job.validation
    return int(np.argmin([log_loss(labels[rows], peer.predict_proba(features[rows])) for peer in peers]))


def test_concat__is_logistic_regression_on_unit_vectors_side_by_side() -> None:
    data, jobs = _data(), _jobs(Concat(Linear(STRENGTHS)))
    features = np.hstack([normalize(data.embeddings[name].astype(np.float64)) for name in ("a", "b")])
    for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True):
        peers = _peers(features, data.labels, job)
        best = _best(peers, features, data.labels, job)
        assert fitted.chosen == {"strength": STRENGTHS[best], "is_converged": True}
        ours = fitted.predict_proba(data.blocks(("a", "b"), job.validation))
        np.testing.assert_allclose(ours, peers[best].predict_proba(features[job.validation]), atol=1e-4)


def test_mean_logits__averages_the_logits_of_one_regression_per_backbone() -> None:
    data, jobs = _data(), _jobs(MeanLogits(Linear(STRENGTHS)))
    for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True):
        logits, chosen = [], []
        for name in ("a", "b"):
            features = data.embeddings[name].astype(np.float64)
            peers = _peers(features, data.labels, job)
            best = _best(peers, features, data.labels, job)
            chosen.append(STRENGTHS[best])
            logits.append(peers[best].decision_function(features[job.validation]))
        odds = np.exp((logits[0] + logits[1]) / 2)
        assert fitted.chosen == {"strength": chosen, "is_converged": True}
        ours = fitted.predict_proba(data.blocks(("a", "b"), job.validation))
        np.testing.assert_allclose(ours, odds / odds.sum(axis=1, keepdims=True), atol=1e-3)


def test_mean_logits__every_backbone_chooses_a_strength_of_its_own() -> None:
    data, jobs = _data(), _jobs(MeanLogits(Linear(STRENGTHS)))
    alone = {name: fit_jobs(_jobs(Linear(STRENGTHS), (name,)), data) for name in ("a", "b")}
    found = [fitted.chosen["strength"] for fitted in fit_jobs(jobs, data)]
    assert found == [[alone[name][fold].chosen["strength"] for name in ("a", "b")] for fold in (0, 1)]
    assert any(one != other for one, other in found)


def _by_hand() -> FittedMeanLogits:
    one = FittedLinear(np.array([[np.log(4.0), 0.0]]), np.zeros(2), {"strength": 1.0, "is_converged": True})
    other = FittedLinear(np.array([[0.0, 0.0]]), np.array([0.0, np.log(9.0)]), {"strength": 2.0, "is_converged": False})
    return FittedMeanLogits((one, other))


def test_fitted_mean_logits__by_hand() -> None:
    """Odds 4:1 and 1:9 have the geometric mean 2:3; the arithmetic mean of 0.8 and 0.1 would be 0.45."""
    blocks = [np.ones((1, 1), dtype=np.float32)] * 2
    np.testing.assert_allclose(_by_hand().predict_proba(blocks), [[0.4, 0.6]])
    assert _by_hand().chosen == {"strength": [1.0, 2.0], "is_converged": False}


def test_fitted_mean_logits__large_logits_do_not_overflow() -> None:
    blocks = [np.array([[2000.0], [-2000.0]], dtype=np.float32), np.ones((2, 1), dtype=np.float32)]
    np.testing.assert_allclose(_by_hand().predict_proba(blocks), [[1.0, 0.0], [0.0, 1.0]])


def test_fitted_mean_logits__each_backbone_goes_to_its_own_regression() -> None:
    fitted = _by_hand()
    two, one = np.full((1, 1), 2.0), np.ones((1, 1))
    np.testing.assert_allclose(fitted.predict_proba([two, one]), [[4 / 7, 3 / 7]])  # 16:1 and 1:9
    np.testing.assert_allclose(fitted.predict_proba([one, two]), [[0.4, 0.6]])
    with pytest.raises(ValueError, match="zip"):
        fitted.predict_proba([one])


def test_concatenated__rows_of_length_one_each_side_by_side() -> None:
    blocks = [np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[-2.0], [5.0]])]
    np.testing.assert_allclose(concatenated(blocks), [[0.6, 0.8, -1.0], [0.0, 0.0, 1.0]], rtol=1e-7)
    assert concatenated(blocks).dtype == np.float32


def test_concat__no_backbone_outweighs_another_by_its_units() -> None:
    """A power of two changes no bit of what is scaled to length 1."""
    data, jobs = _data(), _jobs(Concat(LIGHT))
    scaled = Embedded({"a": data.embeddings["a"] * 1024, "b": data.embeddings["b"] / 64}, data.labels, 3)
    for one, other in zip(fit_jobs(jobs, data), fit_jobs(jobs, scaled), strict=True):
        np.testing.assert_array_equal(
            one.predict_proba(data.blocks(("a", "b"), slice(None))),
            other.predict_proba(scaled.blocks(("a", "b"), slice(None))),
        )


def test_concat__half_precision_is_read_as_it_is() -> None:
    data = _data()
    half = {name: values.astype(np.float16) for name, values in data.embeddings.items()}
    same = {name: values.astype(np.float32) for name, values in half.items()}
    jobs = _jobs(Concat(LIGHT), n_jobs=1)
    (one,), (other,) = (fit_jobs(jobs, Embedded(some, data.labels, 3)) for some in (half, same))
    blocks = [half["a"], half["b"]]
    np.testing.assert_array_equal(one.predict_proba(blocks), other.predict_proba(blocks))


@pytest.mark.parametrize("head", [Concat(LIGHT), MeanLogits(LIGHT)], ids=["concat", "mean-logits"])
def test_controls__a_class_that_training_lacks_gets_no_probability(head: Head) -> None:
    data = _data()
    rows = np.flatnonzero(data.labels != 1)
    (fitted,) = fit_jobs([Job(head, ("a", "b"), rows[:40], rows[40:60])], data)
    probabilities = fitted.predict_proba(data.blocks(("a", "b"), slice(None)))
    assert (probabilities[:, 1] == 0.0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize("head", [Concat(LIGHT), MeanLogits(LIGHT)], ids=["concat", "mean-logits"])
def test_controls__fewer_rows_than_classes(head: Head) -> None:
    (fitted,) = fit_jobs([Job(head, ("a", "b"), np.array([0, 1]), np.array([3, 4, 5]))], _data())
    probabilities = fitted.predict_proba(_data().blocks(("a", "b"), slice(None)))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize("head", [Concat(LIGHT), MeanLogits(LIGHT)], ids=["concat", "mean-logits"])
def test_controls__a_job_does_not_depend_on_the_others(head: Head) -> None:
    """Nor on the order of its backbones, nor on names that read alike when they are joined."""
    data = _data()
    named = {"a": data.embeddings["a"], "b+c": data.embeddings["b"], "a+b": data.embeddings["a"] * 0.0 + 1.0}
    every = Embedded({**named, "c": data.embeddings["b"][:, :2].copy()}, data.labels, 3)
    pairs = [("a", "b+c"), ("a+b", "c"), ("b+c", "a")]
    jobs = [job for pair in pairs for job in _jobs(head, pair)]
    together = fit_jobs(jobs, every)
    for job, fitted in zip(jobs, together, strict=True):
        (alone,) = fit_jobs([job], every)
        blocks = every.blocks(job.backbones, slice(None))
        np.testing.assert_allclose(fitted.predict_proba(blocks), alone.predict_proba(blocks), atol=1e-4)
    for straight, turned in zip(together[:2], together[4:], strict=True):
        blocks = every.blocks(("a", "b+c"), slice(None))
        np.testing.assert_allclose(straight.predict_proba(blocks), turned.predict_proba(blocks[::-1]), atol=1e-4)


def test_fit_jobs__progress_counts_jobs_whatever_they_are_made_of() -> None:
    """Members of an ensemble are no jobs; networks that are through count before their group is."""
    network = get_head("linear-adam@max-epochs=2@min-epochs=1")
    heads = [Concat(LIGHT), MeanLogits(LIGHT), KNN((3,))]
    jobs = [job for head in heads[:2] for job in _jobs(head)]
    jobs += [job for head in (heads[2], network) for job in _jobs(head, ("a",))]
    told: list[tuple[str, int, int]] = []
    fitted = 0
    for fitted, one in enumerate(fit_each(jobs, _data(), progress=lambda *state: told.append(state))):
        assert one.head is not None
        assert fitted <= told[-1][1] <= len(jobs)
    assert fitted == len(jobs) - 1
    assert {(stage, total) for stage, _, total in told} == {("fit", 8)}
    assert [told[0][1], told[-1][1]] == [0, 8]
    assert all(one[1] <= other[1] for one, other in pairwise(told))


def test_fit_jobs__members_alone_are_not_counted() -> None:
    """Four regressions are two jobs: after three of them at most one job is done."""
    told: list[int] = []
    for one in fit_each(_jobs(MeanLogits(LIGHT)), _data(), progress=lambda _, done, __: told.append(done)):
        assert told[-1] <= one.position
    assert told[-1] == 2


@pytest.mark.parametrize("head", [Concat(LIGHT), MeanLogits(LIGHT)], ids=["concat", "mean-logits"])
def test_controls__learn_nothing_from_rows_outside_the_job(head: Head) -> None:
    data = _data()
    spoiled = {name: values.copy() for name, values in data.embeddings.items()}
    outside = np.arange(100, N)
    for values in spoiled.values():
        values[outside] = 1e6
    jobs = [Job(head, ("a", "b"), np.arange(80), np.arange(80, 100))]

    def probabilities(fitted: list[FittedHead]) -> NDArray[np.float64]:
        return fitted[0].predict_proba(data.blocks(("a", "b"), slice(None)))

    np.testing.assert_array_equal(
        probabilities(fit_jobs(jobs, data)), probabilities(fit_jobs(jobs, Embedded(spoiled, data.labels, 3)))
    )


def test_mean_logits__its_members_are_the_fits_of_linear_and_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backbones under `linear` and the ensemble of both: two fits, not four."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    data = Embedded({name: rng.normal(size=(60, 4)) + labels[:, None] for name in "ab"}, labels, 2)
    train, validation = np.arange(40), np.arange(40, 60)
    jobs = [Job(Linear(), (name,), train, validation) for name in "ab"]
    jobs.append(Job(MeanLogits(), ("a", "b"), train, validation))
    seen: list[int] = []
    original = Linear.fit_together

    def counted(some: list[Job], *arguments: object) -> object:
        seen.append(len(some))
        return original(some, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Linear, "fit_together", staticmethod(counted))
    first, second, ensemble = fit_jobs(jobs, data)
    assert seen == [2]
    logits = first.logits(data.embeddings["a"]) + second.logits(data.embeddings["b"])  # type: ignore[attr-defined]
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ensemble.predict_proba([data.embeddings["a"], data.embeddings["b"]]), expected)
