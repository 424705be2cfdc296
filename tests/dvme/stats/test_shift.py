from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dvme.stats.shift import N_SPLITS, STRENGTH, discrepancy, domain_classifier


def _slow(one: np.ndarray, other: np.ndarray, p: np.ndarray, q: np.ndarray, bandwidth: float) -> float:
    """Pair by pair, but for pairs of one patient."""

    def mean(a: np.ndarray, b: np.ndarray, keep: np.ndarray) -> float:
        return float(np.exp(-cdist(a, b, "sqeuclidean") / (2 * bandwidth**2))[keep].mean())

    within = mean(one, one, p[:, None] != p) + mean(other, other, q[:, None] != q)
    return within - 2 * mean(one, other, np.ones((len(one), len(other)), dtype=bool))


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12), st.booleans(), st.sampled_from([1.0, 1e-4, 1e4])
)
def test_discrepancy__is_the_slow_one(seed: int, n: int, m: int, is_grouped: bool, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = scale * rng.normal(size=(n, 3)), scale * (rng.normal(size=(m, 3)) + 0.5)
    p, q = (np.r_[0, 1, rng.integers(0, 4, k - 2)] if is_grouped else np.arange(k) for k in (n, m))
    found = discrepancy(one, other, (p, q) if is_grouped else (None, None), n_permutations=9)
    bandwidth = np.median(pdist(np.concatenate([one, other])))
    assert found.bandwidth == pytest.approx(bandwidth, rel=1e-6)
    assert found.squared == pytest.approx(_slow(one, other, p, q, bandwidth), rel=1e-6, abs=1e-9)
    assert 0.1 <= found.p <= 1.0
    assert (found.n_rows, found.n_all, found.is_sample, found.reason) == ((n, m), (n, m), False, "")


def test_discrepancy__p_is_the_share_of_all_ways_to_divide_the_patients() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(8, 2)) + 0.8, rng.normal(size=(6, 2))
    p, q = np.array([0, 0, 0, 1, 1, 2, 3, 3]), np.array([0, 0, 1, 2, 2, 2])
    rows, of = np.concatenate([one, other]), np.r_[p, q + 4]
    found = discrepancy(one, other, (p, q), n_permutations=4000)
    values = []
    for some in combinations(range(7), 4):
        side = np.isin(of, some)
        values.append(_slow(rows[side], rows[~side], of[side], of[~side], found.bandwidth))
    share = np.mean(np.array(values) >= found.squared - 1e-9)
    assert found.p == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))


@pytest.mark.parametrize("per_patient", [1, 4])
def test_discrepancy__of_the_same_distribution_is_0_and_rarely_significant(per_patient: int) -> None:
    rng, found = np.random.default_rng(0), []
    patients = np.arange(24) // per_patient
    for seed in range(300):
        both = rng.normal(size=(2, 24, 3)) + (per_patient > 1) * 2 * rng.normal(size=(2, 24, 3))[:, patients]
        found.append(discrepancy(*both, (patients, patients), seed=seed, n_permutations=59))
    squared, p = np.array([each.squared for each in found]), np.array([each.p for each in found])
    assert abs(squared.mean()) < 3 * squared.std() / np.sqrt(300)
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(p <= level) - level) < 3 * np.sqrt(level * (1 - level) / 300)


def test_discrepancy__finds_a_shift() -> None:
    rng = np.random.default_rng(0)
    found = discrepancy(rng.normal(size=(200, 5)), rng.normal(size=(150, 5)) * 1.6)
    assert found.p == 0.001
    assert found.squared > 0.005


def test_discrepancy__looks_at_no_more_rows_than_it_says() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(300, 3)), rng.normal(size=(40, 3))
    found = discrepancy(one, other, seed=1, most_rows=50, n_permutations=19)
    assert (found.n_rows, found.n_all, found.is_sample) == ((50, 40), (300, 40), True)
    assert found == discrepancy(one, other, seed=1, most_rows=50, n_permutations=19)
    assert found != discrepancy(one, other, seed=2, most_rows=50, n_permutations=19)
    assert domain_classifier(one, other, most_rows=50).n_rows == (50, 40)


