from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dvme.errors import DataError, OptionError
from dvme.heads.exact import linear
from dvme.heads.exact.footprint import Footprint
from dvme.heads.exact.gram_pool import pooled
from dvme.heads.exact.linear import STRENGTHS, Linear
from dvme.heads.exact.logistic import LogisticFit
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.runtime import Runtime


def _fit(features: np.ndarray, labels: np.ndarray, jobs: list[Job], runtime: Runtime | None = None) -> list[FittedHead]:
    return fit_jobs(jobs, Embedded({"a": features}, labels, 3), runtime=runtime)


def _task(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[Job]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 3
    features = (rng.normal(size=(3, 30))[labels] + 2 * rng.normal(size=(200, 30))).astype(np.float32)
    order = rng.permutation(200)
    parts = np.array_split(order[:150], 3)
    jobs = [Job(Linear(), ("a",), np.concatenate(parts[:i] + parts[i + 1 :]), parts[i]) for i in range(3)]
    return features, labels, jobs


def test_linear__strength_is_the_best_on_validation_of_a_loop_over_scikit_learn() -> None:
    features, labels, jobs = _task()
    for job, fitted in zip(jobs, _fit(features, labels, jobs), strict=True):
        train = features[job.train].astype(np.float64)
        scale = ((train - train.mean(0)) ** 2).sum(1).mean() * len(train)
        losses = []
        for strength in STRENGTHS:
            peer = LogisticRegression(C=1 / (strength * scale), max_iter=5000, tol=1e-8).fit(train, labels[job.train])
            losses.append(log_loss(labels[job.validation], peer.predict_proba(features[job.validation])))
        assert fitted.chosen["strength"] == STRENGTHS[int(np.argmin(losses))]
        ours = fitted.predict_proba([features[job.validation]])
        assert log_loss(labels[job.validation], ours) == pytest.approx(min(losses), abs=1e-4)
        np.testing.assert_allclose(ours.sum(1), 1.0)


def test_linear__splitting_into_groups_changes_nothing() -> None:
    features, labels, jobs = _task(1)
    whole = _fit(features, labels, jobs)
    split = _fit(features, labels, jobs, Runtime(memory=Footprint(30, 3)(100, len(STRENGTHS))))
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(one.predict_proba([features]), other.predict_proba([features]), atol=1e-5)


def test_linear__rows_of_no_job_are_never_looked_at() -> None:
    features, labels, jobs = _task(2)
    used = np.unique(np.concatenate([np.concatenate([job.train, job.validation]) for job in jobs]))
    unused = np.setdiff1d(np.arange(200), used)
    assert len(unused) == 50
    spoiled, shuffled = features.copy(), labels.copy()
    spoiled[unused] = np.nan
    shuffled[unused] = 99
    for one, other in zip(_fit(features, labels, jobs), _fit(spoiled, shuffled, jobs), strict=True):
        np.testing.assert_array_equal(one.predict_proba([features[used]]), other.predict_proba([features[used]]))


def test_linear__class_absent_from_training_gets_probability_zero() -> None:
    features, labels, _ = _task(3)
    rows = np.flatnonzero(labels != 2)
    fitted = _fit(features, labels, [Job(Linear(), ("a",), rows[:80], rows[80:])])[0]
    probabilities = fitted.predict_proba([features])
    assert (probabilities[:, 2] == 0).all()
    assert np.isfinite(probabilities).all()


def test_linear__memory_splits_into_groups_and_progress_is_told() -> None:
    features, labels, jobs = _task(4)
    one = Footprint(30, 3)(100, len(STRENGTHS))
    told: dict[int, list[tuple[str, int, int]]] = {one: [], 1 << 40: []}
    for memory, calls in told.items():
        data = Embedded({"a": features}, labels, 3)
        fit_jobs(jobs, data, runtime=Runtime(memory=memory), progress=lambda *call, calls=calls: calls.append(call))
    ended = {memory: list(dict.fromkeys(done for _, done, _ in calls)) for memory, calls in told.items()}
    assert ended == {one: [0, 1, 2, 3], 1 << 40: [0, 3]}
    assert {call[::2] for calls in told.values() for call in calls} == {("fit", 3)}


def _watched(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Strengths of every job of every call of the solver from here on."""
    calls: list[list[int]] = []
    for name in ("fit_logistic", "fit_from_gram"):
        original = getattr(linear, name)

        def watched(rows: Any, targets: Any, l2: list[Any], *rest: Any, original: Any = original, **named: Any) -> Any:
            calls.append([len(own) for own in l2])
            return original(rows, targets, l2, *rest, **named)

        monkeypatch.setattr(linear, name, watched)
    return calls


@pytest.mark.parametrize("n_rows", [100, 24])  # more and fewer than dimensions
@pytest.mark.parametrize("n_validation", [50, 0])
def test_linear__a_job_that_does_not_fit_takes_its_path_in_parts(
    n_rows: int, n_validation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels, _ = _task(7)
    job = Job(Linear(), ("a",), np.arange(n_rows), np.arange(150, 150 + n_validation))
    (whole,) = _fit(features, labels, [job])
    footprint = Footprint(30, 3)
    for n_strengths, expected in ((1, [1] * 11), (4, [4, 4, 3]), (11, [11])):
        calls = _watched(monkeypatch)
        (parts,) = _fit(features, labels, [job], Runtime(memory=footprint(n_rows, n_strengths)))
        assert [size for (size,) in calls] == expected
        assert parts.chosen == whole.chosen
        np.testing.assert_allclose(parts.predict_proba([features]), whole.predict_proba([features]), atol=1e-6)
        monkeypatch.undo()


def test_linear__jobs_of_one_gram_matrix_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, jobs = _wide_task(4)
    whole = _fit(features, labels, jobs)
    memory = 2 * 8 * 100 * (2 * 100 + 3 * 150) + Footprint(150, 3)(80, 1)
    assert pooled(jobs, features, memory // 2) is not None
    calls = _watched(monkeypatch)
    parts = _fit(features, labels, jobs, Runtime(memory=memory))
    assert min(size for call in calls for size in call) < len(STRENGTHS)
    for one, other in zip(whole, parts, strict=True):
        assert one.chosen == other.chosen
        np.testing.assert_allclose(one.predict_proba([features]), other.predict_proba([features]), atol=1e-5)


def test_linear__what_fits_at_no_strength_is_refused_before_anything_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, jobs = _task(8)
    calls = _watched(monkeypatch)
    least = Footprint(30, 3)(100, 1)
    with pytest.raises(OptionError) as caught:
        _fit(features, labels, jobs, Runtime(memory=least - 1))
    said = str(caught.value)
    assert said.startswith("a linear fit of 100 rows of 30 values in 3 classes needs ")
    assert f"needs {least:,} bytes and may hold {least - 1:,}; pass memory, " in said
    assert "\n" not in said
    assert not calls
    _fit(features, labels, jobs, Runtime(memory=least))


@pytest.mark.parametrize("strengths", [(), 0.0, (0.0,), (-1.0,), ("a",), (np.nan,), (np.inf,), None])
def test_linear__impossible_strengths(strengths: Any) -> None:
    with pytest.raises(OptionError, match=r"^strengths .* not possible"):
        Linear(strengths)


def test_linear__any_sequence_of_strengths_is_kept_as_a_tuple() -> None:
    assert Linear([1e-2, 1]) == Linear(np.array([1e-2, 1.0])) == Linear((1e-2, 1.0))
    assert hash(Linear([1e-2])) == hash(Linear((1e-2,)))


def test_linear__jobs_of_many_sizes_come_back_in_order() -> None:
    features, labels, _ = _task(5)
    order = np.random.default_rng(0).permutation(200)
    jobs = [Job(Linear(), ("a",), order[:size], order[150:]) for size in (150, 9, 60, 12, 150, 30)]
    for job, together in zip(jobs, _fit(features, labels, jobs), strict=True):
        alone = _fit(features, labels, [job])[0]
        assert together.chosen == alone.chosen
        np.testing.assert_allclose(together.predict_proba([features]), alone.predict_proba([features]), atol=1e-5)


def test_linear__without_validation_rows_the_middle_strength() -> None:
    features, labels, jobs = _task(6)
    fitted = _fit(features, labels, [Job(Linear(), ("a",), jobs[0].train, np.array([], dtype=int))])[0]
    assert fitted.chosen == {"strength": STRENGTHS[len(STRENGTHS) // 2], "is_converged": True}


def test_linear__rows_equal_up_to_rounding_are_not_told_apart() -> None:
    features = np.full((12, 30), 0.1) + np.arange(30)
    labels = np.array([0] * 6 + [1] * 4 + [2] * 2)
    probabilities = _fit(features, labels, [Job(Linear(), ("a",), np.arange(12), np.array([], dtype=int))])[
        0
    ].predict_proba([features])
    np.testing.assert_allclose(probabilities, np.tile([6 / 12, 4 / 12, 2 / 12], (12, 1)), atol=1e-6)


def _wide_task(seed: int) -> tuple[np.ndarray, np.ndarray, list[Job]]:
    """Rows, labels and jobs that share a Gram matrix: rows are fewer than dimensions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 3
    features = (rng.normal(size=(3, 150))[labels] + 2 * rng.normal(size=(120, 150)) + 3.0).astype(np.float32)
    orders = [rng.permutation(100) for _ in range(3)]
    return features, labels, [Job(Linear(), ("a",), own[:size], own[80:]) for own in orders for size in (20, 50, 80)]


def _is_pooled(features: np.ndarray, jobs: list[Job]) -> bool:
    return pooled(jobs, features, 1 << 40) is not None


def test_linear__jobs_that_share_a_gram_matrix_fit_as_alone() -> None:
    features, labels, jobs = _wide_task(0)
    assert _is_pooled(features, jobs)
    assert not any(_is_pooled(features, [job]) for job in jobs)
    for job, together in zip(jobs, _fit(features, labels, jobs), strict=True):
        alone = _fit(features, labels, [job])[0]
        assert together.chosen == alone.chosen
        np.testing.assert_allclose(together.predict_proba([features]), alone.predict_proba([features]), atol=1e-5)
        np.testing.assert_allclose(together.arrays()["intercepts"], alone.arrays()["intercepts"], atol=1e-3)


def test_linear__shared_gram_matrix_leaves_out_rows_of_no_job() -> None:
    features, labels, jobs = _wide_task(1)
    spoiled, shuffled = features.copy(), labels.copy()
    spoiled[100:], shuffled[100:] = np.nan, 99
    for one, other in zip(_fit(features, labels, jobs), _fit(spoiled, shuffled, jobs), strict=True):
        np.testing.assert_array_equal(one.predict_proba([features]), other.predict_proba([features]))


def test_linear__shared_gram_matrix_with_a_row_named_twice_and_a_class_absent() -> None:
    features, labels, jobs = _wide_task(2)
    rows = np.flatnonzero(labels[:80] != 2)
    jobs.append(Job(Linear(), ("a",), np.concatenate([rows, rows[:9]]), np.arange(80, 100)))
    assert _is_pooled(features, jobs)
    together, alone = _fit(features, labels, jobs)[-1], _fit(features, labels, jobs[-1:])[0]
    assert together.chosen == alone.chosen
    assert together.arrays()["intercepts"][2] == -np.inf
    np.testing.assert_allclose(together.predict_proba([features]), alone.predict_proba([features]), atol=1e-5)


def test_linear__job_far_from_the_others_keeps_its_digits() -> None:
    features, labels, jobs = _wide_task(3)
    rng = np.random.default_rng(3)
    close = 100.0 + 1e-3 * (labels[:, None] + rng.normal(size=features.shape))
    features = np.concatenate([features.astype(np.float64), close])
    labels = np.concatenate([labels, labels])
    jobs.append(Job(Linear(), ("a",), np.arange(120, 160), np.arange(160, 180)))
    assert _is_pooled(features, jobs)
    together, alone = _fit(features, labels, jobs)[-1], _fit(features, labels, jobs[-1:])[0]
    np.testing.assert_array_equal(together.predict_proba([features]), alone.predict_proba([features]))


def _spoiled(monkeypatch: pytest.MonkeyPatch, positions: list[int], value: float) -> None:
    """Overwrite what the solver gives at some strengths."""
    original = linear.fit_logistic

    def spoiled(*arguments: Any, **named: Any) -> list[LogisticFit]:
        fits = original(*arguments, **named)
        for fit in fits:
            fit.weights[positions] = value
        return fits

    monkeypatch.setattr(linear, "fit_logistic", spoiled)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_validation", [50, 0])
def test_linear__a_strength_that_is_not_finite_is_never_chosen(
    value: float, n_validation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels, _ = _task(9)
    job = Job(Linear(), ("a",), np.arange(100), np.arange(150, 150 + n_validation))
    (usual,) = _fit(features, labels, [job])
    position = STRENGTHS.index(usual.chosen["strength"])
    _spoiled(monkeypatch, [position], value)
    (other,) = _fit(features, labels, [job])
    assert other.chosen["strength"] in (STRENGTHS[position - 1], STRENGTHS[position + 1])
    assert np.isfinite(other.predict_proba([features])).all()
    _spoiled(monkeypatch, list(range(len(STRENGTHS))), value)
    with pytest.raises(DataError, match=r"^linear on a diverged: no strength had a finite loss; rescale .*it out$"):
        _fit(features, labels, [job])


def test_linear__order_of_rows_and_route_change_no_probability() -> None:
    features, labels, jobs = _wide_task(5)
    together = _fit(features, labels, jobs)
    for job, one in zip(jobs, together, strict=True):
        order = np.random.default_rng(1).permutation(len(job.train))
        for other in (
            _fit(features, labels, [job])[0],  # a Gram matrix of its own
            _fit(features, labels, [Job(job.head, job.backbones, job.train[order], job.validation)])[0],
        ):
            assert one.chosen == other.chosen
            np.testing.assert_allclose(one.predict_proba([features]), other.predict_proba([features]), atol=1e-7)


@pytest.mark.parametrize("n_train", [100, 24])  # more rows than dimensions, and fewer
def test_linear__weights_are_repeated_rows_in_learning_and_in_choosing(n_train: int) -> None:
    features, labels, _ = _task(10)
    weights = np.random.default_rng(3).integers(0, 4, 200)
    train, validation = np.arange(n_train), np.arange(100, 160)
    job = Job(Linear(), ("a",), train, validation)
    repeated = Job(Linear(), ("a",), np.repeat(train, weights[train]), np.repeat(validation, weights[validation]))
    alone = Job(Linear(), ("a",), np.arange(160, 200), np.array([], dtype=int))
    weighted = fit_jobs([job, alone], Embedded({"a": features}, labels, 3, weights.astype(float)))[0]
    plain = _fit(features, labels, [repeated])[0]
    assert weighted.chosen == plain.chosen
    assert weighted.chosen != _fit(features, labels, [job])[0].chosen or n_train == 24
    np.testing.assert_allclose(weighted.predict_proba([features]), plain.predict_proba([features]), atol=1e-8)


def test_linear__shared_gram_matrix_with_weights() -> None:
    features, labels, jobs = _wide_task(6)
    weights = np.random.default_rng(4).uniform(0.2, 3.0, len(labels))
    assert _is_pooled(features, jobs)
    data = Embedded({"a": features}, labels, 3, weights)
    for job, together in zip(jobs, fit_jobs(jobs, data), strict=True):
        (alone,) = fit_jobs([job], data)
        assert together.chosen == alone.chosen
        np.testing.assert_allclose(together.predict_proba([features]), alone.predict_proba([features]), atol=1e-7)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_fit_jobs__impossible_weights(bad: float) -> None:
    features, labels, jobs = _task(11)
    weights = np.ones(200)
    weights[jobs[0].train[:2]] = bad
    with pytest.raises(DataError, match=r"^2 of 150 weights are negative or not finite; a weight is 0 or more$"):
        fit_jobs(jobs[:1], Embedded({"a": features}, labels, 3, weights))
