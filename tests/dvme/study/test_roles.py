"""What methods stand for, on lists made up by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dvme.stats.influence import Scored
from dvme.stats.units import Units
from dvme.study.roles import Leaders, Roles
from dvme.study.standing import Standing

AB = ("a", "b")
METHODS = [
    ("linear", ("a",)),
    ("knn", ("b",)),
    ("dvme", AB),
    ("mlp", AB),
    ("dvme-tokens@max-epochs=2", ("a",)),
    ("concat", ("a",)),
    ("mean-logits", AB),
    ("own-fusion", AB),
]


def test_roles__every_kind() -> None:
    """A fusion of one backbone is no single backbone: it is what it would be on several."""
    roles = Roles(METHODS)
    assert roles.singles == [0, 1]
    assert roles.fusions == [2, 3, 6, 7]
    assert roles.attention == roles.judged == [2, 4]
    assert roles.controls == [3, 5, 6]
    assert roles.controls_of(2) == [3, 6]
    assert roles.controls_of(4) == [5]


def test_roles__without_attention_all_fusions_are_judged() -> None:
    roles = Roles(METHODS[:2] + METHODS[3:4] + METHODS[6:])
    assert roles.attention == []
    assert roles.judged == roles.fusions == [2, 3, 4]
    assert roles.controls_of(2) == []


@pytest.mark.parametrize(
    ("validation", "overall", "shown"),
    [
        ((0.7, 0.8, 0.6, 0.9, 0.5, 0.4, 0.95, 0.99), 7, [7, 1, 2, 6]),
        ((0.7, 0.7, 0.9, 0.7, 0.9, 0.7, 0.7, 0.1), 2, [2, 0, 3]),  # the first of equal ones
        ((np.nan, 0.8, np.nan, 0.9, np.nan, 0.4, 0.5, 0.6), 3, [3, 1]),
        ((np.nan,) * 8, 0, [0]),
    ],
)
def test_leaders__by_validation(validation: tuple[float, ...], overall: int, shown: list[int]) -> None:
    units = Units(np.repeat([0, 1], 4))
    scored = {(m, 0): Scored("auc", np.array([0.5]), np.zeros((8, 1)), units) for m in range(8)}
    standing = Standing(scored, {(m, 0): value for m, value in enumerate(validation)}, [0.0])
    leaders = Leaders(Roles(METHODS), standing, 0)
    assert (leaders.overall, leaders.shown) == (overall, shown)
    assert leaders.of([]) is None