@pytest.mark.parametrize("value", [0.0, 3.7, 1e5])
def test_discrepancy__of_rows_that_are_all_equal(value: float) -> None:
    found = discrepancy(np.full((20, 4), value, dtype=np.float32), np.full((10, 4), value, dtype=np.float32))
    assert (found.squared, found.p) == (0.0, 1.0)


def test_discrepancy__of_rows_most_of_which_are_equal() -> None:
    one, other = np.zeros((20, 2)), np.zeros((20, 2))
    other[:6] = [3.0, 4.0]
    found = discrepancy(one, other)
    share = 2 * 6 * 34 / (40 * 39)  # of the pairs, which are 5 apart
    assert found.bandwidth == pytest.approx(5 * np.sqrt(share))
    assert found.p < 0.05


def test_shift__of_too_few_says_so() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(10, 3)), rng.normal(size=(10, 3))
    found = discrepancy(one, other, (np.zeros(10, dtype=int), None))
    assert found.reason == "1 images or patients on a side; it takes 2"
    assert np.isnan([found.squared, found.p, found.bandwidth]).all()
    few = domain_classifier(one, other, (np.arange(10) // 5, None))
    assert few.reason == "2 images or patients on a side; it takes 3"
    assert np.isnan([few.auc.estimate, few.auc.low, few.auc.high]).all()
    assert "0 images" in discrepancy(one[:0], other).reason


def test_shift__is_of_one_backbone() -> None:
    rows = np.zeros((5, 3))
    for function in (discrepancy, domain_classifier):
        with pytest.raises(ValueError, match=r"embeddings are \(5, 3\) and \(5, 2\)"):
            function(rows, rows[:, :2])
        with pytest.raises(ValueError, match="there are 4 groups and 5 rows"):
            function(rows, rows, (None, np.arange(4)))


def test_domain_classifier__is_scikit_learns_on_the_same_folds() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 6)), rng.normal(size=(45, 6)) * 2 + 0.5
    patients = np.arange(60) // 3, np.arange(45) // 2
    found = domain_classifier(one, other, patients, seed=7)
    seed = int(np.random.default_rng(7).integers(2**31))
    peer = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000)),
        np.concatenate([one, other]),
        np.repeat([0, 1], [60, 45]),
        groups=np.r_[patients[0], patients[1] + 20],
        cv=StratifiedGroupKFold(N_SPLITS, shuffle=True, random_state=seed),
        scoring="roc_auc",
    )
    assert found.auc.estimate == pytest.approx(peer.mean())
    assert found.auc.low < found.auc.estimate < found.auc.high


def test_domain_classifier__does_not_recognise_patients() -> None:
    """Every patient has four images that are all but the same, and no side has a look of its own."""
    rng, n = np.random.default_rng(0), 40
    patients = np.arange(4 * n) // 4
    sides = [rng.normal(size=(n, 30))[patients] + 0.1 * rng.normal(size=(4 * n, 30)) for _ in range(2)]
    fooled, found = domain_classifier(*sides), domain_classifier(*sides, (patients, patients))
    assert fooled.auc.low > 0.7
    assert found.auc.low < 0.5 < found.auc.high
    assert found.auc.high - found.auc.low > 1.5 * (fooled.auc.high - fooled.auc.low)


def test_domain_classifier__folds_vary_together() -> None:
    """The variance is that of the held-out rows times 1 + 4 / 5; tests/benchmarks/test_sites.py has the coverage."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(400, 2)), rng.normal(loc=[0.8, 0.0], size=(400, 2))
    auc = domain_classifier(one, other).auc
    area = auc.estimate
    # Hanley and McNeil 1982, whose exponential distributions are close to normal ones.
    beats_two, is_beaten = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 399 * (beats_two - area**2) + 399 * (is_beaten - area**2)) / 400**2
    assert auc.high - auc.low == pytest.approx(2 * 1.96 * np.sqrt(1.8 * variance), rel=0.06)


def test_domain_classifier__finds_a_shift() -> None:
    rng = np.random.default_rng(0)
    found = domain_classifier(rng.normal(size=(80, 300)), rng.normal(size=(80, 300)) + 1.0)
    assert found.auc.estimate > 0.99
    assert 0.9 < found.auc.low < 1.0
