from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dvme.heads.fusion import network_head
from dvme.heads.fusion.attention import exact_token_attention
from dvme.heads.fusion.network_head import NETWORKS, PREDICTED_ROWS, FittedNetwork
from dvme.heads.fusion.networks import initial_parameters

DIMS = (6, 4)
HIDDEN = [name for name in NETWORKS if name != "linear-adam"]
TOLERANCE = {name: 1e-4 if name == "dvme" else 5e-6 for name in HIDDEN}
"""Of the largest value: the attention of `dvme` is interpolated to 1e-5, and its LayerNorm divides by little."""


@cache
def _fitted(name: str) -> FittedNetwork:
    start = initial_parameters(NETWORKS[name].shapes(DIMS, 3), seed=4)
    generator = torch.Generator().manual_seed(5)
    noise = {key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in start.items()}
    return FittedNetwork(name, DIMS, 3, {key: value + noise[key] for key, value in start.items()}, {})


def _blocks(n: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(n)
    return [(3 * rng.normal(size=(n, dim))).astype(np.float32) for dim in DIMS]


def _slow_hidden(head: FittedNetwork, blocks: list[NDArray[np.float32]]) -> Tensor:
    """The layers one by one as torch has them, in float64, with the T x T attention."""
    own = {key: value.double() for key, value in head.parameters.items()}

    def layer(name: str, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, own[f"{name}.weight"], own[f"{name}.bias"])

    inputs = [torch.from_numpy(block).double() for block in blocks]
    if head.name == "mlp":
        return layer("hidden", torch.cat(inputs, dim=1)).relu()
    values = [layer(f"projections.{m}", block) for m, block in enumerate(inputs)]
    if head.name == "dvme-noattn":
        return torch.cat(values, dim=1)
    if head.name == "dvme":
        query, key, value = own["attention.qkv.weight"].flatten()
        tokens = torch.cat(values, dim=1)
        attended = value * exact_token_attention(tokens, (query * key).repeat(len(tokens)))
        mixed = attended * own["attention.proj.weight"].squeeze() + own["attention.proj.bias"]
    else:
        stacked = torch.stack(values, dim=1)  # (B, M, 512)
        split = functional.linear(stacked, own["attention.qkv.weight"]).chunk(3, dim=2)
        parts = []
        for q, k, v in zip(*(each.chunk(8, dim=2) for each in split), strict=True):
            parts.append(torch.softmax(q @ k.transpose(1, 2) / 8, dim=2) @ v)  # 64 values a head
        mixed = layer("attention.proj", torch.cat(parts, dim=2)).flatten(start_dim=1)
    normed = functional.layer_norm(mixed, (mixed.shape[1],), own["norm.weight"], own["norm.bias"])
    return layer("fusion", normed).relu()


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden__is_what_the_layers_give_one_by_one(name: str) -> None:
    head, blocks = _fitted(name), _blocks(5)
    found = head.hidden(blocks)
    assert found.dtype == np.float32
    widths = {"dvme": 512, "dvme-tokens": 512, "dvme-noattn": 1024}
    assert found.shape == (5, widths.get(name, head.parameters["classifier.weight"].shape[1]))
    expected = _slow_hidden(head, blocks).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[name] * np.abs(expected).max())
    assert np.abs(found - found.mean(axis=0)).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden__the_classifier_on_it_gives_the_logits(name: str) -> None:
    head, blocks = _fitted(name), _blocks(7)
    own = head.arrays()
    logits = head.hidden(blocks).astype(np.float64) @ own["classifier.weight"].T + own["classifier.bias"]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(head.log_proba(blocks), expected, rtol=0, atol=5e-6 * np.abs(logits).max())


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden__in_parts_is_as_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, blocks = _fitted(name), _blocks(11)
    at_once, shapes = head.hidden(blocks), []
    network = NETWORKS[name]
    hidden = type(network).hidden

    def noted(self: object, parameters: dict[str, Tensor], some: list[Tensor]) -> Tensor:
        shapes.append(some[0].shape)
        return hidden(network, parameters, some)

    assert PREDICTED_ROWS >= 11
    monkeypatch.setattr(network_head, "PREDICTED_ROWS", 4)
    monkeypatch.setattr(type(network), "hidden", noted)
    np.testing.assert_allclose(head.hidden(blocks), at_once, rtol=0, atol=TOLERANCE[name] * at_once.max())
    assert shapes == [(1, 4, 6), (1, 4, 6), (1, 3, 6)]
    assert head.hidden([block[:0] for block in blocks]).shape == (0, at_once.shape[1])


def test_hidden__a_linear_head_has_none() -> None:
    with pytest.raises(ValueError, match="linear-adam reads the class from the embeddings themselves"):
        _fitted("linear-adam").hidden(_blocks(2))
