from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import exp
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from dvme.maps import quality
from dvme.maps.quality import MapQuality, knn_accuracy, measure, measured_rows, neighbourhoods, silhouette
from dvme.vectors import unit_rows

N, K = 80, 15
NONE = np.array([""] * N, dtype=object)
ALL = np.ones(N, dtype=bool)


@pytest.fixture
def unit(make_features: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """(N, 8), three classes that overlap."""
    return unit_rows(make_features(np.arange(N) % 3, 0.8, seed=0))


@pytest.fixture
def labels() -> NDArray[Any]:
    """(N,) of three classes, some missing, some not of the row's own class."""
    rng = np.random.default_rng(1)
    names = np.array(["cat", "dog", "owl"], dtype=object)[np.arange(N) % 3]
    names[rng.choice(N, 8, replace=False)] = "cat"
    names[rng.choice(N, 10, replace=False)] = ""
    return names


@pytest.fixture
def groups() -> NDArray[Any]:
    """(N,) patients of four rows each, all of one class by turns, some missing."""
    names = np.array([f"p{row % 20}" for row in range(N)], dtype=object)
    names[::7] = ""
    return names


def _positions(unit: NDArray[Any], noise: float = 0.1) -> NDArray[Any]:
    return (unit[:, :2] + noise * np.random.default_rng(2).normal(size=(len(unit), 2))).astype(np.float32)


def _measure(unit: NDArray[Any], positions: NDArray[Any], labels: NDArray[Any], **changed: Any) -> MapQuality:
    given = {"groups": NONE[: len(unit)], "is_query": ALL[: len(unit)], "may_vote": ALL[: len(unit)], "seed": 0}
    return measure(unit, positions, labels, **(given | changed))


def _slow_preservation(unit: NDArray[Any], positions: NDArray[Any], k: int) -> float:
    shares = []
    for row in range(len(unit)):
        others = [other for other in range(len(unit)) if other != row]
        near = sorted(others, key=lambda other: -float(unit[row].astype(float) @ unit[other].astype(float)))[:k]
        seen = sorted(others, key=lambda other: float(np.linalg.norm(positions[row] - positions[other])))[:k]
        shares.append(len(set(near) & set(seen)) / k)
    return float(np.mean(shares))


def _slow_silhouette(unit: NDArray[Any], labels: NDArray[Any], rows: list[int]) -> float:
    values = []
    for row in rows:
        by_label: dict[str, list[float]] = defaultdict(list)
        for other in rows:
            if other != row:
                by_label[labels[other]].append(1 - float(unit[row].astype(float) @ unit[other].astype(float)))
        own = by_label.pop(labels[row], [])
        nearest = min(float(np.mean(distances)) for distances in by_label.values())
        values.append((nearest - np.mean(own)) / max(nearest, np.mean(own)) if own else 0.0)
    return float(np.mean(values))


def _slow_accuracy(
    unit: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], is_query: NDArray[Any], may_vote: NDArray[Any]
) -> tuple[float, int]:
    right = []
    for row in range(len(unit)):
        if not is_query[row] or not labels[row]:
            continue
        voters = []
        for other in range(len(unit)):
            is_relative = bool(groups[row]) and groups[row] == groups[other]
            if other != row and may_vote[other] and labels[other] and not is_relative:
                voters.append((float(unit[row].astype(float) @ unit[other].astype(float)), labels[other]))
        tally: dict[str, float] = defaultdict(float)
        for similarity, label in sorted(voters, reverse=True)[:K]:
            tally[label] += exp(similarity / 0.07)
        if tally:
            right.append(max(tally, key=lambda label: tally[label]) == labels[row])
    return (float(np.mean(right)) if right else float("nan")), len(right)


