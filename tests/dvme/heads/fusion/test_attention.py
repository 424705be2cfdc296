"""Attention in O(T K) against the T x T matrix in float64, against timm, and against what g is known to be."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Attention
from torch import Tensor

from dvme.heads.fusion import attention
from dvme.heads.fusion.attention import count_grids, exact_token_attention, token_attention

LIMIT = 1e-5
ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Of the spread of the tokens: what is left of the values where mean and slope are zero, in a float32 matrix too."""


def normal(spread: float) -> Callable[[torch.Generator, int, int], Tensor]:
    return lambda generator, n, size: torch.randn(n, size, generator=generator) * spread


def with_one(value: float, others: float | None = None) -> Callable[[torch.Generator, int, int], Tensor]:
    """One token of the given value among normal ones, or among equal ones."""

    def make(generator: torch.Generator, n: int, size: int) -> Tensor:
        tokens = torch.randn(n, size, generator=generator) if others is None else torch.full((n, size), others)
        tokens[:, size // 3] = value
        return tokens

    return make


def clusters(generator: torch.Generator, n: int, size: int) -> Tensor:
    sides = (torch.rand(n, size, generator=generator) < 0.4).float() * 2 - 1
    return 5 * sides + 0.1 * torch.randn(n, size, generator=generator)


INPUTS: dict[str, Callable[[torch.Generator, int, int], Tensor]] = {
    **{f"spread {spread}": normal(spread) for spread in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0)},
    "uniform": lambda generator, n, size: torch.rand(n, size, generator=generator) * 20 - 10,
    "one huge": with_one(50.0),
    "one enormous": with_one(1e4),
    "one huge, below": with_one(-50.0),
    "all equal": lambda _, n, size: torch.full((n, size), 1.7),
    "all equal but one": with_one(3.0, others=1.7),
    "zero": lambda _, n, size: torch.zeros(n, size),
    "duplicates": lambda generator, n, size: torch.randn(n, size // 24, generator=generator).repeat(1, 24),
    "two clusters": clusters,
    "shift +20": lambda generator, n, size: torch.randn(n, size, generator=generator) + 20,
    "shift -20": lambda generator, n, size: torch.randn(n, size, generator=generator) - 20,
}
SLOPES = (1.0, -0.7, 0.01, 0.0)


def gradients(
    function: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, slopes: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The values, and the gradients with respect to tokens and slopes, in float64."""
    tokens, slopes = tokens.clone().requires_grad_(), slopes.clone().requires_grad_()
    values = function(tokens, slopes)
    to_tokens, to_slopes = torch.autograd.grad(values, (tokens, slopes), upstream)
    return values.detach().double(), to_tokens.double(), to_slopes.double()


def errors(tokens: Tensor, slopes: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """(R, 3) errors of values and of both gradients, of this attention and of a float32 matrix, against float64.

    Values are relative to the largest of the sample, after ROUNDING times the spread is taken off. Gradients are
    relative to the largest of the sample, or to the size they would have if the terms of their sum had random signs:
    where the terms cancel, no float32 keeps the digits.
    """
    x, a, c = tokens.double(), slopes.double()[:, None], upstream.double()
    values, to_tokens, to_slopes = gradients(exact_token_attention, x, slopes.double(), c)
    weights = torch.softmax((a * x)[:, :, None] * x[:, None], dim=2)
    differences = x[:, None] - values[:, :, None]
    derivatives = (weights * differences.square()).sum(dim=2)
    jacobian = weights * (1 + (a * x)[:, :, None] * differences) + torch.diag_embed(a * derivatives)
    rounding = ROUNDING * x.std(dim=1, correction=0)
    value_scale = values.abs().amax(dim=1)
    token_scale = torch.maximum((c[:, :, None] * jacobian).norm(dim=1).amax(dim=1), to_tokens.abs().amax(dim=1))
    slope_scale = torch.maximum((c * derivatives * x).norm(dim=1), to_slopes.abs())
    slope_scale = torch.maximum(slope_scale, c.abs().amax(dim=1) * (derivatives * x).abs().amax(dim=1))

    rounding_of_double = 1e-9 * (c.abs().sum(dim=1) * x.abs().amax(dim=1) ** 3).clamp_min(1e-30)

    def measured(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        found = gradients(function, tokens, slopes, upstream)
        parts = [
            ((found[0] - values).abs().amax(dim=1) - rounding).clamp_min(0) / value_scale.clamp_min(1e-30),
            (found[1] - to_tokens).abs().amax(dim=1) / token_scale,
            (found[2] - to_slopes).abs() / torch.maximum(slope_scale, rounding_of_double),
        ]
        return torch.stack(parts, dim=1)

    return measured(token_attention), measured(exact_token_attention)


def upstreams(generator: torch.Generator, n: int, size: int) -> Tensor:
    """Random gradients; of the first sample a single one, of the second all the same."""
    upstream = torch.randn(n, size, generator=generator)
    upstream[0] = 0
    upstream[0, 3] = 1
    upstream[1] = 1
    return upstream


@pytest.mark.parametrize("name", INPUTS)
def test_token_attention__float64_exact(name: str) -> None:
    generator = torch.Generator().manual_seed(len(name))
    for slope in SLOPES:
        tokens = INPUTS[name](generator, 4, 480)
        with count_grids() as counts:
            mine, _ = errors(tokens, torch.full((4,), slope), upstreams(generator, 4, 480))
        assert mine.max() <= LIMIT, (slope, mine, counts)
        assert sum(counts.grids.values()) + counts.exact == 4
        if "spread" in name and name != "spread 100.0":
            assert counts.exact == 0


def test_token_attention__more_accurate_than_a_float32_matrix() -> None:
    """Where a x_i x_j is large, its rounding moves the softmax of the matrix; here only differences are exponents."""
    generator = torch.Generator().manual_seed(0)
    for name in ("shift +20", "two clusters"):
        mine, matrix = errors(INPUTS[name](generator, 4, 480), torch.ones(4), torch.randn(4, 480, generator=generator))
        assert matrix[:, 1].max() > LIMIT
        assert mine[:, 1].max() < LIMIT / 3


def test_token_attention__size_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    spreads = torch.tensor([0.5, 3.0, 10.0])[:, None]
    tokens = torch.randn(3, 1536, generator=generator) * spreads
    with count_grids() as counts:
        mine, _ = errors(tokens, torch.tensor([1.0, -0.7, 1.0]), upstreams(generator, 3, 1536))
    assert mine.max() <= LIMIT
    assert sum(counts.grids.values()) == 3
    assert len(counts.grids) > 1


def test_token_attention__estimate_is_honest() -> None:
    """No sample that the estimate lets pass is off by more than the limit, whatever its shape, spread and slope."""
    generator = torch.Generator().manual_seed(3)
    accepted, worst = 0, torch.zeros(3, dtype=torch.float64)
    for _ in range(6):
        spreads = 10 ** (torch.rand(8, 1, generator=generator) * 2 - 1)
        tokens = torch.randn(8, 416, generator=generator) * spreads
        tokens[2:4] = tokens[2:4].abs() ** 1.7
        tokens[4:6] += spreads[4:6] * 4 * (torch.rand(2, 416, generator=generator) < 0.1)
        tokens[6, :3] *= 4
        tokens[7] = tokens[7].round(decimals=0)
        slopes = torch.randn(8, generator=generator)
        with count_grids() as counts:
            mine, _ = errors(tokens, slopes, torch.randn(8, 416, generator=generator))
        accepted += sum(counts.grids.values())
        worst = torch.maximum(worst, mine.amax(dim=0))
    assert accepted > 40
    assert worst.max() <= LIMIT


def test_token_attention__narrow_samples_take_few_nodes() -> None:
    """Where u spans little, as in training; tails, clusters and a shift included."""
    generator = torch.Generator().manual_seed(8)
    tokens = 0.3 * torch.randn(12, 480, generator=generator)
    tokens[2:4] = tokens[2:4].abs() ** 1.7
    tokens[4:6] = 0.3 * tokens[4:6].sign() + 0.1 * tokens[4:6]
    tokens[6:8] += 2
    tokens[8:10, :3] *= 6
    for slope in (0.01, 0.3, -0.6, 1.5):
        with count_grids() as counts:
            mine, _ = errors(tokens, torch.full((12,), slope), upstreams(generator, 12, 480))
        assert mine.max() <= LIMIT, (slope, mine)
        assert sum(counts.grids.values()) == 12
        assert counts.grids.get((1, 8), 0) + counts.grids.get((1, 12), 0) >= (6 if abs(slope) < 1 else 1), counts


def test_token_attention__float64() -> None:
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randn(4, 400, generator=generator, dtype=torch.float64)
    slopes = torch.tensor([1.0, -0.6, 0.2, 0.0], dtype=torch.float64)
    upstream = torch.randn(4, 400, generator=generator, dtype=torch.float64)
    with count_grids() as counts:
        found = gradients(token_attention, tokens, slopes, upstream)
    expected = gradients(exact_token_attention, tokens, slopes, upstream)
    assert sum(counts.grids.values()) == 4
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10 * float(theirs.abs().max()))


@pytest.mark.parametrize("n_tokens", [7, 50])
def test_token_attention__gradcheck(n_tokens: int) -> None:
    """With 7 tokens a node at each, with 50 a grid."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randn(3, n_tokens, generator=generator, dtype=torch.float64).mul_(0.4).requires_grad_()
    slopes = torch.tensor([0.8, -0.5, 0.0], dtype=torch.float64, requires_grad=True)
    with count_grids() as counts:
        assert torch.autograd.gradcheck(token_attention, (tokens, slopes))
    assert (counts.exact == 0) == (n_tokens == 50)


@pytest.mark.parametrize("differentiated", ["tokens", "slopes"])
def test_token_attention__one_gradient_alone(differentiated: str) -> None:
    tokens, slopes = torch.randn(2, 96, generator=torch.Generator().manual_seed(6)), torch.tensor([1.0, -1.0])
    both = gradients(token_attention, tokens, slopes, torch.ones(2, 96))
    leaf = {"tokens": tokens, "slopes": slopes}[differentiated].requires_grad_()
    token_attention(tokens, slopes).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.double(), both[1 if differentiated == "tokens" else 2])


def test_token_attention__independent_of_company() -> None:
    """Neither the value nor the grid of a sample depends on the others, however they behave."""
    generator = torch.Generator().manual_seed(7)
    names = ["spread 0.5", "one enormous", "spread 10.0", "all equal", "spread 2.0", "zero"]
    tokens = torch.cat([INPUTS[name](generator, 1, 480) for name in names])
    tokens = torch.cat([tokens, torch.full((1, 480), float("nan"))])
    slopes, upstream = torch.ones(len(tokens)), torch.randn(len(tokens), 480, generator=generator)
    with count_grids() as counts:
        together = gradients(token_attention, tokens, slopes, upstream)
    alone: dict[tuple[int, int], int] = {}
    for row in range(len(names)):
        one = slice(row, row + 1)
        with count_grids() as of_one:
            apart = gradients(token_attention, tokens[one], slopes[one], upstream[one])
        for grid, count in of_one.grids.items():
            alone[grid] = alone.get(grid, 0) + count
        for mine, theirs in zip(together, apart, strict=True):
            size = float(theirs.abs().max())
            torch.testing.assert_close(mine[one], theirs, rtol=0, atol=1e-6 * size)
    assert {grid: count for grid, count in counts.grids.items() if count} == alone


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_token_attention__not_finite(bad: float) -> None:
    generator = torch.Generator().manual_seed(8)
    tokens, slopes = torch.randn(4, 96, generator=generator), torch.ones(4)
    clean = gradients(token_attention, tokens, slopes, torch.ones(4, 96))
    tokens[1, 5], slopes[2] = bad, bad
    with count_grids() as counts:
        found = gradients(token_attention, tokens, slopes, torch.ones(4, 96))
    assert (counts.not_finite, sum(counts.grids.values()) + counts.exact) == (2, 2)
    for mine, before in zip(found, clean, strict=True):
        assert mine[1:3].isnan().all()
        torch.testing.assert_close(mine[[0, 3]], before[[0, 3]], rtol=1e-5, atol=1e-6)


def test_token_attention__overflow_of_finite_tokens() -> None:
    """a x^2 beyond float32: all the weight is on the largest token."""
    tokens = torch.linspace(-1e30, 1e30, 64)[None]
    with count_grids() as counts:
        found = token_attention(tokens, torch.tensor([1e20]))
    assert counts.exact == 1
    torch.testing.assert_close(found, torch.where(tokens > 0, 1e30, -1e30))


def test_token_attention__refused_samples_are_exact_and_counted() -> None:
    """A token of 1e4 makes g jump within less than any grid resolves."""
    generator = torch.Generator().manual_seed(9)
    tokens = torch.cat([INPUTS["one enormous"](generator, 2, 480), INPUTS["spread 0.5"](generator, 2, 480)])
    with count_grids() as counts:
        mine, _ = errors(tokens, torch.tensor([0.01, 0.01, 1.0, 1.0]), upstreams(generator, 4, 480))
    assert (counts.exact, sum(counts.grids.values())) == (2, 2)
    assert mine.max() <= LIMIT


def test_token_attention__refused_by_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no grid is trusted with goes the exact way, in blocks smaller than a sample as well."""
    generator = torch.Generator().manual_seed(10)
    tokens, upstream = torch.randn(3, 416, generator=generator), torch.randn(3, 416, generator=generator)
    monkeypatch.setattr(attention, "TOLERANCES", {torch.float32: -1.0})
    monkeypatch.setattr(attention, "BLOCK_ELEMENTS", 5000)
    with count_grids() as counts:
        mine, _ = errors(tokens, torch.tensor([1.0, -2.0, 0.0]), upstream)
    assert (counts.exact, counts.grids) == (3, {})
    assert mine.max() <= LIMIT


def test_token_attention__memory_budgets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randn(9, 480, generator=generator) * torch.linspace(0.2, 8, 9)[:, None]
    slopes, upstream = torch.ones(9), torch.randn(9, 480, generator=generator)
    whole = gradients(token_attention, tokens, slopes, upstream)
    monkeypatch.setattr(attention, "BLOCK_ELEMENTS", 20_000)
    monkeypatch.setattr(attention, "SAVED_ELEMENTS", 50_000)
    for mine, theirs in zip(gradients(token_attention, tokens, slopes, upstream), whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6 * float(theirs.abs().max()))


def test_token_attention__deterministic() -> None:
    generator = torch.Generator().manual_seed(12)
    arguments = (torch.randn(5, 480, generator=generator) * 3, torch.randn(5, generator=generator), torch.ones(5, 480))
    once, again = gradients(token_attention, *arguments), gradients(token_attention, *arguments)
    assert all(torch.equal(first, second) for first, second in zip(once, again, strict=True))


def test_token_attention__timm() -> None:
    """timm's attention of one head over tokens of dimension one, with the same weights."""
    torch.manual_seed(13)
    peer = Attention(dim=1, num_heads=1).double()
    peer.fused_attn = False
    embeddings = torch.randn(3, 200, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 200, dtype=torch.float64)
    leaves = [embeddings, peer.qkv.weight, peer.proj.weight, peer.proj.bias]
    expected = peer(embeddings[:, :, None]).squeeze(2)
    query, key, value = peer.qkv.weight[:, 0]
    with count_grids() as counts:
        attended = token_attention(embeddings, (query * key).expand(3))
    found = peer.proj.weight[0, 0] * value * attended + peer.proj.bias
    assert sum(counts.grids.values()) == 3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    theirs = torch.autograd.grad(expected, leaves, upstream)
    for mine, other in zip(torch.autograd.grad(found, leaves, upstream), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


def test_token_attention__by_hand() -> None:
    """Tokens 0 and 1 with a = log 3: g(0) = 1/2, and g(log 3) = 3/4."""
    found = token_attention(torch.tensor([[0.0, 1.0]]), torch.tensor([3.0]).log())
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.75]]))


