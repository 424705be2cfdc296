"""Low-rank adaptation of attention: W + B A in place of W, of which A and B alone are trained.

Source: Hu et al. 2022, section 4.1: B begins at 0, so that training begins where the backbone is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dvme.errors import OptionError

ATTENTION = re.compile(r"(^|\.)attn\.(qkv|q_proj|k_proj|v_proj|q|k|v|kv)$")
"""Products of timm's transformers that make queries, keys and values."""
ORIGINAL, WEIGHT = ".parametrizations.weight.original", ".weight"


class LowRank(nn.Module):
    """W + B A of one product."""

    def __init__(self, weight: Tensor, rank: int, rng: np.random.Generator) -> None:
        super().__init__()
        n_outputs, n_inputs = weight.shape
        first = rng.normal(0.0, 1.0 / math.sqrt(n_inputs), (rank, n_inputs))
        self.first = nn.Parameter(torch.from_numpy(first).to(weight))
        self.second = nn.Parameter(weight.new_zeros(n_outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """(outputs, inputs)."""
        return weight + self.second @ self.first


def attention_of(model: nn.Module) -> Iterator[nn.Linear]:
    """The products in a model that make queries, keys and values; none of a convolutional one."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ATTENTION.search(name):
            yield module


def add_low_rank(model: nn.Module, rank: int, rng: np.random.Generator) -> None:
    """Train A and B of every product of attention, and nothing else of the model. What it computes stays.

    Raises:
        OptionError: if it has no attention.
    """
    products = list(attention_of(model))
    if not products:
        raise OptionError("lora_rank is for transformers, and this backbone has no attention; leave it out")
    model.requires_grad_(False)
    for module in products:
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, rng))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of the model without what was added: products have the sum."""
    state, added = model.state_dict(), {}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            added[f"{name}.weight"] = module.weight.detach()
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = name.replace(ORIGINAL, WEIGHT)
        if ".parametrizations." not in plain:
            kept[plain] = added.get(plain, value)
    return kept
