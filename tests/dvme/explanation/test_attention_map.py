from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dvme.errors import DataError
from dvme.explanation import attention_map
from dvme.explanation.attention_map import block_attention, full_attention
from dvme.heads.fusion.attention import exact_token_attention
from dvme.heads.fusion.network_head import NETWORKS, FittedNetwork
from dvme.heads.fusion.networks import WIDTH, initial_parameters

DIMS = (7, 5)
HEADS = ("dvme", "dvme-tokens")


def _head(name: str, dims: tuple[int, ...] = DIMS, *, seed: int = 0, **changes: Tensor) -> FittedNetwork:
    """Initial parameters, with projections wide enough that the attention is far from uniform; changes as in torch."""
    initial = FittedNetwork(name, dims, 3, initial_parameters(NETWORKS[name].shapes(dims, 3), seed), {})
    arrays = initial.arrays()
    for key in arrays:
        if key.startswith("projections") or (key == "attention.qkv.weight" and name == "dvme-tokens"):
            arrays[key] = arrays[key] * 3
    changed = {key.replace("__", "."): value.numpy() for key, value in changes.items()}
    return FittedNetwork.restored(initial.settings(), arrays | changed)


def _dvme(slope: float, dims: tuple[int, ...] = DIMS) -> FittedNetwork:
    return _head("dvme", dims, attention__qkv__weight=torch.tensor([[slope / 0.8], [0.8], [0.7]]))


def _blocks(n_samples: int, dims: tuple[int, ...] = DIMS, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n_samples, dim)).astype(np.float32) for dim in dims]


def _tokens(head: FittedNetwork, blocks: list[np.ndarray]) -> np.ndarray:
    """(B, T) float64 projections, one matrix product a backbone."""
    layers = [
        [head.arrays()[f"projections.{m}.{kind}"].astype(np.float64) for kind in ("weight", "bias")] for m in (0, 1)
    ]
    return np.concatenate(
        [block @ weight.T + bias for block, (weight, bias) in zip(blocks, layers, strict=True)], axis=1
    )


def _naive(tokens: np.ndarray, slope: float) -> np.ndarray:
    """(B, T, T) attention of `dvme`, all of it at once."""
    scores = slope * tokens[:, :, None] * tokens[:, None, :]
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True)


def _constant(values: Mapping[int, float | Tensor]) -> dict[str, Tensor]:
    """Projections that give these values to every sample."""
    changes = {f"projections__{m}__weight": torch.zeros(WIDTH, DIMS[m]) for m in values}
    return changes | {f"projections__{m}__bias": torch.zeros(WIDTH) + value for m, value in values.items()}


@pytest.mark.parametrize("slope", [0.3, 1.5, -2.0, 25.0])
def test_block_attention__is_the_block_means_of_the_whole_matrix(slope: float) -> None:
    head, blocks = _dvme(slope), _blocks(3)
    whole = _naive(_tokens(head, blocks), slope)
    expected = np.empty((3, 2, 2))
    for a in range(2):
        for b in range(2):
            block = whole[:, a * WIDTH : (a + 1) * WIDTH, b * WIDTH : (b + 1) * WIDTH]
            expected[:, a, b] = block.sum(axis=2).mean(axis=1)
    assert np.ptp(expected) > 0.01  # otherwise uniform attention would pass as well
    np.testing.assert_allclose(block_attention(head, blocks), expected, atol=2e-5)


def test_block_attention__of_tokens_is_that_of_torch() -> None:
    head, blocks = _head("dvme-tokens", (7, 5)), _blocks(4)
    peer = nn.MultiheadAttention(WIDTH, 8, bias=False, batch_first=True)
    peer.in_proj_weight.data = torch.from_numpy(head.arrays()["attention.qkv.weight"])
    tokens = torch.from_numpy(_tokens(head, blocks)).float().reshape(4, 2, WIDTH)
    _, expected = peer(tokens, tokens, tokens, need_weights=True, average_attn_weights=True)
    assert np.ptp(expected.detach().numpy()) > 0.01
    np.testing.assert_allclose(block_attention(head, blocks), expected.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_block_attention__rows_sum_to_one(name: str) -> None:
    maps = block_attention(_head(name, (7, 5, 9)), _blocks(6, (7, 5, 9)))
    assert maps.shape == (6, 3, 3)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum(axis=2), 1.0, atol=1e-12)


def test_block_attention__without_a_slope_is_uniform() -> None:
    np.testing.assert_allclose(block_attention(_dvme(0.0), _blocks(2)), 0.5, atol=1e-7)
    np.testing.assert_allclose(full_attention(_dvme(0.0), _blocks(2)), 1 / (2 * WIDTH), atol=1e-9)


def test_block_attention__by_hand() -> None:
    # Values of backbone 0 are 1, those of backbone 1 are 0, and q k = log 3: a query of 1 weighs keys 3 to 1.
    head = _head(
        "dvme", attention__qkv__weight=torch.tensor([[np.log(3.0) / 2], [2.0], [9.0]]), **_constant({0: 1.0, 1: 0.0})
    )
    np.testing.assert_allclose(block_attention(head, _blocks(2)), [[[0.75, 0.25], [0.5, 0.5]]] * 2, atol=1e-6)


