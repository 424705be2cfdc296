from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.errors import OptionError
from dvme.training.batches import epoch_order, loss_weights, resolve_sampling
from dvme.training.schedule import TrainingProtocol


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_epoch_order__oversampled_classes_are_equally_often_and_rows_evenly(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = epoch_order(labels, "oversampled", np.random.default_rng(seed))
    assert len(order) == len(labels)
    per_class = np.bincount(labels[order], minlength=len(counts))
    assert per_class.max() - per_class.min() <= 1
    per_row = np.bincount(order, minlength=len(labels))
    for c in range(len(counts)):
        own = per_row[labels == c]
        assert own.max() - own.min() <= 1


def test_epoch_order__shuffled_has_every_row_once_and_another_order_each_time() -> None:
    rng = np.random.default_rng(0)
    first, second = (epoch_order(np.zeros(50, dtype=int), "shuffled", rng) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 0, 1, 1], "shuffled"), ([0, 0, 1], "shuffled"), ([0, 0, 0, 1], "oversampled"), ([0, 2, 2, 2], "oversampled")],
)
def test_resolve_sampling__auto_oversamples_where_classes_differ(labels: list[int], expected: str) -> None:
    assert resolve_sampling("auto", np.array(labels), np.ones(len(labels))) == expected
    assert resolve_sampling("shuffled", np.array(labels), np.ones(len(labels))) == "shuffled"


def test_protocol__refuses_what_cannot_be_trained() -> None:
    with pytest.raises(OptionError, match="sampling 'both' is not known; choose from auto"):
        TrainingProtocol(sampling="both")  # type: ignore[arg-type]
    for wrong in ({"batch_size": 0}, {"max_epochs": 0}, {"stop_patience": 0}, {"learning_rate": 0.0}):
        with pytest.raises(OptionError, match="is not possible"):
            TrainingProtocol(**wrong)  # type: ignore[arg-type]


def test_loss_weights__by_hand() -> None:
    labels, weights = np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 8.0, 8.0])
    np.testing.assert_allclose(loss_weights(labels, "shuffled", weights), [0.2, 0.6, 1.6, 1.6])  # their mean is 5
    np.testing.assert_allclose(loss_weights(labels, "oversampled", weights), [0.5, 1.5, 1.0, 1.0])  # 2 and 8
    assert loss_weights(labels, "shuffled", np.ones(4)).tolist() == [1.0] * 4


def test_resolve_sampling__by_weight() -> None:
    labels = np.array([0, 0, 0, 2])  # classes need not all be there
    assert resolve_sampling("auto", labels, np.ones(len(labels))) == "oversampled"
    assert resolve_sampling("auto", labels, np.array([1.0, 1.0, 1.0, 3.0])) == "shuffled"
    assert resolve_sampling("auto", labels, np.array([1.0, 1.0, 1.0, 5.5])) == "oversampled"
