from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dvme.training.projection import Projection

RECORDED = json.loads(Path(__file__).with_name("lightly.json").read_text())["projection"]


def test_projection__equals_lightly() -> None:
    """Its weights have the same names and shapes, so that no part is missing."""
    projection = Projection(5, 6, 3).double()
    weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in RECORDED["weights"].items()}
    assert [name for name, _ in projection.named_parameters()] == list(weights)
    projection.load_state_dict(projection.state_dict() | weights)
    embeddings = torch.tensor(RECORDED["embeddings"], dtype=torch.float64)
    np.testing.assert_allclose(projection(embeddings).detach(), RECORDED["training"], atol=1e-12)
    np.testing.assert_allclose(projection.eval()(embeddings).detach(), RECORDED["evaluation"], atol=1e-12)


def test_projection__of_a_minibatch_is_standardised() -> None:
    projected = Projection(5, 6, 3)(torch.randn(64, 5)).detach()
    assert projected.mean(dim=0).tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert projected.std(dim=0, correction=0).tolist() == pytest.approx([1.0] * 3, abs=1e-3)
