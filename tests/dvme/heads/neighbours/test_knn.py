from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dvme.errors import DataError, OptionError
from dvme.heads.fitting.choosing import last_near_best
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.neighbours import knn
from dvme.heads.neighbours.brute_force import faiss_module
from dvme.heads.neighbours.knn import KNN, NEIGHBOURS, FittedKNN
from dvme.heads.neighbours.votes import TEMPERATURE
from dvme.runtime import Runtime
from dvme.vectors import unit_rows


def test_unit_rows__zero_row_stays_zero() -> None:
    unit = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]])


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-20, 1e19, 1e37])
def test_unit_rows__any_scale(scale: float) -> None:
    rows = np.array([[3.0, 4.0], [-4.0, 3.0]]) * scale
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [-0.8, 0.6]], rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), k=st.sampled_from([1, 3, 10]))
def test_knn__same_votes_as_scikit_learn_with_the_same_weights(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 3, 60)
    labels[:3] = [0, 1, 2]
    train, rest = np.arange(40), np.arange(40, 60)
    fitted = fit_jobs([Job(KNN(neighbours=(k,)), ("a",), train, rest)], Embedded({"a": features}, labels, 3))[0]
    unit = unit_rows(features).astype(np.float64)
    peer = KNeighborsClassifier(k, algorithm="brute", weights=lambda d: np.exp((1 - d**2 / 2) / TEMPERATURE)).fit(
        unit[train], labels[train]
    )  # |a - b|^2 = 2 - 2 cos
    np.testing.assert_allclose(fitted.predict_proba([features[rest]]), peer.predict_proba(unit[rest]), atol=1e-4)


@pytest.mark.parametrize("choose_by", ["auc", "accuracy", "balanced_accuracy"])
def test_knn__k_is_the_best_on_validation_and_never_more_than_the_bank(choose_by: str) -> None:
    peers = {"auc": roc_auc_score, "accuracy": accuracy_score, "balanced_accuracy": balanced_accuracy_score}
    chosen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = (np.arange(150) % 6 == 0).astype(int)
        features = (rng.normal(size=(2, 5))[labels] + 1.5 * rng.normal(size=(150, 5))).astype(np.float32)
        head = KNN(choose_by=choose_by, standard_errors=0)
        job = Job(head, ("a",), np.arange(60), np.arange(60, 150))
        fitted = fit_jobs([job], Embedded({"a": features}, labels, 2))[0]
        unit = unit_rows(features)
        scores = {}
        for k in sorted({min(k, 60) for k in NEIGHBOURS}):
            shares = []
            for row in job.validation:
                similarity = unit[job.train] @ unit[row]
                nearest = np.argsort(-similarity)[:k]
                weights = np.exp(similarity[nearest] / TEMPERATURE)
                shares.append(weights[labels[job.train][nearest] == 1].sum() / weights.sum())
            said = np.array(shares) if choose_by == "auc" else np.array(shares) > 0.5
            scores[k] = round(float(peers[choose_by](labels[job.validation], said)), 9)
        assert max(scores) == 60
        assert fitted.chosen["k"] == max(scores, key=lambda k: (scores[k], k))  # of equal ones the largest
        chosen.add(fitted.chosen["k"])
    assert len(chosen) > 1


def test_knn__a_rare_class_is_ranked_though_no_k_finds_it() -> None:
    """With 5 % positives every k is 95 % accurate; by accuracy k was 1 to 10, and the test AUC 0.57."""
    rng = np.random.default_rng(0)
    labels = (np.arange(1500) % 20 == 0).astype(int)
    centre = rng.normal(size=32) / np.sqrt(32)
    features = (rng.normal(size=(1500, 32)) + 3.0 + 1.6 * labels[:, None] * centre).astype(np.float32)
    job, test = Job(KNN(), ("a",), np.arange(600), np.arange(600, 750)), np.arange(750, 1500)
    data = Embedded({"a": features}, labels, 2)
    fitted = [fit_jobs([replace(job, head=head)], data)[0] for head in (KNN(), *(KNN((k,)) for k in NEIGHBOURS))]
    chosen, *each = (roc_auc_score(labels[test], one.predict_proba([features[test]])[:, 1]) for one in fitted)
    assert chosen > max(each) - 0.02
    assert chosen > min(each) + 0.1


