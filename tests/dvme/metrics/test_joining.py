"""Joined predictions and labels, by hand and against products and means of plain probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from dvme.metrics.joining import JOINS, joined, joined_truth

NAN = np.nan


def test_joined__by_hand() -> None:
    """Three images of the first unit say 0.5, 0.2 and 0.1; the one of the second 0.3. Their order is mixed."""
    odds = logit(np.array([[0.5], [0.3], [0.2], [0.1]]))
    unit = np.array([0, 1, 0, 0])
    assert expit(joined(odds, unit, "noisy-or")).ravel() == pytest.approx([1 - 0.5 * 0.8 * 0.9, 0.3])  # 0.64
    assert expit(joined(odds, unit, "mean")).ravel() == pytest.approx([0.8 / 3, 0.3])
    assert expit(joined(odds, unit, "max")).ravel() == pytest.approx([0.5, 0.3])


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_joined__equals_plain_probabilities(seed: int, n_images: int, n_labels: int) -> None:
    rng = np.random.default_rng(seed)
    unit = np.unique(rng.integers(0, 5, n_images), return_inverse=True)[1]
    odds = rng.normal(0.0, 3.0, (n_images, n_labels))
    plain = {"mean": lambda p: p.mean(0), "max": lambda p: p.max(0), "noisy-or": lambda p: 1 - np.prod(1 - p, axis=0)}
    for join in JOINS:
        found = expit(joined(odds, unit, join))
        expected = [plain[join](expit(odds[unit == each])) for each in range(unit.max() + 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("join", JOINS)
def test_joined__one_image_a_unit_changes_nothing(join: str) -> None:
    odds = np.array([[-700.0, 40.0], [3.0, -40.0], [0.0, 1.0]])
    np.testing.assert_allclose(joined(odds, np.arange(3), join), odds, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("join", JOINS)
def test_joined__keeps_apart_what_is_all_one(join: str) -> None:
    """As probabilities 1 - 1e-18 and 1 - 1e-22 are the same number; certainty and impossibility are odds as well."""
    odds = np.array([[40.0], [40.0], [50.0], [50.0], [np.inf], [-np.inf], [-np.inf], [-np.inf]])
    first, second, certain, never = joined(odds, np.array([0, 0, 1, 1, 2, 2, 3, 3]), join).ravel()
    assert first < second < np.inf
    assert certain == (0.0 if join == "mean" else np.inf)
    assert never == -np.inf


def test_joined__noisy_or_grows_with_every_image_and_the_mean_does_not() -> None:
    odds, once, twice = logit(np.full((3, 1), 0.4)), np.array([0, 1, 2]), np.array([0, 0, 0])
    assert expit(joined(odds, twice, "noisy-or"))[0, 0] == pytest.approx(1 - 0.6**3)
    assert joined(odds, twice, "mean")[0, 0] == pytest.approx(joined(odds, once, "mean")[0, 0])


@pytest.mark.parametrize(
    ("images", "has_any", "dropped", "is_conflict"),
    [
        ([1, 1], 1, 1, False),
        ([0, 0], 0, 0, False),
        ([0, 1], 1, NAN, True),
        ([0, 1, NAN], 1, NAN, True),
        ([1, NAN], 1, 1, False),
        ([0, NAN], NAN, NAN, False),
        ([NAN, NAN], NAN, NAN, False),
        ([0], 0, 0, False),
    ],
)
def test_joined_truth__of_one_unit(images: list[float], has_any: float, dropped: float, is_conflict: bool) -> None:
    truth, unit = np.array(images)[:, None], np.zeros(len(images), dtype=np.intp)
    for policy, expected in (("any", has_any), ("drop", dropped)):
        found = joined_truth(truth, unit, policy)
        np.testing.assert_array_equal(found.truth, [[expected]])
        assert found.is_conflict.tolist() == [[is_conflict]]


def test_joined_truth__labels_and_units_are_apart() -> None:
    truth = np.array([[1, 0], [0, NAN], [0, 0], [1, 1]])
    found = joined_truth(truth, np.array([1, 1, 0, 2]), "any")
    np.testing.assert_array_equal(found.truth, [[0, 0], [1, NAN], [1, 1]])
    assert found.is_conflict.tolist() == [[False, False], [True, False], [False, False]]
