"""Classifiers that know nothing but which classes there are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from dvme.heads import Embedded, Job
from dvme.heads.tuned.finetune import Finetune
from dvme.heads.tuned.starts import untaught

D = 16


def job(n: int, seed: int = 0) -> Job:
    return Job(Finetune(), ("b",), np.arange(n), np.arange(0), seed)


def embedded(labels: NDArray[np.float32] | NDArray[np.int64], n_classes: int) -> Embedded:
    blocks = {"b": np.zeros((len(labels), D), dtype=np.float32)}
    return Embedded(blocks, labels, n_classes, truth=labels if labels.ndim == 2 else None)


def test_untaught__weights_are_of_the_seed_and_as_torch_draws_them() -> None:
    data = embedded(np.array([0, 1, 0, 2]), 4)
    first, again, other = (untaught(job(4, seed), data, "softmax", D) for seed in (0, 0, 1))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert 0.9 / 4 < first.weight.abs().max().item() <= 1 / 4, "1 / sqrt(16)"
    assert first.learns.tolist() == [True, True, True, False], "no row has the last"
    assert not first.centre.any()


def test_untaught__labels_that_are_constant_or_unknown() -> None:
    nan = np.nan
    cells = np.array([[1, 0, 1, nan], [0, 0, 1, nan], [nan, 0, nan, nan]], dtype=np.float32)
    layer = untaught(job(3), embedded(cells, 4), "softmax", D)
    logits = layer(torch.zeros(1, D))[0].tolist()
    assert logits[1:3] == [-np.inf, np.inf]
    assert layer.learns.tolist() == [True, False, False, True]


def test_untaught__cuts_are_the_shares_of_the_classes() -> None:
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2)
    layer = untaught(job(10), embedded(labels, 3), "cumulative", D)
    np.testing.assert_allclose(layer.fitted().intercepts, logit([0.5, 0.2]), atol=1e-6)