@pytest.mark.parametrize("n_errors", [0.5, 1.0, 2.0])
def test_last_near_best__paired_errors_by_hand(n_errors: float) -> None:
    """Balanced accuracy of three settings: what two differ by on an image of a class is a mean with a known error."""
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(40):
        labels = np.repeat([0, 1], [20, 12])
        is_right = rng.random((3, 32)) < np.array([0.8, 0.78, 0.7])[:, None]
        settings = np.eye(2)[np.where(is_right, labels, 1 - labels)]
        recalls = np.stack([is_right[:, labels == c].mean(axis=1) for c in (0, 1)])
        best = int(recalls.mean(axis=0).argmax())
        expected = best
        for other in range(best + 1, 3):
            gaps = 1.0 * is_right[best] - is_right[other]
            error = np.sqrt(sum(gaps[labels == c].var(ddof=1) / (labels == c).sum() for c in (0, 1))) / 2
            if recalls.mean(axis=0)[best] - recalls.mean(axis=0)[other] <= n_errors * error + 1e-12:
                expected = other
        assert last_near_best("balanced_accuracy", labels, settings, n_errors=n_errors) == expected
        found.add((best, expected))
    assert len(found) > 3


def test_knn__impossible_standard_errors() -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="it must be 0 or more"):
            KNN(standard_errors=value)


def test_knn__of_one_class_on_validation_accuracy_decides() -> None:
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(40) % 2, np.ones(10, dtype=int)]
    data = Embedded({"a": rng.normal(size=(50, 4)).astype(np.float32)}, labels, 2)
    one, other = (Job(KNN(choose_by=by), ("a",), np.arange(40), np.arange(40, 50)) for by in ("auc", "accuracy"))
    assert [each.chosen for each in fit_jobs([one, other], data)] == [fit_jobs([other], data)[0].chosen] * 2


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
        np.testing.assert_array_equal(fitted.bank, unit_rows(data.embeddings["a"])[job.train])
        for copy in (FittedKNN.restored(fitted.settings(), fitted.arrays()), pickle.loads(pickle.dumps(fitted))):
            assert len(copy.unit) == len(job.train)
            queries = [data.embeddings["a"][:50]]
            np.testing.assert_array_equal(copy.predict_proba(queries), fitted.predict_proba(queries))


def test_knn__without_validation_rows_the_middle_k() -> None:
    data, jobs = _sweep()
    fitted = fit_jobs([Job(KNN(), ("a",), jobs[1].train, np.array([], dtype=int))], data)[0]
    assert fitted.chosen["k"] == 10  # of 1, 5, 10, 20, 40


@pytest.mark.parametrize("neighbours", [(), (0, 5), (2.5,), ("5",), 0, None, (5, True)])
def test_knn__impossible_neighbours(neighbours: Any) -> None:
    with pytest.raises(OptionError, match=r"^neighbours .* not possible"):
        KNN(neighbours=neighbours)


def test_knn__any_sequence_of_neighbours_is_kept_as_a_tuple() -> None:
    assert KNN(neighbours=[5, 1]) == KNN(neighbours=np.array([5, 1])) == KNN(neighbours=(5, 1))  # type: ignore[arg-type]


def test_knn__without_gpu_support_in_faiss_every_device_searches_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss_module(), "StandardGpuResources", raising=False)
    data, jobs = _sweep()
    fitted = fit_jobs(jobs[:1], data, runtime=Runtime(device="cuda"))[0]
    assert isinstance(fitted, FittedKNN)
    assert fitted.device == "cpu"


