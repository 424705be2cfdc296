"""What attention in O(T K) saves against the T x T matrix, materialised or fused, and how accurate it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from timm.layers import Attention
from torch import Tensor

from dvme.heads.fusion.attention import count_grids, exact_token_attention, token_attention
from dvme.runtime import keep_freed_memory

BATCH, TOKENS = 64, 1536
REPEATS, REPEATS_OF_UNFUSED = 15, 2
SPREADS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


def seconds(step: Callable[[], object], repeats: int) -> list[float]:
    """Of each repeat, after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return taken[1:]


def timm_step(embeddings: Tensor, upstream: Tensor, is_fused: bool) -> Callable[[], object]:
    """Forward and backward of timm's attention of one head over tokens of dimension one, q k = 1."""
    peer = Attention(dim=1, num_heads=1)
    peer.fused_attn = is_fused
    with torch.no_grad():
        peer.qkv.weight.fill_(1)
    leaves = [embeddings, *peer.parameters()]
    return lambda: torch.autograd.grad(peer(embeddings[:, :, None]).squeeze(2), leaves, upstream)


def own_step(embeddings: Tensor, upstream: Tensor) -> Callable[[], object]:
    """The same with the same parameters, in O(T K)."""
    query, key, value, scale, bias = parameters = [torch.ones((), requires_grad=True) for _ in range(5)]

    def step() -> object:
        attended = token_attention(embeddings, (query * key).expand(len(embeddings)))
        return torch.autograd.grad(scale * value * attended + bias, [embeddings, *parameters], upstream)

    return step


@pytest.mark.bench
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_token_attention__ratio_to_the_matrix(spread: float) -> None:
    """Forward and backward at the size of the paper; the limits hold for the typical spread, 0.5.

    They are put to the ratios of the least times, which other processes on the machine disturb least; the medians
    are printed beside them.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    embeddings = (torch.randn(BATCH, TOKENS) * spread).requires_grad_()
    upstream = torch.randn(BATCH, TOKENS)
    mine, fused = [], []
    for _ in range(3):  # in turns, for what else runs here to disturb all alike
        mine += seconds(own_step(embeddings, upstream), REPEATS)
        fused += seconds(timm_step(embeddings, upstream, is_fused=True), REPEATS // 3)
    unfused = seconds(timm_step(embeddings, upstream, is_fused=False), REPEATS_OF_UNFUSED)
    to_fused, to_unfused = min(fused) / min(mine), min(unfused) / min(mine)
    described = [f"{min(t) * 1e3:.1f} ms (median {statistics.median(t) * 1e3:.1f})" for t in (mine, fused, unfused)]
    print(
        f"\nattention, batch {BATCH}, {TOKENS} tokens, spread {spread}, {torch.get_num_threads()} threads, least: "
        f"{described[0]}; fused {described[1]}, ratio {to_fused:.1f}; unfused {described[2]}, ratio {to_unfused:.0f}"
    )
    if spread < 1:
        assert to_unfused >= 100
        assert to_fused >= 15


@pytest.mark.bench
def test_token_attention__grids_by_spread() -> None:
    """Which grid serves which spread, and the error of values and gradient against float64."""
    generator = torch.Generator().manual_seed(0)
    print(f"\nattention, {TOKENS} tokens, q k = 1, 4 samples each: spread, grids, exact, error of values, of gradient")
    for spread in SPREADS:
        tokens, slopes = torch.randn(4, TOKENS, generator=generator) * spread, torch.ones(4)
        upstream = torch.randn(4, TOKENS, generator=generator)
        leaf, doubled = tokens.clone().requires_grad_(), tokens.double().requires_grad_()
        with count_grids() as counts:
            values = token_attention(leaf, slopes)
        (gradient,) = torch.autograd.grad(values, leaf, upstream)
        expected = exact_token_attention(doubled, slopes.double())
        (expected_gradient,) = torch.autograd.grad(expected, doubled, upstream.double())
        of_values, of_gradient = (
            float(((mine.double() - exact).abs().amax(dim=1) / exact.abs().amax(dim=1)).max())
            for mine, exact in ((values.detach(), expected.detach()), (gradient, expected_gradient))
        )
        grids = ", ".join(f"{pieces} x {nodes}: {count}" for (pieces, nodes), count in counts.grids.items())
        print(f"  {spread:5.1f}  {grids:24} {counts.exact}  {of_values:.1e}  {of_gradient:.1e}")
        assert counts.exact == 0
        assert of_values <= 1e-5
        assert of_gradient <= 1e-5
