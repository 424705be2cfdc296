from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dvme.study.headroom import grid_lines

FINER = "a larger @size= in the names of backbones"


def leading(ceiling: float | None, score: float, head: str, *backbones: str) -> Any:
    test, grid = {"dice": SimpleNamespace(mean=score)}, (7, 8)
    method = f"{'+'.join(backbones)} + {head}"
    return SimpleNamespace(ceiling=ceiling, grid=grid, test=test, head=head, backbones=backbones, method=method)


@pytest.mark.parametrize(
    ("cell", "step"),
    [
        (
            leading(0.85, 0.6, "segment-linear", "dino@dense=last"),
            f"convolutional backbone (dvme extract with layers='last-4'), or {FINER}",
        ),
        (leading(0.95, 0.92, "segment-linear@tokens=9", "a@dense=3+6", "b@dense=last-2"), f"take {FINER}"),
        (leading(0.95, 0.92, "segment-dvme", "a@dense=last-4", "b@dense=last"), f"or {FINER}"),
        (
            leading(0.85, 0.6, "unet-random@max-epochs=9", "dino@dense=last"),
            "a finer one, unet-random@max-epochs=9@size=16",
        ),
    ],
)
def test_grid_lines__what_the_grid_loses_and_how_to_have_a_finer_one(cell: Any, step: str) -> None:
    (line,) = grid_lines([cell, leading(0.1, 0.1, "segment-knn", "c")], "dice")
    assert line.startswith(f"{cell.method}: its grid of 7 x 8 lets Dice reach {cell.ceiling:.3f}; ")
    assert line.endswith(step)


def test_grid_lines__nothing_where_neither_loses_much() -> None:
    assert grid_lines([leading(0.985, 0.98, "unet", "cnn@dense=last")], "dice") == []


@pytest.mark.parametrize("most", [0.95, None, float("nan")])
def test_grid_lines__nothing_where_the_head_loses_more(most: float | None) -> None:
    assert grid_lines([leading(most, 0.8, "segment-linear", "dino@dense=last")], "dice") == []