@pytest.mark.gpu
def test_knn__searches_on_a_gpu_where_faiss_can() -> None:
    if not hasattr(faiss_module(), "StandardGpuResources"):
        pytest.skip("faiss-gpu is not installed")
    data, jobs = _sweep()
    fitted = fit_jobs(jobs[:1], data, runtime=Runtime(device="cuda"))[0]
    assert isinstance(fitted, FittedKNN)
    assert fitted.device == "cuda"


@pytest.mark.parametrize("choose_by", ["auc", "accuracy", "balanced_accuracy", "kappa"])
@pytest.mark.parametrize("seed", range(3))
def test_knn__weights_are_repeated_rows_in_voting_and_in_choosing(seed: int, choose_by: str) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 3
    features = (rng.normal(size=(3, 6))[labels] + 1.5 * rng.normal(size=(120, 6))).astype(np.float32)
    weights = rng.integers(0, 4, 120)
    train, validation = np.arange(80), np.arange(80, 120)
    head = KNN(neighbours=(1, 4, 11, 25, 1000), choose_by=choose_by)
    data = Embedded({"a": features}, labels, 3, weights)
    (weighted,) = fit_jobs([Job(head, ("a",), train, validation)], data)
    repeated = Job(head, ("a",), np.repeat(train, weights[train]), np.repeat(validation, weights[validation]))
    (plain,) = fit_jobs([repeated], Embedded({"a": features}, labels, 3))
    assert weighted.chosen == plain.chosen
    expected = plain.predict_proba([features])
    np.testing.assert_allclose(weighted.predict_proba([features]), expected, atol=1e-5)
    restored = FittedKNN.restored(weighted.settings(), weighted.arrays())
    np.testing.assert_array_equal(restored.predict_proba([features]), weighted.predict_proba([features]))


def _labelled(seed: int, n: int = 90) -> Embedded:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 6)).astype(np.float32)
    cells = (features[:, :3] + 0.7 * rng.normal(size=(n, 3)) > [0.0, 0.8, -0.3]).astype(np.float32)
    cells[rng.random(cells.shape) < 0.3] = np.nan
    cells[np.isnan(cells).all(axis=1), 0] = 0.0
    return Embedded({"a": features}, cells, 3)


def _slow_votes(data: Embedded, job: Job, k: int, rows: np.ndarray) -> np.ndarray:
    """One query and one label after the other, as often as weights say."""
    unit = unit_rows(data.embeddings["a"]).astype(np.float64)
    train = job.train if data.weights is None else np.repeat(job.train, data.weights[job.train].astype(int))
    shares = np.empty((len(rows), data.n_classes))
    for position, row in enumerate(rows):
        near = np.argsort(-(unit[train] @ unit[row]), kind="stable")[:k]
        for label in range(data.n_classes):
            own = train[near][~np.isnan(data.labels[train[near], label])]
            weights = np.exp(unit[own] @ unit[row] / TEMPERATURE)
            known = data.labels[train, label]
            prior = np.mean(known[~np.isnan(known)])
            shares[position, label] = weights @ data.labels[own, label] / weights.sum() if len(own) else prior
    return shares


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_knn__several_labels_against_a_slow_vote_and_scikit_learns_auc(seed: int, is_weighted: bool) -> None:
    data = _labelled(seed)
    if is_weighted:
        data = replace(data, weights=np.random.default_rng(seed).integers(1, 4, 90).astype(float))
    job = Job(KNN((1, 3, 8, 30), standard_errors=0.0), ("a",), np.arange(50), np.arange(50, 80))
    (fitted,) = fit_jobs([job], data)
    areas = []
    for k in (1, 3, 8, 30):
        shares = _slow_votes(data, job, k, job.validation)
        own = []
        for label in range(3):
            truth = data.labels[job.validation, label]
            known = ~np.isnan(truth)
            counts = None if data.weights is None else data.weights[job.validation][known]
            own.append(roc_auc_score(truth[known], shares[known, label], sample_weight=counts))
        areas.append(np.mean(own))
    assert fitted.chosen["k"] == (1, 3, 8, 30)[3 - int(np.argmax(areas[::-1]))]
    rows = np.arange(90)
    np.testing.assert_allclose(
        fitted.predict_proba(data.blocks(("a",), rows)), _slow_votes(data, job, fitted.chosen["k"], rows), atol=1e-6
    )