def test_token_attention__smallest_shapes() -> None:
    one = torch.tensor([[2.5]], requires_grad=True)
    result = token_attention(one, torch.tensor([3.0]))
    result.sum().backward()
    assert (result.item(), one.grad) == (2.5, torch.ones(1, 1))
    for shape in ((0, 96), (0, 0), (3, 0)):
        assert token_attention(torch.zeros(shape), torch.zeros(shape[0])).shape == shape
    assert exact_token_attention(torch.zeros(0, 96), torch.zeros(0)).shape == (0, 96)


@pytest.mark.parametrize(
    ("tokens", "slopes"),
    [
        (torch.zeros(2, 3), torch.zeros(3)),
        (torch.zeros(2, 3, 1), torch.zeros(2)),
        (torch.zeros(2, 3).half(), torch.zeros(2).half()),
        (torch.zeros(2, 3), torch.zeros(2).double()),
    ],
)
def test_token_attention__wrong_arguments(tokens: Tensor, slopes: Tensor) -> None:
    with pytest.raises(ValueError, match=r"give tokens \(R, T\) and slopes \(R,\)"):
        token_attention(tokens, slopes)


def test_token_attention__autocast_keeps_the_digits() -> None:
    tokens, slopes = torch.randn(2, 96, generator=torch.Generator().manual_seed(14)), torch.ones(2)
    expected = exact_token_attention(tokens.double(), slopes.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_attention(tokens, slopes)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=LIMIT)


