from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from dvme.training.losses import loss


def slow_of_classes(logits: NDArray[np.float64], targets: list[int], weights: list[float], learns: list[bool]) -> float:
    total = 0.0
    for row, target, weight in zip(logits, targets, weights, strict=True):
        powers = [math.exp(value) if is_learned else 0.0 for value, is_learned in zip(row, learns, strict=True)]
        total -= weight * math.log(powers[target] / sum(powers))
    return total / sum(weights)


def slow_of_labels(
    logits: NDArray[np.float64], targets: NDArray[np.float64], weights: list[float], learns: list[bool]
) -> float:
    total = count = 0.0
    for row in range(len(logits)):
        for column in range(len(learns)):
            target = targets[row, column]
            if learns[column] and not math.isnan(target):
                probability = 1.0 / (1.0 + math.exp(-logits[row, column]))
                own = target * math.log(probability) + (1.0 - target) * math.log(1.0 - probability)
                total, count = total - weights[row] * own, count + weights[row]
    return total / count if count else 0.0


def with_gradient(logits: NDArray[np.float64], *rest: Tensor) -> tuple[float, Tensor]:
    leaf = torch.from_numpy(logits).requires_grad_()
    value = loss(leaf, *rest)
    value.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return value.item(), leaf.grad


@given(seed=st.integers(0, 10_000))
def test_loss__of_classes_equals_a_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_rows, n_classes = rng.integers(1, 6), rng.integers(2, 5)
    learns = rng.random(n_classes) < 0.7
    learns[0] = True
    logits = rng.normal(0.0, 3.0, (n_rows, n_classes))
    targets, weights = rng.choice(np.flatnonzero(learns), n_rows), rng.uniform(0.1, 5.0, n_rows)
    expected = slow_of_classes(logits, targets.tolist(), weights.tolist(), learns.tolist())
    logits[:, ~learns] = rng.choice([-math.inf, math.inf, 7.0], (n_rows, (~learns).sum()))
    value, gradient = with_gradient(logits, *map(torch.from_numpy, (targets, weights, learns)))
    assert value == pytest.approx(expected, abs=1e-12)
    assert gradient.isfinite().all()
    assert (gradient[:, ~learns] == 0).all()


@given(seed=st.integers(0, 10_000))
def test_loss__of_labels_equals_a_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = n_rows, n_labels = rng.integers(1, 6), rng.integers(1, 5)
    learns = rng.random(n_labels) < 0.7
    logits, weights = rng.normal(0.0, 3.0, shape), rng.uniform(0.1, 5.0, n_rows)
    targets = rng.choice([0.0, 1.0, 0.3, math.nan], shape)
    expected = slow_of_labels(logits, targets, weights.tolist(), learns.tolist())
    logits[:, ~learns] = rng.choice([-math.inf, math.inf, 7.0], (n_rows, (~learns).sum()))
    value, gradient = with_gradient(logits, *map(torch.from_numpy, (targets, weights, learns)))
    assert value == pytest.approx(expected, abs=1e-12)
    assert gradient.isfinite().all()
    assert (gradient[:, ~learns] == 0).all()
    assert (gradient[torch.from_numpy(targets).isnan()] == 0).all()


def test_loss__nothing_known_is_nought() -> None:
    unknown = torch.full((2, 3), math.nan)
    value, gradient = with_gradient(np.ones((2, 3)), unknown, torch.ones(2), torch.ones(3, dtype=torch.bool))
    assert (value, gradient.abs().max().item()) == (0.0, 0.0)


def test_loss__a_class_that_does_not_learn_is_infinitely_unlikely() -> None:
    learns = torch.tensor([True, True, False])
    assert math.isinf(loss(torch.zeros(1, 3), torch.tensor([2]), torch.ones(1), learns).item())


def test_loss__large_logits_overflow_nothing() -> None:
    learns, logits = torch.ones(2, dtype=torch.bool), torch.tensor([[1e4, -1e4]])
    assert loss(logits, torch.tensor([1]), torch.ones(1), learns).item() == pytest.approx(2e4)
    assert loss(logits, torch.tensor([[0.0, 0.0]]), torch.ones(1), learns).item() == pytest.approx(5e3)
