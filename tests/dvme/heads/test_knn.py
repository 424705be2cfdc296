from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from dvme.heads.jobs import Job
from dvme.heads.knn import KNN, NEIGHBOURS, TEMPERATURE, normalised, search, votes


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
    fitted = KNN(neighbours=(k,)).fit(features, labels, 3, [Job(train, rest)])[0]
    unit = normalised(features).astype(np.float64)
    peer = KNeighborsClassifier(k, algorithm="brute", weights=lambda d: np.exp((1 - d**2 / 2) / TEMPERATURE)).fit(
        unit[train], labels[train]
    )  # |a - b|^2 = 2 - 2 cos
    np.testing.assert_allclose(fitted.predict_proba(features[rest]), peer.predict_proba(unit[rest]), atol=1e-4)


def test_knn__k_is_the_most_accurate_on_validation_and_never_more_than_the_bank() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 2
    features = (rng.normal(size=(2, 5))[labels] + 1.5 * rng.normal(size=(90, 5))).astype(np.float32)
    job = Job(np.arange(60), np.arange(60, 90))
    fitted = KNN().fit(features, labels, 2, [job])[0]
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
