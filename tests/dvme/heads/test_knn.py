from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from dvme.errors import OptionError
from dvme.heads import knn
from dvme.heads.jobs import Embedded, Job, fit_jobs
from dvme.heads.knn import KNN, NEIGHBOURS, TEMPERATURE, TIED, FittedKNN, normalised, search, votes
from dvme.runtime import Runtime


def test_votes__worked_by_hand() -> None:
    similarities = np.array([[0.9, 0.83, 0.76]])
    shares = votes(similarities, np.array([[1, 0, 0]]), n_classes=3)
    # weights relative to the nearest: 1, e^-1, e^-2
    weight = 1 + np.exp(-1) + np.exp(-2)
    np.testing.assert_allclose(shares, [[(np.exp(-1) + np.exp(-2)) / weight, 1 / weight, 0.0]])


def test_search__is_exact_against_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    queries, bank = normalised(rng.normal(size=(7, 16))), normalised(rng.normal(size=(50, 16)))
    similarities, neighbours = search(queries, bank, 5)
    full = queries @ bank.T
    np.testing.assert_array_equal(neighbours, np.argsort(-full, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-full, axis=1)[:, :5], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 40), n_distinct=st.integers(1, 12))
def test_search__equal_similarities_come_in_bank_order(seed: int, k: int, n_distinct: int) -> None:
    rng = np.random.default_rng(seed)
    distinct = np.eye(12, dtype=np.float32)[:n_distinct]
    bank, queries = distinct[rng.integers(0, n_distinct, 40)], normalised(rng.integers(0, 3, size=(9, 12)))
    similarities, neighbours = search(queries, bank, k)
    full = queries @ bank.T  # a single product each: no rounding
    expected = np.argsort(-full, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(neighbours, expected)
    np.testing.assert_array_equal(similarities, np.take_along_axis(full, expected, axis=1))


def test_search__many_copies_of_one_row() -> None:
    rng = np.random.default_rng(0)
    bank = normalised(rng.normal(size=(500, 32)))
    copies = np.sort(rng.permutation(500)[:300])
    bank[copies] = bank[copies[0]]
    neighbours = search(bank[copies[:1]], bank, 20)[1]
    np.testing.assert_array_equal(neighbours[0], copies[:20])


@pytest.mark.parametrize("dim", [512, 2048])
@pytest.mark.parametrize("k", [1, 20, 250])
def test_search__rows_that_are_the_same_to_the_bit_come_in_bank_order(dim: int, k: int) -> None:
    """Though a matrix product rounds their similarities differently."""
    rng = np.random.default_rng(dim)
    bank = normalised(np.abs(rng.normal(size=(1503, dim))))
    copies = np.sort(rng.permutation(1503)[:401])
    bank[copies] = bank[copies[0]]
    queries = normalised(bank[copies[0]] + 0.1 * np.abs(rng.normal(size=(257, dim))) / np.sqrt(dim))
    raw = knn._found(queries, bank, 401, "cpu")[0]
    assert (raw[:, 0] != raw[:, -1]).any()  # else this shows nothing
    similarities, neighbours = search(queries, bank, k)
    np.testing.assert_array_equal(neighbours, np.tile(copies[:k], (257, 1)))
    assert (np.diff(similarities, axis=1) <= TIED).all()
    np.testing.assert_allclose(similarities, np.einsum("bd,bkd->bk", queries, bank[neighbours]), atol=1e-5)


def test_search__many_deep_queries_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    bank, queries = normalised(rng.integers(0, 2, size=(90, 4)) + 1e-3), normalised(rng.normal(size=(30, 4)))
    whole = search(queries, bank, 7)
    monkeypatch.setattr(knn, "FOUND", 100)
    widest: list[int] = []
    found = knn._found

    def watched(some: np.ndarray, *arguments: Any) -> Any:
        widest.append(len(some) * arguments[1])
        return found(some, *arguments)

    monkeypatch.setattr(knn, "_found", watched)
    np.testing.assert_array_equal(search(queries, bank, 7)[1], whole[1])
    assert max(widest) <= 100


def test_normalised__zero_row_stays_zero() -> None:
    unit = normalised(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), k=st.sampled_from([1, 3, 10]))
def test_knn__same_votes_as_scikit_learn_with_the_same_weights(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 3, 60)
    labels[:3] = [0, 1, 2]
    train, rest = np.arange(40), np.arange(40, 60)
    fitted = fit_jobs([Job(KNN(neighbours=(k,)), ("a",), train, rest)], Embedded({"a": features}, labels, 3))[0]
    unit = normalised(features).astype(np.float64)
    peer = KNeighborsClassifier(k, algorithm="brute", weights=lambda d: np.exp((1 - d**2 / 2) / TEMPERATURE)).fit(
        unit[train], labels[train]
    )  # |a - b|^2 = 2 - 2 cos
    np.testing.assert_allclose(fitted.predict_proba([features[rest]]), peer.predict_proba(unit[rest]), atol=1e-4)


