from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.training.rates import cosine


def test_cosine__by_hand() -> None:
    found = [cosine(step, n_steps=8, n_warmup=2) for step in range(9)]
    half = 3**0.5 / 2  # cos 30 degrees: six steps of 30 degrees each
    rest = [1.0, (1 + half) / 2, 0.75, 0.5, 0.25, (1 - half) / 2, 0.0]
    assert found == pytest.approx([1 / 3, 2 / 3, *rest])


@given(n_steps=st.integers(1, 300), n_warmup=st.integers(0, 299))
def test_cosine__rises_to_one_then_falls_and_is_never_zero(n_steps: int, n_warmup: int) -> None:
    n_warmup = min(n_warmup, n_steps - 1)
    found = [cosine(step, n_steps, n_warmup) for step in range(n_steps)]
    assert found[n_warmup] == max(found) == 1.0
    assert all(a < b for a, b in pairwise(found[: n_warmup + 1]))
    assert all(a > b for a, b in pairwise(found[n_warmup:]))
    assert min(found) > 0.0
