from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from dvme.heads.neighbours.robustness import robustness_index


def _slow(
    embeddings: np.ndarray, classes: np.ndarray, sites: np.ndarray, patients: np.ndarray, k: int
) -> tuple[int, int]:
    """Neighbours of the same class at another site, and the reverse, image by image."""
    distances, good, bad = cdist(embeddings, embeddings, "cosine"), 0, 0
    for i, row in enumerate(distances):
        others = [j for j in np.argsort(row, kind="stable") if patients[j] != patients[i]][:k]
        good += sum(classes[j] == classes[i] and sites[j] != sites[i] for j in others)
        bad += sum(classes[j] != classes[i] and sites[j] == sites[i] for j in others)
    return good, bad


@given(st.integers(0, 2**32 - 1), st.integers(6, 30), st.integers(1, 12), st.integers(1, 4))
def test_robustness_index__is_the_slow_one(seed: int, n: int, k: int, per_patient: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(n, 4)).astype(np.float32)
    classes, sites = rng.permutation(np.arange(n) % 3), rng.permutation(np.arange(n) % 2)
    patients = np.arange(n) // per_patient
    found = robustness_index(embeddings, classes, sites, patients, k=k)
    k = min(k, n - per_patient)
    good, bad = _slow(embeddings, classes, sites, patients, k)
    assert (found.k, found.n_same_class, found.n_same_site) == (k, good, bad)
    if good + bad:
        assert found.index.estimate == pytest.approx(good / (good + bad))
        assert np.isnan(found.index.low) or 0 <= found.index.low <= found.index.estimate <= found.index.high <= 1


def test_robustness_index__by_hand() -> None:
    """On a circle, two neighbours each. Class and site are written beside the angle."""
    angles = np.deg2rad([0, 10, 21, 90, 101, 113])
    names = ["a1", "a2", "b1", "b1", "a1", "b2"]
    classes, sites = np.array([name[0] for name in names]), np.array([name[1] for name in names])
    # a1: a2 SO, b1 OS; a2: a1 SO, b1 -; b1: a2 -, a1 OS; b1: a1 OS, b2 SO; a1: b1 OS, b2 -; b2: a1 -, b1 SO.
    found = robustness_index(np.stack([np.cos(angles), np.sin(angles)], axis=1), classes, sites, k=2)
    assert (found.n_same_class, found.n_same_site) == (4, 4)
    assert found.index.estimate == 0.5
    assert found.reason == ""


@pytest.mark.parametrize(("is_class", "expected"), [(True, 1.0), (False, 0.0)])
def test_robustness_index__of_a_backbone_that_sees_only_one_thing(is_class: bool, expected: float) -> None:
    rng = np.random.default_rng(0)
    classes, sites = np.arange(200) % 2, np.arange(200) // 2 % 2
    seen = classes if is_class else sites
    found = robustness_index(np.eye(2)[seen] + 0.05 * rng.normal(size=(200, 2)), classes, sites, k=10)
    assert found.index.estimate == expected
    assert found.by_chance == pytest.approx(0.5, abs=0.01)
    assert 0.01 < found.index.high - found.index.low < 0.05  # Wilson's of 200 of 200


def test_robustness_index__by_chance_is_that_of_embeddings_without_meaning() -> None:
    rng = np.random.default_rng(0)
    sites = (rng.random(1500) < 0.2).astype(int)
    classes = (rng.random(1500) < np.where(sites, 0.7, 0.3)).astype(int)
    patients = np.arange(1500) // 3
    found = robustness_index(rng.normal(size=(1500, 40)), classes, sites, patients)
    assert found.by_chance == pytest.approx(found.index.estimate, abs=0.02)
    good = bad = total = 0.0
    for i in range(0, 1500, 10):
        others = patients != patients[i]
        good += ((classes == classes[i]) & (sites != sites[i]) & others).sum()
        bad += ((classes != classes[i]) & (sites == sites[i]) & others).sum()
        total += 1
    assert found.by_chance == pytest.approx(good / (good + bad), abs=0.05)


def test_robustness_index__copies_and_images_of_the_same_patient_are_no_neighbours() -> None:
    """Each patient's three images are the same: without patients they are all that is found."""
    rng = np.random.default_rng(0)
    embeddings = np.repeat(rng.normal(size=(30, 3)), 3, axis=0)
    classes, sites, patients = np.arange(90) // 3 % 2, np.arange(90) % 3, np.arange(90) // 3
    assert robustness_index(embeddings, classes, sites, k=2).index.estimate == 1.0
    found = robustness_index(embeddings, classes, sites, patients, k=3)
    assert found.n_same_site > 0


def test_robustness_index__is_wider_over_patients() -> None:
    rng = np.random.default_rng(0)
    patients = np.arange(300) // 6
    embeddings = rng.normal(size=(50, 5))[patients] + 0.1 * rng.normal(size=(300, 5))
    classes, sites = patients % 2, patients // 2 % 2
    plain, grouped = (robustness_index(embeddings, classes, sites, each, k=12) for each in (None, patients))
    assert grouped.index.high - grouped.index.low > 1.4 * (plain.index.high - plain.index.low)


@pytest.mark.parametrize(
    ("classes", "sites", "patients", "reason"),
    [
        ([0, 0, 0, 0], [0, 1, 0, 1], None, "all images are of one class"),
        ([0, 1, 0, 1], [1, 1, 1, 1], None, "all images are of one site"),
        ([0, 1, 0, 1], [0, 0, 1, 1], [7, 7, 7, 7], "all images are of one patient"),
        ([0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], "2 images or patients have such neighbours; it takes 3"),
        ([0, 0, 1, 1], [0, 0, 1, 1], None, "no neighbour is of the same class at another site, or the reverse"),
    ],
)
def test_robustness_index__says_why_there_is_none(
    classes: list[int], sites: list[int], patients: list[int] | None, reason: str
) -> None:
    embeddings = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    found = robustness_index(
        embeddings, np.array(classes), np.array(sites), None if patients is None else np.array(patients)
    )
    assert found.reason == reason
    assert np.isnan([found.index.low, found.index.high]).all()
    assert np.isnan(found.index.estimate) == (not reason.startswith("2"))


def test_robustness_index__of_many_images_asks_some() -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(400, 4)), rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    found = robustness_index(*some, most_queries=100, k=5)
    assert (found.n_queries, found.n_all, found.is_sample) == (100, 400, True)
    assert found.index.estimate == pytest.approx(robustness_index(*some, k=5).index.estimate, abs=0.12)


def test_robustness_index__refuses_what_does_not_fit() -> None:
    rows = np.eye(4)
    with pytest.raises(ValueError, match="there are 3 sites and 4 images"):
        robustness_index(rows, np.arange(4), np.arange(3))
    with pytest.raises(ValueError, match="k is 0; it must be 1 or more"):
        robustness_index(rows, np.arange(4), np.arange(4), k=0)
