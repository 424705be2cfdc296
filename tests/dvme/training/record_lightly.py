"""What `lightly` computes, recorded once in lightly.json: run by an interpreter that has lightly 1.6.0 and torch.

    python -m venv --system-site-packages VENV; VENV/bin/pip install --no-deps lightly==1.6.0 lightning-utilities
    VENV/bin/python tests/dvme/training/record_lightly.py

dvme is not imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightly
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.utils.debug import std_of_l2_normalized
from lightly.utils.lars import LARS

RECORDED = Path(__file__).with_name("lightly.json")


def of_loss(n_pairs: int, dim: int, temperature: float) -> dict[str, Any]:
    first, second = (torch.randn(n_pairs, dim, dtype=torch.float64).requires_grad_() for _ in range(2))
    loss = NTXentLoss(temperature)(first, second)
    loss.backward()
    return {
        "temperature": temperature,
        "first": first.tolist(),
        "second": second.tolist(),
        "loss": loss.item(),
        "first_gradient": first.grad.tolist(),
        "second_gradient": second.grad.tolist(),
    }


def of_steps(learning_rate: float, momentum: float, weight_decay: float, trust: float) -> dict[str, Any]:
    """Two matrices, one of them 0 at first, and a kernel; a vector, without decay. A matrix once has no slope."""
    matrices = [torch.randn(3, 4), torch.zeros(2, 3), torch.randn(2, 3, 2, 2)]
    vectors = [torch.randn(4)]
    weights = [torch.nn.Parameter(value.double()) for value in matrices + vectors]
    start = [value.tolist() for value in weights]
    optimizer = LARS(
        [{"params": weights[:3]}, {"params": weights[3:], "weight_decay": 0.0}],
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        trust_coefficient=trust,
    )
    gradients, after = [], []
    for step in range(5):
        for place, value in enumerate(weights):
            value.grad = torch.randn_like(value) * (0.0 if (step, place) == (2, 0) else 1.0)
        gradients.append([value.grad.tolist() for value in weights])
        optimizer.step()
        after.append([value.tolist() for value in weights])
    return {
        "settings": {
            "lr": learning_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust,
        },
        "start": start,
        "gradients": gradients,
        "after": after,
    }


def of_projection() -> dict[str, Any]:
    head = SimCLRProjectionHead(5, 6, 3).double()
    for value in head.parameters():
        torch.nn.init.normal_(value)
    embeddings = torch.randn(7, 5, dtype=torch.float64)
    return {
        "weights": {name: value.tolist() for name, value in head.named_parameters()},
        "embeddings": embeddings.tolist(),
        "training": head(embeddings).tolist(),
        "evaluation": head.eval()(embeddings).tolist(),
    }


def of_spread() -> dict[str, Any]:
    embeddings = torch.randn(9, 4, dtype=torch.float64) + torch.tensor([1.0, 0.0, -2.0, 0.5])
    return {"embeddings": embeddings.tolist(), "mean_deviation": std_of_l2_normalized(embeddings).item()}


if __name__ == "__main__":
    torch.manual_seed(0)
    recorded = {
        "version": lightly.__version__,
        "loss": [of_loss(*case) for case in ((1, 3, 0.5), (2, 2, 1.0), (6, 4, 0.1), (9, 3, 0.07))],
        "steps": [of_steps(*case) for case in ((0.3, 0.9, 1e-6, 1e-3), (2.0, 0.0, 0.1, 0.02), (0.5, 0.5, 0.0, 1e-3))],
        "projection": of_projection(),
        "spread": of_spread(),
    }
    RECORDED.write_text(json.dumps(recorded) + "\n")
