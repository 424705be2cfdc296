from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import nn

from dvme.training.collapse import effective_rank, spread

RECORDED = json.loads(Path(__file__).with_name("lightly.json").read_text())["spread"]


def test_spread__equals_lightly() -> None:
    embeddings = torch.tensor(RECORDED["embeddings"], dtype=torch.float64)
    assert spread(embeddings) == pytest.approx(2.0 * RECORDED["mean_deviation"], abs=1e-12)  # the root of D = 4


@pytest.mark.parametrize("dim", [4, 32])
def test_collapse__gaussian_of_all_sides_is_healthy(dim: int) -> None:
    embeddings = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, dim)))
    assert spread(embeddings) == pytest.approx(1.0, abs=0.02)
    assert effective_rank(embeddings) == pytest.approx(dim, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0, -3e4])
def test_collapse__a_constant_network_gives_nought(value: float) -> None:
    network = nn.Linear(5, 7)
    nn.init.zeros_(network.weight)
    nn.init.constant_(network.bias, value)
    embeddings = network(torch.randn(30, 5))
    assert spread(embeddings) == 0.0
    assert effective_rank(embeddings) == 0.0


def test_collapse__rounding_about_a_constant_is_no_variation() -> None:
    rng = np.random.default_rng(0)
    constant = rng.normal(size=40).astype(np.float32)
    embeddings = torch.from_numpy(constant * (1 + 1e-7 * rng.normal(size=(50, 40))).astype(np.float32))
    assert spread(embeddings) == pytest.approx(0.0, abs=1e-5)
    assert effective_rank(embeddings) == 0.0


def test_collapse__onto_a_line() -> None:
    embeddings = torch.randn(100, 1) * torch.tensor([[1.0, -2.0, 0.5]])
    assert effective_rank(embeddings) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(embeddings + 50.0) == pytest.approx(1.0, abs=1e-3)  # what all have in common tells nothing


@given(seed=st.integers(0, 10_000))
def test_effective_rank__equals_singular_values_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(2, 12)), int(rng.integers(1, 12))
    values = rng.normal(size=shape) * rng.uniform(0.01, 3.0, shape[1])
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    assert effective_rank(torch.from_numpy(values)) == pytest.approx(math.exp(entropy(singular)), rel=1e-4)
    slow = np.std(values / np.linalg.norm(values, axis=1, keepdims=True), axis=0, ddof=1).mean() * math.sqrt(shape[1])
    assert spread(torch.from_numpy(values)) == pytest.approx(slow, rel=1e-9)


def test_effective_rank__by_hand() -> None:
    """Two directions of singular values 3 and 1: p = 3/4, 1/4."""
    values = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(values) == pytest.approx(4.0 / 3.0**0.75, abs=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_collapse__says_nothing_of_what_is_no_number(bad: float) -> None:
    embeddings = torch.randn(4, 3)
    embeddings[1, 1] = bad
    assert math.isnan(spread(embeddings))
    assert math.isnan(effective_rank(embeddings))


def test_collapse__says_nothing_of_a_single_image() -> None:
    assert math.isnan(spread(torch.ones(1, 3)))
    assert math.isnan(effective_rank(torch.ones(1, 3)))