def test_count_grids__its_own_thread_and_block() -> None:
    tokens, slopes = torch.zeros(2, 96), torch.ones(2)
    with count_grids() as outer:
        token_attention(tokens, slopes)
        thread = threading.Thread(target=token_attention, args=(tokens, slopes))
        thread.start()
        thread.join()
        with count_grids() as inner:
            token_attention(tokens[:1], slopes[:1])
    token_attention(tokens, slopes)
    assert (sum(outer.grids.values()), sum(inner.grids.values())) == (2, 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.floats(1e-3, 30),
    slope=st.floats(-3, 3),
    shift=st.floats(-5, 5),
    extra=st.lists(st.floats(-100, 100, width=32), max_size=4),
)
def test_token_attention__an_increasing_mean(
    seed: int, spread: float, slope: float, shift: float, extra: list[float]
) -> None:
    """g is a weighted mean of the tokens, and its derivative a variance."""
    drawn = torch.randn(160, generator=torch.Generator().manual_seed(seed)) * spread + shift
    tokens = torch.cat([drawn, torch.tensor(extra)])
    values = token_attention(tokens[None], torch.tensor([slope]))[0]
    slack = 2 * LIMIT * float(tokens.abs().max())
    assert values.min() >= tokens.min() - slack
    assert values.max() <= tokens.max() + slack
    in_order = values[(tokens * slope).argsort()]
    assert (in_order.diff() >= -slack).all()
