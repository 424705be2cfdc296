"""The layer is the linear head, however far from zero its embeddings lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dvme.heads.exact.linear import FittedLinear
from dvme.heads.tuned.classifier import Classifier

N, D = 200, 24


def features(far: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(size=(N, D)) + far).astype(np.float32)


def head(intercepts: list[float], *, is_multilabel: bool = False) -> FittedLinear:
    weights = np.random.default_rng(1).normal(size=(D, len(intercepts)))
    return FittedLinear(weights, np.array(intercepts), {}, is_multilabel=is_multilabel)


def logits_of(layer: Classifier, values: NDArray[Any]) -> NDArray[np.float32]:
    with torch.no_grad():
        found: NDArray[np.float32] = layer(torch.from_numpy(values)).numpy()
    return found


@pytest.mark.parametrize("far", [0.0, 300.0])
def test_classifier__gives_the_logits_of_the_head(far: float) -> None:
    values, start = features(far), head([0.3, -1.0, 2.0])
    layer = Classifier(start, values.astype(np.float64).mean(axis=0))
    by_hand = values.astype(np.float64) @ start.weights + start.intercepts
    np.testing.assert_allclose(logits_of(layer, values), by_hand, atol=1e-4)
    again = layer.fitted()
    np.testing.assert_allclose(again.logits(values), by_hand, atol=2e-3 if far else 1e-5)


def test_classifier__a_head_on_standardised_embeddings_is_undone_by_hand() -> None:
    """softmax((x - m) / s W + b) is softmax(x (W / s) + b - (m / s) W)."""
    values = features(5.0).astype(np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    own = head([0.1, -0.2])
    plain = FittedLinear(own.weights / spread[:, None], own.intercepts - (mean / spread) @ own.weights, {})
    layer = Classifier(plain, mean)
    np.testing.assert_allclose(
        logits_of(layer, values.astype(np.float32)), own.logits((values - mean) / spread), atol=1e-4
    )


@pytest.mark.parametrize(
    ("intercepts", "is_multilabel"), [([0.5, -np.inf, 0.0], False), ([0.5, np.inf, -np.inf], True)]
)
def test_classifier__what_training_knows_nothing_of_stays_and_is_no_parameter(
    intercepts: list[float], is_multilabel: bool
) -> None:
    values, start = features(), head(intercepts, is_multilabel=is_multilabel)
    layer = Classifier(start, values.mean(axis=0))
    assert layer.learns.tolist() == np.isfinite(intercepts).tolist()
    logits = layer(torch.from_numpy(values))
    fixed = ~np.isfinite(intercepts)
    np.testing.assert_array_equal(logits.detach().numpy()[:, fixed], np.tile(np.array(intercepts)[fixed], (N, 1)))
    logits[:, torch.from_numpy(~fixed)].sum().backward()
    for value in layer.parameters():
        assert value.isfinite().all()
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert not value.grad[torch.from_numpy(fixed)].any()
    found = layer.fitted(is_multilabel=is_multilabel)
    np.testing.assert_array_equal(found.intercepts[fixed], np.array(intercepts)[fixed])
    assert found.is_multilabel == is_multilabel
    np.testing.assert_allclose(found.predict_proba([values]), start.predict_proba([values]), atol=1e-5)