@pytest.mark.parametrize("n_rows", [5, 6, 31, N])
def test_measure__trustworthiness_is_scikit_learns(unit: NDArray[Any], n_rows: int) -> None:
    some, positions = unit[:n_rows], _positions(unit[:n_rows], noise=0.5)
    found = _measure(some, positions, NONE[:n_rows])
    assert found.n_neighbours == min(K, (n_rows - 1) // 2)
    expected = trustworthiness(some, positions, n_neighbors=found.n_neighbours)
    assert found.trustworthiness == pytest.approx(expected, abs=1e-6)
    assert found.trustworthiness < 0.999


@pytest.mark.parametrize("n_rows", [6, N])
def test_measure__preservation_is_that_of_the_obvious_loop(unit: NDArray[Any], n_rows: int) -> None:
    some, positions = unit[:n_rows], _positions(unit[:n_rows])
    found = _measure(some, positions, NONE[:n_rows])
    assert found.preservation == pytest.approx(_slow_preservation(some, positions, found.n_neighbours), abs=1e-9)
    assert 0 < found.preservation < 1


def test_measure__in_blocks_as_in_one(
    unit: NDArray[Any], labels: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = _positions(unit)
    whole = _measure(unit, positions, labels)
    monkeypatch.setattr(quality, "BLOCK", 7 * N)
    assert [len(range(*block.indices(N))) for block in quality.spans(N, N, quality.BLOCK)] == [7] * 11 + [3]
    assert _measure(unit, positions, labels) == whole


def test_neighbourhoods__points_at_the_same_place_are_not_their_own_neighbours() -> None:
    unit = unit_rows(np.random.default_rng(0).normal(size=(12, 4)))
    positions = np.zeros((12, 2), dtype=np.float32)
    near = quality._nearest_in_map(positions, np.arange(12), 3)
    assert near.shape == (12, 3)
    assert not (near == np.arange(12)[:, None]).any()
    trusted, preserved = neighbourhoods(unit, positions, 3, np.arange(12))
    assert 0 <= preserved <= 1
    assert trusted < 0.9


def test_measure__silhouette_is_that_of_the_obvious_loop(unit: NDArray[Any], labels: NDArray[Any]) -> None:
    is_query = np.arange(N) % 4 > 0
    rows = [row for row in range(N) if is_query[row] and labels[row]]
    found = _measure(unit, _positions(unit), labels, is_query=is_query)
    assert found.silhouette == pytest.approx(_slow_silhouette(unit, labels, rows), abs=1e-5)
    assert found.silhouette != pytest.approx(_measure(unit, _positions(unit), labels).silhouette, abs=1e-5)


def test_measure__silhouette_needs_classes_with_members(unit: NDArray[Any]) -> None:
    for names in (["a"] * N, [str(row) for row in range(N)], [""] * N, ["a"] + [""] * (N - 1)):
        assert np.isnan(_measure(unit, _positions(unit), np.array(names, dtype=object)).silhouette)


def test_measure__silhouette_with_a_class_of_one(unit: NDArray[Any]) -> None:
    names = np.array(["rare"] + ["a", "b"] * 20 + [""] * (N - 41), dtype=object)
    found = _measure(unit, _positions(unit), names).silhouette
    assert found == pytest.approx(_slow_silhouette(unit, names, list(range(41))), abs=1e-5)


@pytest.mark.parametrize("is_split", [False, True], ids=["all", "split"])
@pytest.mark.parametrize("is_grouped", [False, True], ids=["no groups", "groups"])
def test_measure__knn_accuracy_is_that_of_the_obvious_loop(
    unit: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], is_split: bool, is_grouped: bool
) -> None:
    is_query = np.arange(N) % 3 > 0 if is_split else ALL
    may_vote = np.arange(N) % 5 < 3 if is_split else ALL
    patients = groups if is_grouped else NONE
    found = _measure(unit, _positions(unit), labels, groups=patients, is_query=is_query, may_vote=may_vote)
    expected, n_asked = _slow_accuracy(unit, labels, patients, is_query, may_vote)
    assert found.n_asked == n_asked
    assert found.knn_accuracy == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


def test_measure__patients_do_not_vouch_for_themselves() -> None:
    """Two images of each patient are all but equal, and labels are drawn by patient: only the patient knows."""
    rng = np.random.default_rng(0)
    patients = rng.normal(size=(40, 6))
    unit = unit_rows(np.repeat(patients, 2, axis=0) + 0.001 * rng.normal(size=(80, 6)))
    labels = np.repeat(np.array(["a", "b"], dtype=object)[rng.integers(0, 2, 40)], 2)
    groups = np.repeat(np.array([f"p{patient}" for patient in range(40)], dtype=object), 2)
    assert _measure(unit, unit[:, :2], labels).knn_accuracy > 0.85
    assert _measure(unit, unit[:, :2], labels, groups=groups).knn_accuracy < 0.7


def test_measure__rows_without_a_group_are_not_one_group(unit: NDArray[Any], labels: NDArray[Any]) -> None:
    one_group = np.array(["p"] * N, dtype=object)
    nobody_left = _measure(unit, _positions(unit), labels, groups=one_group)
    assert np.isnan(nobody_left.knn_accuracy)
    assert nobody_left.n_asked == 0
    assert _measure(unit, _positions(unit), labels).n_asked == 70


def test_measure__nothing_to_ask_or_nobody_known(unit: NDArray[Any], labels: NDArray[Any]) -> None:
    nobody = np.zeros(N, dtype=bool)
    for changed in ({"is_query": nobody}, {"may_vote": nobody}, {"labels": NONE}):
        names = changed.pop("labels", labels)
        found = _measure(unit, _positions(unit), names, **changed)
        assert np.isnan(found.knn_accuracy)
        assert found.n_asked == 0
    only_itself = np.arange(N) == int(np.flatnonzero(labels != "")[0])
    assert _measure(unit, _positions(unit), labels, is_query=only_itself, may_vote=only_itself).n_asked == 0


def test_knn_accuracy__fewer_known_than_neighbours() -> None:
    unit = unit_rows(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]))
    names = np.array(["x", "x", "y", "y"], dtype=object)
    found = knn_accuracy(unit, names, np.array([""] * 4, dtype=object), np.array([1, 3]), np.array([0, 2]))
    assert found == (1.0, 2)


