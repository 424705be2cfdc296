from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dvme.heads.fitting.choosing import last_near_best, last_near_best_of_labels
from dvme.metrics.classification import METRICS


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    metric=st.sampled_from(METRICS),
    is_weighted=st.booleans(),
    n_errors=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_last_near_best_of_labels__one_label_is_two_classes(
    seed: int, n: int, metric: str, is_weighted: bool, n_errors: float
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n).astype(float)
    settings_ = np.clip(truth * 0.3 + rng.random((5, n)) * 0.7, 0, 1).round(1)
    weights = rng.integers(1, 4, n).astype(float) if is_weighted else None
    both = np.stack([1 - settings_, settings_], axis=-1)
    expected = last_near_best(metric, truth.astype(int), both, weights, n_errors=n_errors)
    if len(np.unique(truth)) == 2 or metric == "accuracy":
        one = last_near_best_of_labels(metric, truth[:, None], settings_[..., None], weights, n_errors=n_errors)
        assert one == expected
        # a cell that is not known takes part in nothing
        more = np.r_[truth, np.nan][:, None], np.concatenate([settings_, rng.random((5, 1))], axis=1)[..., None]
        some = None if weights is None else np.r_[weights, 5.0]
        assert last_near_best_of_labels(metric, *more, some, n_errors=n_errors) == expected


@pytest.mark.parametrize("seed", range(5))
def test_last_near_best_of_labels__mean_of_those_that_have_an_auc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (60, 4)).astype(float)
    truth[:, 3] = 0.0
    truth[rng.random(truth.shape) < 0.3] = np.nan
    settings_ = np.clip(np.nan_to_num(truth) * 0.2 + rng.random((6, 60, 4)), 0, 1)
    known = [~np.isnan(truth[:, label]) for label in range(3)]
    means = [
        np.mean([roc_auc_score(truth[rows, label], each[rows, label]) for label, rows in enumerate(known)])
        for each in settings_
    ]
    assert last_near_best_of_labels("auc", truth, settings_, n_errors=0.0) == int(np.argmax(means))


def test_last_near_best_of_labels__errors_of_the_mean_are_those_over_draws_of_images() -> None:
    """How far two settings must differ to be told apart, against the spread of the difference over resampled images."""
    rng = np.random.default_rng(1)
    n = 300
    truth = (rng.random((n, 3)) < [0.5, 0.3, 0.4]).astype(float)
    truth[:, 1] = truth[:, 0]  # what an image adds to one label it adds to the other
    truth[rng.random(truth.shape) < 0.2] = np.nan
    latent = np.nan_to_num(truth, nan=0.5) + rng.normal(size=(n, 3))
    noise = rng.normal(size=(n, 1)) * 0.8
    settings_ = 1.0 / (1.0 + np.exp(-np.stack([latent, latent + noise])))
    draws = np.random.default_rng(2).integers(0, n, (400, n))

    def mean_auc(each: np.ndarray, rows: np.ndarray) -> float:
        areas = []
        for label in range(3):
            known = rows[~np.isnan(truth[rows, label])]
            areas.append(roc_auc_score(truth[known, label], each[known, label]))
        return float(np.mean(areas))

    gap = mean_auc(settings_[0], np.arange(n)) - mean_auc(settings_[1], np.arange(n))
    spread = np.std([mean_auc(settings_[0], rows) - mean_auc(settings_[1], rows) for rows in draws])
    assert gap > 0
    needed = gap / spread
    assert last_near_best_of_labels("auc", truth, settings_, n_errors=0.85 * needed) == 0
    assert last_near_best_of_labels("auc", truth, settings_, n_errors=1.15 * needed) == 1


def test_last_near_best_of_labels__one_value_only_or_nothing() -> None:
    settings_ = np.array([[[0.9], [0.2], [0.8]], [[0.9], [0.1], [0.2]], [[0.2], [0.9], [0.8]]])
    ones, nothing = np.ones((3, 1)), np.full((3, 1), np.nan)
    assert last_near_best_of_labels("auc", ones, settings_, n_errors=0.0) == 2  # accuracies 2/3, 1/3, 2/3
    assert last_near_best_of_labels("auc", nothing, settings_, n_errors=1.0) == 1
