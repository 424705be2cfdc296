"""The layer of classes in order is the cumulative head, and stays one while it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from dvme.heads.exact.linear import FittedLinear
from dvme.heads.tuned.ordered import OrderedClassifier

N, D = 60, 5


def features() -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(size=(N, D)) + 40.0).astype(np.float32)


def head(cuts: list[float]) -> FittedLinear:
    weights = np.random.default_rng(1).normal(size=(D, 1))
    about = float(np.full(D, 40.0) @ weights[:, 0])
    return FittedLinear(weights, np.array(cuts) - about, {}, link="cumulative")


def by_hand(start: FittedLinear, values: NDArray[Any]) -> NDArray[np.float64]:
    """P(k) = P(y > k - 1) - P(y > k)."""
    above = expit(values.astype(np.float64) @ start.weights + start.intercepts)
    ends = np.hstack([np.ones((len(above), 1)), above, np.zeros((len(above), 1))])
    return ends[:, :-1] - ends[:, 1:]


@pytest.mark.parametrize(
    ("cuts", "learns"),
    [
        ([1.0, -0.5, -2.0], [True] * 4),
        ([1.0, 1.0, -2.0], [True, False, True, True]),
        ([np.inf, 0.5, -2.0], [False, True, True, True]),
        ([0.5, -np.inf, -np.inf], [True, True, False, False]),
        ([0.5], [True, True]),
        ([np.inf, -np.inf], [False, True, False]),
    ],
)
def test_ordered__is_the_head_and_has_gradients(cuts: list[float], learns: list[bool]) -> None:
    values, start = features(), head(cuts)
    layer = OrderedClassifier(start, values.mean(axis=0))
    assert layer.learns.tolist() == learns
    logs = layer(torch.from_numpy(values))
    np.testing.assert_allclose(logs.exp().detach().numpy(), by_hand(start, values), atol=2e-5)
    (-logs[:, layer.learns].mean()).backward()
    for value in layer.parameters():
        assert value.grad is not None
        assert value.grad.isfinite().all()
    np.testing.assert_allclose(layer.fitted().predict_proba([values]), by_hand(start, values), atol=2e-5)


def test_ordered__cuts_stay_in_order_whatever_the_steps() -> None:
    values, start = features(), head([0.2, 0.1, 0.0])
    layer = OrderedClassifier(start, values.mean(axis=0))
    optimizer = torch.optim.SGD(layer.parameters(), lr=5.0)
    labels = torch.arange(N) % 4
    first = None
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(layer(torch.from_numpy(values)), labels)
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    found = layer.fitted()
    assert (np.diff(found.intercepts) < 0).all()
    assert loss.item() < first
    np.testing.assert_allclose(found.predict_proba([values]).sum(axis=1), 1.0, atol=1e-9)
