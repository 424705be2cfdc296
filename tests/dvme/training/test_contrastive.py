from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.training.contrastive import nt_xent

LIGHTLY = json.loads(Path(__file__).with_name("lightly.json").read_text())


def slow(first: NDArray[Any], second: NDArray[Any], groups: list[int], temperature: float) -> float:
    """Pair by pair and view by view."""
    views = [*first.tolist(), *second.tolist()]
    n_pairs = len(first)

    def likeness(i: int, k: int) -> float:
        dot = sum(a * b for a, b in zip(views[i], views[k], strict=True))
        return math.exp(dot / (math.hypot(*views[i]) * math.hypot(*views[k])) / temperature)

    total = 0.0
    for i in range(2 * n_pairs):
        partner = i + n_pairs if i < n_pairs else i - n_pairs
        negatives = [k for k in range(2 * n_pairs) if groups[k % n_pairs] != groups[i % n_pairs]]
        own = likeness(i, partner)
        total += math.log((own + sum(likeness(i, k) for k in negatives)) / own)
    return total / (2 * n_pairs)


@pytest.mark.parametrize("case", LIGHTLY["loss"], ids=lambda case: f"{len(case['first'])} pairs")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nt_xent__equals_lightly(case: dict[str, Any], dtype: torch.dtype) -> None:
    first, second = (torch.tensor(case[name], dtype=dtype).requires_grad_() for name in ("first", "second"))
    loss = nt_xent(first, second, None, case["temperature"])
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6, abs=1e-6)
    for leaf, name in ((first, "first_gradient"), (second, "second_gradient")):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad, case[name], atol=1e-6 if dtype == torch.float64 else 1e-5)


@given(seed=st.integers(0, 10_000))
def test_nt_xent__of_groups_equals_a_slow_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_pairs, temperature = int(rng.integers(1, 8)), rng.uniform(0.05, 2.0)
    first, second = rng.normal(size=(2, n_pairs, 3))
    groups = rng.integers(0, 4, n_pairs) * 10**12
    found = nt_xent(*map(torch.from_numpy, (first, second, groups)), temperature)
    assert found.item() == pytest.approx(slow(first, second, groups.tolist(), temperature), abs=1e-12)


def test_nt_xent__by_hand() -> None:
    """Two pairs at right angles: each view has a partner at 1 and two negatives at 0."""
    eye = torch.eye(2)
    assert nt_xent(eye, 7 * eye, None, 0.5).item() == pytest.approx(math.log1p(2 * math.exp(-2.0)), abs=1e-6)
    assert nt_xent(eye, eye, torch.tensor([3, 4]), 0.5) == nt_xent(eye, eye, None, 0.5)


@pytest.mark.parametrize(("n_pairs", "groups"), [(1, None), (4, torch.zeros(4, dtype=torch.int64))])
def test_nt_xent__without_negatives_there_is_nothing_to_learn(n_pairs: int, groups: Any) -> None:
    first = torch.randn(n_pairs, 3).requires_grad_()
    loss = nt_xent(first, torch.randn(n_pairs, 3), groups, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert (loss.item(), first.grad.abs().max().item()) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nt_xent__is_nan_if_a_projection_is_no_number(bad: float) -> None:
    first, second = torch.randn(2, 3, 4)
    second[1, 2] = bad
    assert nt_xent(first, second, None, 0.1).isnan()


def test_nt_xent__constant_projections_are_as_good_as_chance() -> None:
    """Also those of 0, which have no direction."""
    for value in (0.0, 2.0):
        constant = torch.full((5, 3), value).requires_grad_()
        loss = nt_xent(constant, constant, None, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(math.log(9), abs=1e-5)
        assert constant.grad is not None
        assert constant.grad.isfinite().all()


def test_nt_xent__half_precision_is_summed_in_float32() -> None:
    first, second = torch.randn(2, 6, 16)
    found = nt_xent(first.bfloat16(), second.bfloat16(), None, 0.1)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(nt_xent(first, second, None, 0.1).item(), rel=0.02)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_nt_xent__refuses_temperatures_without_meaning(temperature: float) -> None:
    with pytest.raises(OptionError, match="temperature"):
        nt_xent(torch.eye(2), torch.eye(2), None, temperature)