def test_block_attention__of_two_tokens_by_hand() -> None:
    # Token 0 is s on the first axis and token 1 is nothing; queries and keys are the tokens themselves. In the first
    # of eight heads token 0 scores itself s^2 / sqrt(64) = log 3, elsewhere all scores are 0.
    first = torch.zeros(WIDTH)
    first[0] = np.sqrt(8 * np.log(3.0))
    qkv = torch.cat([torch.eye(WIDTH)] * 3)
    head = _head("dvme-tokens", attention__qkv__weight=qkv, **_constant({0: first, 1: 0.0}))
    attended = (0.75 + 7 * 0.5) / 8
    expected = [[attended, 1 - attended], [0.5, 0.5]]
    np.testing.assert_allclose(block_attention(head, _blocks(1))[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_block_attention__permuting_the_backbones_permutes_the_matrix(name: str) -> None:
    dims, order = (7, 5, 9), [2, 0, 1]
    head, blocks = _dvme(1.5, dims) if name == "dvme" else _head(name, dims), _blocks(3, dims)
    moved = dict(head.parameters)
    for to, m in enumerate(order):
        for kind in ("weight", "bias"):
            moved[f"projections.{to}.{kind}"] = head.parameters[f"projections.{m}.{kind}"]
    other = FittedNetwork(name, tuple(dims[m] for m in order), 3, moved, {})
    expected = block_attention(head, blocks)[:, order][:, :, order]
    assert np.abs(expected - block_attention(head, blocks)).max() > 1e-3
    np.testing.assert_allclose(block_attention(other, [blocks[m] for m in order]), expected, atol=1e-5)


def test_block_attention__survives_huge_values() -> None:
    values = torch.arange(WIDTH) % 2 * 2.0 - 1.0  # -1 and 1
    head = _head(
        "dvme",
        attention__qkv__weight=torch.tensor([[1e20], [1e15], [1.0]]),
        **_constant({0: 1e30 * values, 1: 5e29 * values}),
    )
    # Every query is nonzero and finds its largest score in backbone 0.
    np.testing.assert_array_equal(block_attention(head, _blocks(1)), [[[1.0, 0.0], [1.0, 0.0]]])


def test_full_attention__is_the_mean_of_the_whole_matrices() -> None:
    head, blocks = _dvme(1.5), _blocks(3)
    mean = full_attention(head, blocks)
    np.testing.assert_allclose(mean, _naive(_tokens(head, blocks), 1.5).mean(axis=0), atol=1e-6)
    by_blocks = mean.reshape(2, WIDTH, 2, WIDTH).sum(axis=3).mean(axis=1)
    np.testing.assert_allclose(by_blocks, block_attention(head, blocks).mean(axis=0), atol=1e-6)


def test_full_attention__is_what_the_head_applies() -> None:
    head, blocks = _dvme(1.5), _blocks(1)
    tokens = _tokens(head, blocks)
    applied = exact_token_attention(torch.from_numpy(tokens), torch.tensor([1.5], dtype=torch.float64))
    np.testing.assert_allclose(full_attention(head, blocks) @ tokens[0], applied[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_attention__does_not_depend_on_the_pieces_it_is_computed_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, blocks = _head(name), _blocks(5)
    blockwise = block_attention(head, blocks)
    whole = full_attention(head, blocks) if name == "dvme" else None
    monkeypatch.setattr(attention_map, "BLOCK_ROWS", 2)
    monkeypatch.setattr(attention_map, "CHUNK_ELEMENTS", 3 * 2 * WIDTH + 5)
    np.testing.assert_allclose(block_attention(head, blocks), blockwise, atol=1e-6)
    if whole is not None:
        np.testing.assert_allclose(full_attention(head, blocks), whole, atol=1e-6)


@pytest.mark.parametrize(("compute", "bound"), [(block_attention, 4e6), (full_attention, 20e6)])
def test_attention__never_holds_the_matrices_of_a_batch(compute, bound: float) -> None:
    head, blocks = _dvme(1.0), _blocks(30)  # whole: 30 x 1024 x 1024 x 4 = 126 MB; the mean alone is 8 MB
    tracemalloc.start()
    compute(head, blocks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < bound


def test_block_attention__of_no_sample_is_empty() -> None:
    assert block_attention(_dvme(1.0), _blocks(0)).shape == (0, 2, 2)


def test_block_attention__leaves_its_input_alone() -> None:
    blocks = _blocks(2)
    for block in blocks:
        block.setflags(write=False)
    assert block_attention(_dvme(1.0), blocks).shape == (2, 2, 2)


def test_block_attention__says_which_samples_are_not_finite() -> None:
    head, blocks = _dvme(1.0), _blocks(3)
    blocks[1][2, 0] = np.nan
    with pytest.raises(DataError, match="1 of samples 0 to 2"):
        block_attention(head, blocks)