def test_knn__k_is_the_most_accurate_on_validation_and_never_more_than_the_bank() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 2
    features = (rng.normal(size=(2, 5))[labels] + 1.5 * rng.normal(size=(90, 5))).astype(np.float32)
    job = Job(KNN(), ("a",), np.arange(60), np.arange(60, 90))
    fitted = fit_jobs([job], Embedded({"a": features}, labels, 2))[0]
    unit = normalised(features)
    accuracy = {}
    for k in sorted({min(k, 60) for k in NEIGHBOURS}):
        found = 0
        for row in job.validation:
            similarity = unit[job.train] @ unit[row]
            nearest = np.argsort(-similarity)[:k]
            tally = [np.exp(similarity[nearest][labels[job.train][nearest] == c] / TEMPERATURE).sum() for c in (0, 1)]
            found += int(np.argmax(tally) == labels[row])
        accuracy[k] = found
    assert max(accuracy) == 60
    assert fitted.chosen["k"] == max(accuracy, key=lambda k: accuracy[k])


def _sweep(n_rows: int = 240) -> tuple[Embedded, list[Job]]:
    """Three sizes in two folds, with rows that have copies."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, n_rows)
    features = (rng.normal(size=(3, 6))[labels] + rng.normal(size=(n_rows, 6))).astype(np.float32)
    features[rng.integers(0, n_rows, 60)] = features[0]
    halves = np.array_split(rng.permutation(n_rows), 2)
    pairs = [(halves[0], halves[1]), (halves[1], halves[0])]
    jobs = [Job(KNN(), ("a",), train[:size], validation) for train, validation in pairs for size in (7, 40, 120)]
    return Embedded({"a": features}, labels, 3), jobs


def test_knn__a_job_does_not_depend_on_the_others() -> None:
    data, jobs = _sweep()
    queries = [data.embeddings["a"][:50]]
    for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True):
        alone = fit_jobs([job], data)[0]
        assert fitted.chosen == alone.chosen
        np.testing.assert_array_equal(fitted.predict_proba(queries), alone.predict_proba(queries))
        assert fitted.chosen["k"] <= len(job.train)


def test_knn__blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, jobs = _sweep()
    whole = fit_jobs(jobs, data)
    monkeypatch.setattr(knn, "QUERIES", 32)
    queries = [data.embeddings["a"]]
    for one, other in zip(whole, fit_jobs(jobs, data), strict=True):
        assert one.chosen == other.chosen
        np.testing.assert_allclose(one.predict_proba(queries), other.predict_proba(queries), atol=1e-5)
    assert whole[0].predict_proba([data.embeddings["a"][:0]]).shape == (0, 3)


def test_knn__saved_and_pickled_heads_hold_their_own_rows_only() -> None:
    data, jobs = _sweep()
    for job, fitted in zip(jobs, fit_jobs(jobs, data), strict=True):
        assert isinstance(fitted, FittedKNN)
        np.testing.assert_array_equal(fitted.bank, normalised(data.embeddings["a"])[job.train])
        for copy in (FittedKNN.restored(fitted.settings(), fitted.arrays()), pickle.loads(pickle.dumps(fitted))):
            assert len(copy.unit) == len(job.train)
            queries = [data.embeddings["a"][:50]]
            np.testing.assert_array_equal(copy.predict_proba(queries), fitted.predict_proba(queries))


def test_knn__without_validation_rows_the_middle_k() -> None:
    data, jobs = _sweep()
    fitted = fit_jobs([Job(KNN(), ("a",), jobs[1].train, np.array([], dtype=int))], data)[0]
    assert fitted.chosen["k"] == 10  # of 1, 5, 10, 20, 40


@pytest.mark.parametrize("neighbours", [(), (0, 5), (2.5,), ("5",), 5, None, (5, True)])
def test_knn__impossible_neighbours(neighbours: Any) -> None:
    with pytest.raises(OptionError, match=r"^neighbours .* not possible"):
        KNN(neighbours=neighbours)


def test_knn__any_sequence_of_neighbours_is_kept_as_a_tuple() -> None:
    assert KNN(neighbours=[5, 1]) == KNN(neighbours=np.array([5, 1])) == KNN(neighbours=(5, 1))  # type: ignore[arg-type]


def test_knn__without_gpu_support_in_faiss_every_device_searches_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(knn._faiss(), "StandardGpuResources", raising=False)
    data, jobs = _sweep()
    fitted = fit_jobs(jobs[:1], data, runtime=Runtime(device="cuda"))[0]
    assert isinstance(fitted, FittedKNN)
    assert fitted.device == "cpu"


@pytest.mark.gpu
def test_search__same_neighbours_on_a_gpu() -> None:
    if not hasattr(knn._faiss(), "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed")
    rng = np.random.default_rng(0)
    bank, queries = normalised(rng.normal(size=(3000, 64))), normalised(rng.normal(size=(200, 64)))
    bank[100:150] = bank[0]
    for k in (1, 20, 2900):
        ours, theirs = search(queries, bank, k), search(queries, bank, k, device="cuda")
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
        assert (ours[1] == theirs[1]).mean() > 0.99  # rounding may swap two that are all but equally near
    data, jobs = _sweep()
    fitted = fit_jobs(jobs[:1], data, runtime=Runtime(device="cuda"))[0]
    assert isinstance(fitted, FittedKNN)
    assert fitted.device == "cuda"