def test_measure__samples_are_near_the_whole_and_seeded(
    make_features: Callable[..., NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows = 1500
    classes = np.arange(n_rows) % 3
    unit = unit_rows(make_features(classes, 0.8, seed=0))
    given: dict[str, Any] = {
        "groups": np.array([""] * n_rows, dtype=object),
        "is_query": np.ones(n_rows, dtype=bool),
        "may_vote": np.ones(n_rows, dtype=bool),
    }
    names, positions = classes.astype(str).astype(object), _positions(unit)
    whole = _measure(unit, positions, names, **given)
    assert whole.n_asked == n_rows
    for name, value in {"ALL_POINTS": 1000, "SAMPLE": 500, "SILHOUETTE_SAMPLE": 500}.items():
        monkeypatch.setattr(quality, name, value)
    sample = _measure(unit, positions, names, **given)
    assert sample.n_asked == 500
    assert sample == _measure(unit, positions, names, **given)
    assert sample != _measure(unit, positions, names, **given | {"seed": 1})
    for field, tolerance in {"trustworthiness": 0.01, "preservation": 0.02, "silhouette": 0.03}.items():
        assert getattr(sample, field) == pytest.approx(getattr(whole, field), abs=tolerance)
        assert getattr(sample, field) != getattr(whole, field)
    assert sample.knn_accuracy == pytest.approx(whole.knn_accuracy, abs=0.06)


def test_silhouette__of_a_sample_with_one_class_left(unit: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = np.array(["b"] + ["a"] * (N - 1), dtype=object)
    monkeypatch.setattr(quality, "SILHOUETTE_SAMPLE", 2)
    drawn = [silhouette(unit, names, np.arange(N), seed) for seed in range(3)]
    assert np.isnan(drawn).all()


def test_measured_rows__of_each_kind_so_many() -> None:
    labels = np.where(np.arange(1000) % 2 == 0, "cat", "").astype(object)
    asked, voting = np.arange(1000) < 200, np.arange(1000) >= 200
    found = measured_rows(labels, asked, voting, 120, 5)
    assert (np.diff(found.rows) > 0).all()
    assert [mask.sum() for mask in (found.is_among, found.is_query, found.may_vote)] == [120, 100, 120]
    np.testing.assert_array_equal(found.rows[found.is_query], np.arange(0, 200, 2))  # few are asked: all of them
    votes = found.rows[found.may_vote]
    assert ((votes >= 200) & (votes % 2 == 0)).all()
    assert not np.array_equal(votes, measured_rows(labels, asked, voting, 120, 6).rows[:120])


def test_measured_rows__where_everyone_votes_the_same_rows_are_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "ALL_POINTS", 50)
    monkeypatch.setattr(quality, "SAMPLE", 20)
    labels, everyone = np.array(["cat"] * 300, dtype=object), np.ones(300, dtype=bool)
    found = measured_rows(labels, everyone, everyone, 100, 0)
    assert len(found.rows) == 100
    assert found.is_among.all()
    assert found.may_vote.all()
    assert found.is_query.sum() == 20


def test_measured_rows__every_row_has_the_same_chance() -> None:
    labels, everyone = np.array([""] * 40, dtype=object), np.ones(40, dtype=bool)
    drawn = np.zeros(40)
    for seed in range(300):
        drawn[measured_rows(labels, everyone, everyone, 10, seed).rows] += 1
    assert np.abs(drawn / 300 - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 300)
