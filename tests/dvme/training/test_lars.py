from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dvme.errors import OptionError
from dvme.training.lars import Lars

STEPS = json.loads(Path(__file__).with_name("lightly.json").read_text())["steps"]


def parameters(case: dict[str, Any]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in case["start"]]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: str(case["settings"]))
@pytest.mark.parametrize("is_grouped", [True, False])
def test_lars__equals_lightly(case: dict[str, Any], is_grouped: bool) -> None:
    """Recorded with the vector in a group without decay; here it needs none."""
    weights = parameters(case)
    groups: Any = [{"params": weights[:3]}, {"params": weights[3:], "weight_decay": 0.0}] if is_grouped else weights
    optimizer = Lars(groups, **case["settings"])
    for gradients, after in zip(case["gradients"], case["after"], strict=True):
        for value, gradient in zip(weights, gradients, strict=True):
            value.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        for value, expected in zip(weights, after, strict=True):
            np.testing.assert_allclose(value.detach(), expected, atol=1e-6, rtol=0)


def test_lars__by_hand() -> None:
    """|w| = 5, |g| = 1: trust 0.1 * 5 / (1 + 0.2 * 5) = 0.25, then 0.25 * (g + 0.2 w) = (0.4, 0.2)."""
    weights = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = Lars([weights], 1.0, momentum=0.5, weight_decay=0.2, trust_coefficient=0.1, eps=0.0)
    weights.grad = torch.tensor([[1.0, 0.0]])
    optimizer.step()
    torch.testing.assert_close(weights.detach(), torch.tensor([[2.6, 3.8]]))
    weights.grad = torch.zeros(1, 2)  # no slope: the momentum alone
    optimizer.step()
    torch.testing.assert_close(weights.detach(), torch.tensor([[2.4, 3.7]]))


def test_lars__steps_are_relative_to_the_length_of_weights() -> None:
    """Whatever the scale of the gradient."""
    start = torch.randn(4, 3)
    moved = []
    for scale in (1e-4, 1.0, 1e4):
        weights = nn.Parameter(start.clone())
        weights.grad = scale * torch.ones_like(start)
        Lars([weights], 0.5, weight_decay=1e-9).step()
        moved.append((weights.detach() - start).norm().item())
    assert moved == pytest.approx([0.5e-3 * start.norm().item()] * 3, rel=1e-4)


def test_lars__goes_on_from_a_state_that_was_kept(tmp_path: Path) -> None:
    case = STEPS[0]
    whole, first, second = parameters(case), parameters(case), parameters(case)

    def run(weights: list[nn.Parameter], steps: list[Any], state: Any = None) -> Lars:
        optimizer = Lars(weights, 0.3)
        if state is not None:
            optimizer.load_state_dict(state)
        for gradients in steps:
            for value, gradient in zip(weights, gradients, strict=True):
                value.grad = torch.tensor(gradient, dtype=torch.float64)
            optimizer.step()
        return optimizer

    run(whole, case["gradients"])
    torch.save(run(first, case["gradients"][:2]).state_dict(), tmp_path / "state.pt")
    for value, reached in zip(second, first, strict=True):
        value.data.copy_(reached.data)
    run(second, case["gradients"][2:], torch.load(tmp_path / "state.pt", weights_only=True))
    for value, expected in zip(second, whole, strict=True):
        torch.testing.assert_close(value, expected, atol=0, rtol=0)


def test_lars__leaves_gradients_and_what_has_none_alone() -> None:
    weights, idle, bias = nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.ones(2))
    weights.grad, bias.grad = torch.ones(2, 2), torch.ones(2)
    before = copy.deepcopy(idle)
    optimizer = Lars([weights, idle, bias], 0.1)
    for _ in range(2):
        optimizer.step()
    torch.testing.assert_close(weights.grad, torch.ones(2, 2))
    torch.testing.assert_close(bias.grad, torch.ones(2))
    torch.testing.assert_close(idle, before)


def test_lars__a_closure_gives_the_loss() -> None:
    weights = nn.Parameter(torch.ones(2, 2))
    optimizer = Lars([weights], 0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss: Tensor = (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert (weights < 1).all()


def test_lars__a_gradient_that_is_no_number_is_not_hidden() -> None:
    weights = nn.Parameter(torch.ones(2, 2))
    weights.grad = torch.tensor([[math.nan, 0.0], [0.0, 0.0]])
    Lars([weights], 0.1).step()
    assert weights.isnan().any()


@pytest.mark.parametrize(("name", "settings"), [("learning_rate", {"lr": 0.0}), ("trust", {"trust_coefficient": -1})])
def test_lars__refuses_rates_without_meaning(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=name):
        Lars([nn.Parameter(torch.ones(2, 2))], **{"lr": 0.1, **settings})