@pytest.mark.parametrize("choose_by", ["auc", "accuracy", "balanced_accuracy", "kappa"])
def test_knn__one_label_is_two_classes_that_exclude_each_other(choose_by: str) -> None:
    data = _labelled(4)
    known = np.flatnonzero(~np.isnan(data.labels[:, 0]))
    pair = Embedded(data.embeddings, np.nan_to_num(data.labels[:, 0]).astype(int), 2)
    alone = Embedded(data.embeddings, data.labels[:, :1], 1)
    head = KNN((1, 3, 8, 30), choose_by=choose_by)
    (both,) = fit_jobs([Job(head, ("a",), known[:40], known[40:])], pair)
    # rows of which nothing is known are as good as not there
    split = known[40]
    (one,) = fit_jobs([Job(head, ("a",), np.arange(split), np.arange(split, 90))], alone)
    assert one.chosen["k"] == both.chosen["k"]
    blocks = data.blocks(("a",), slice(None))
    np.testing.assert_allclose(one.predict_proba(blocks)[:, 0], both.predict_proba(blocks)[:, 1], atol=1e-12)


def test_knn__labels_that_no_neighbour_knows_are_as_frequent_as_in_training() -> None:
    features = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
    cells = np.array([[1, np.nan, np.nan], [0, np.nan, np.nan], [np.nan, 1, np.nan], [np.nan, 0.5, np.nan]], np.float32)
    job = Job(KNN((1,)), ("a",), np.arange(4), np.array([], dtype=int))
    (fitted,) = fit_jobs([job], Embedded({"a": features}, cells, 3))
    expected = [[1.0, 0.75, 0.5], [0.0, 0.75, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(fitted.predict_proba([features]), expected)
    assert fitted.chosen == {"k": 1, "constant_labels": [2]}


def _clusters(n: int, seed: int = 0) -> Embedded:
    """Three classes of ten clusters each, along few directions, with some copies."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 30, n)
    factors = 3.0 * np.random.default_rng(1).normal(size=(30, 5))[kinds] + rng.normal(size=(n, 5))
    features = (factors @ np.random.default_rng(2).normal(size=(5, 24))).astype(np.float16)
    features[rng.integers(0, n, n // 20)] = features[0]
    return Embedded({"a": features}, kinds % 3, 3)


def _large(data: Embedded, n_train: int = 3000, **settings: Any) -> Job:
    return Job(KNN((5, 20), **settings), ("a",), np.arange(n_train), np.arange(n_train, len(data.labels) - 100), 3)


def test_knn__auto_is_exact_below_a_size_and_says_what_it_misses_above(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _clusters(3700)
    queries = [data.embeddings["a"][-100:]]
    exact, below = fit_jobs([_large(data, search="exact"), _large(data)], data)
    monkeypatch.setattr(knn, "LISTED_FROM", 3000)
    above, still, by_name = fit_jobs(
        [_large(data), _large(data, search="exact"), _large(data, n_train=900, search="ivf")], data
    )
    for one in (below, still):
        np.testing.assert_array_equal(one.predict_proba(queries), exact.predict_proba(queries))
        assert one.chosen == exact.chosen
    for one in (above, by_name):
        assert isinstance(one, FittedKNN)
        assert one.is_listed
        assert one.chosen["recall_low"] >= 0.99
        assert one.chosen["recall_at"] == 20
        assert one.chosen["recall_queries"] == 500
    assert above.chosen["k"] == exact.chosen["k"]
    np.testing.assert_allclose(above.predict_proba(queries), exact.predict_proba(queries), atol=0.05)


@pytest.mark.parametrize("is_multilabel", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_knn__with_all_lists_probed_as_exact(
    is_multilabel: bool, is_weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _clusters(900)
    if is_multilabel:
        cells = (data.labels[:, None] == np.arange(3)).astype(np.float32)
        cells[::7, 1] = np.nan
        data = replace(data, labels=cells)
    if is_weighted:
        data = replace(data, weights=np.random.default_rng(0).integers(0, 4, 900).astype(float))
    monkeypatch.setattr("dvme.heads.neighbours.recall.MOST", 1.0)
    monkeypatch.setattr("dvme.heads.neighbours.recall.RECALL", 1.1)
    exact, listed = fit_jobs([_large(data, 600, search=each) for each in ("exact", "ivf")], data)
    assert listed.chosen["n_probes"] == listed.chosen["n_lists"]
    assert listed.chosen["recall"] == 1.0
    assert listed.chosen["k"] == exact.chosen["k"]
    queries = [data.embeddings["a"][-100:]]
    np.testing.assert_allclose(listed.predict_proba(queries), exact.predict_proba(queries), atol=1e-6)


def test_knn__embeddings_in_a_file_are_searched_as_those_in_memory(tmp_path: Path) -> None:
    data = _clusters(1200)
    np.save(tmp_path / "a.npy", data.embeddings["a"])
    mapped = replace(data, embeddings={"a": np.load(tmp_path / "a.npy", mmap_mode="r")})
    queries = [data.embeddings["a"][-100:]]
    jobs = [_large(data, 600, search=each) for each in ("exact", "ivf")]
    for own, other in zip(fit_jobs(jobs, data), fit_jobs(jobs, mapped), strict=True):
        assert own.chosen == other.chosen
        np.testing.assert_array_equal(own.predict_proba(queries), other.predict_proba(queries))
    little = Runtime(device="cpu", memory=10_000)  # less than the bank
    for search in ("exact", "auto"):
        jobs = [_large(data, 600, search=search)]
        in_memory, in_lists = (fit_jobs(jobs, each, runtime=little)[0] for each in (data, mapped))
        assert isinstance(in_lists, FittedKNN)
        assert in_lists.is_listed
        assert in_lists.chosen == in_memory.chosen  # all lists are searched: nothing to measure
        np.testing.assert_allclose(in_lists.predict_proba(queries), in_memory.predict_proba(queries), atol=1e-6)


def test_knn__inverted_lists_are_saved_and_pickled() -> None:
    data = _clusters(1200)
    (fitted,) = fit_jobs([_large(data, 600, search="ivf")], data)
    assert isinstance(fitted, FittedKNN)
    queries = [data.embeddings["a"][-100:]]
    for copy in (FittedKNN.restored(fitted.settings(), fitted.arrays()), pickle.loads(pickle.dumps(fitted))):
        assert copy.is_listed
        np.testing.assert_array_equal(copy.predict_proba(queries), fitted.predict_proba(queries))
        assert copy.chosen == fitted.chosen


def test_knn__not_finite_rows_never_enter_a_list() -> None:
    data = _clusters(900)
    data.embeddings["a"][17, 3] = np.nan
    with pytest.raises(DataError, match="1 of 800 rows of a are not finite in float32"):
        fit_jobs([_large(data, 600, search="ivf")], data)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_knn__inverted_lists_of_a_few_rows(n: int) -> None:
    data = _clusters(60)
    job = Job(KNN((1, 5), search="ivf"), ("a",), np.arange(n), np.empty(0, dtype=np.int64))
    (fitted,) = fit_jobs([job], data)
    shares = fitted.predict_proba([data.embeddings["a"]])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_knn__unknown_search() -> None:
    with pytest.raises(OptionError, match="search 'hnsw' is not known; choose from auto, exact, ivf"):
        KNN(search="hnsw")
