"""Self-attention over tokens of dimension one, in O(T K) instead of O(T^2).

Truong et al. 2021 (section 5.6, appendix C) treat the T values of a concatenated embedding as T tokens of
dimension one. With one head, scale 1 and query, key and value weights q, k, v, the attention output of token i is

    v * g(q k x_i),        g(t) = sum_j x_j exp(t x_j) / sum_j exp(t x_j)

g is the derivative of log sum_j exp(t x_j): a smooth, increasing function of one variable, whose own derivative
is the variance of x under the weights w_j(t) = exp(t x_j) / sum. So the T x T matrix is never needed. g and g' are
evaluated at Chebyshev nodes over the range of the t_i of a sample, at a cost of T per node, and interpolated at the
t_i. The nodes are even in u = asinh(t s), s the standard deviation of the x_j: that is where g bends.

The gradient needs no T x T matrix either. With the upstream gradient c_i and t_i = a x_i,

    dL/da   = sum_i c_i g'(t_i) x_i
    dL/dx_m = a c_m g'(t_m) + sum_i c_i h_m(t_i),      h_m(t) = w_m(t) (1 + t (x_m - g(t)))

and h_m is as smooth in t as g': the second sum is taken over the nodes, with the c_i gathered there by the
transpose of the interpolation.

The last Chebyshev coefficients of g and g' estimate the error of every sample. A sample takes a finer grid until the
estimate is small; one that no grid serves is computed exactly, with a node at every token, and counted. The grid of
a sample depends on that sample alone.

Memory beside (R, T) arrays: about four times BLOCK_ELEMENTS while a block of samples is worked on, and at most
SAVED_ELEMENTS kept for the backward pass, whatever R is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvme.float32 import is_rounding
from dvme.heads.fusion.interpolation import GRIDS, Interpolant, Nodes, grid_at, range_of_u

TOLERANCES = {torch.float32: 4e-6, torch.float64: 1e-11}
"""Estimated error, relative to the largest value, up to which the interpolant stands for the function."""
WIDTHS = (0.55, 1.2, 2.2, 2.9, 3.6, 5.7, 13.5)
"""Widths of u up to which each grid but the last is tried first; measured, and only a matter of speed."""
BLOCK_ELEMENTS = 1 << 21
"""Elements (samples x nodes x tokens) worked on at once; a single sample may exceed it."""
SAVED_ELEMENTS = 1 << 28
"""Elements that one call keeps for its backward pass, which computes anew what is beyond them."""


@dataclass
class GridCounts:
    """How many samples took which way."""

    grids: dict[tuple[int, int], int] = field(default_factory=dict)
    """Samples interpolated, by (pieces, nodes in each)."""
    exact: int = 0
    """Samples that no grid served, computed T x T."""
    not_finite: int = 0
    """Samples with a NaN or an infinity, which come out as NaN."""


_counts: ContextVar[GridCounts | None] = ContextVar("token_attention_counts", default=None)


@contextmanager
def count_grids() -> Iterator[GridCounts]:
    """Counts the samples of every `token_attention` of this thread inside the block; the innermost block counts."""
    counts = GridCounts()
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def token_attention(tokens: Tensor, slopes: Tensor) -> Tensor:
    """g(a x_i) for every token of every sample, to 1e-5 of the sample's largest value in float32.

    Args:
        tokens: (R, T) float32 or float64, the x_i of R samples. A sample with a NaN or an infinity becomes NaN.
        slopes: (R,) a = q k of each sample, of the same dtype and device.

    Returns:
        (R, T). Differentiable once, in both arguments.

    Raises:
        ValueError: if shapes or dtypes do not fit together.

    Source: module docstring; Truong et al. 2021, appendix C.
    """
    fits = tokens.ndim == 2 and slopes.shape == tokens.shape[:1] and slopes.dtype == tokens.dtype
    if not fits or tokens.dtype not in TOLERANCES:
        raise ValueError(
            f"tokens are {tuple(tokens.shape)} {tokens.dtype} and slopes {tuple(slopes.shape)} {slopes.dtype}; "
            "give tokens (R, T) and slopes (R,), both float32 or both float64"
        )
    # TF32 and autocast round the factors of a product to three digits, which no estimate would notice.
    if tokens.dtype == torch.float32 and is_rounding(tokens.device):
        return token_attention(tokens.double(), slopes.double()).float()
    result: Tensor = _TokenAttention.apply(tokens, slopes)
    return result


def exact_token_attention(tokens: Tensor, slopes: Tensor) -> Tensor:
    """The same by the softmax of the T x T matrix of each sample: the reference that the tests compare with."""
    samples = [torch.softmax((slope * x)[:, None] * x, dim=1) @ x for x, slope in zip(tokens, slopes, strict=True)]
    return torch.stack(samples) if samples else tokens.clone()


class _TokenAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, slopes: Tensor) -> Tensor:
        values, derivatives = torch.full_like(tokens, math.nan), torch.full_like(tokens, math.nan)
        counts = _counts.get() or GridCounts()
        room = SAVED_ELEMENTS if any(ctx.needs_input_grad) else 0
        ctx.interpolants, ctx.exact = [], []
        waiting = _first_grids(tokens, slopes)
        counts.not_finite += len(tokens) - sum(map(len, waiting.values()))
        while waiting:  # a round waits for the device once, and only a refused sample makes another round
            ctx.exact += waiting.pop(len(GRIDS), [])
            tried = []
            for position, rows in waiting.items():
                for some in _split(rows, position, tokens):
                    interpolant = Interpolant(some, tokens[some], slopes[some], position)
                    values[some], derivatives[some] = interpolant.everywhere()
                    room -= interpolant.keep(room)
                    tried.append(interpolant)
            waiting = _refused(tried, tokens.shape[1])
            ctx.interpolants += [interpolant for interpolant in tried if interpolant.n_accepted]
        for interpolant in ctx.interpolants:
            grid = interpolant.grid
            counts.grids[grid] = counts.grids.get(grid, 0) + interpolant.n_accepted
        for row, part, nodes in _exact_nodes(ctx.exact, tokens, slopes):
            values[row, part], derivatives[row, part] = nodes.value[0], nodes.slope[0]
        counts.exact += len(ctx.exact)
        ctx.save_for_backward(tokens, slopes, derivatives)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        tokens, slopes, derivatives = ctx.saved_tensors
        along = upstream * derivatives
        to_tokens, to_slopes = along * slopes[:, None], (along * tokens).sum(dim=1)
        for interpolant in ctx.interpolants:
            to_tokens.index_add_(0, *interpolant.pulled_back(tokens, upstream))
        for row, part, nodes in _exact_nodes(ctx.exact, tokens, slopes):
            to_tokens[row] += nodes.pulled_back(tokens[row, None], upstream[row, None, part])[0]
        return to_tokens, to_slopes


def _first_grids(tokens: Tensor, slopes: Tensor) -> dict[int, list[int]]:
    """The finite samples by the position of the grid that they try first, the exact ones under len(GRIDS)."""
    if not tokens.numel():
        return {}
    _, low, high = range_of_u(tokens, slopes)
    position = torch.bucketize(high - low, torch.tensor(WIDTHS, dtype=tokens.dtype, device=tokens.device))
    position = torch.where(torch.isfinite(high - low), position, len(GRIDS))
    is_finite = torch.isfinite(tokens).all(dim=1) & torch.isfinite(slopes)
    waiting: dict[int, list[int]] = {}
    for row, wanted in enumerate(torch.where(is_finite, position, -1).tolist()):
        if wanted >= 0:
            waiting.setdefault(_affordable(wanted, tokens.dtype, tokens.shape[1]), []).append(row)
    return waiting


def _affordable(position: int, dtype: torch.dtype, n_tokens: int) -> int:
    """The grid at this position, or the exact path if it takes no more nodes: one for each token."""
    is_cheaper = position < len(GRIDS) and math.prod(grid_at(position, dtype)) < n_tokens
    return position if is_cheaper else len(GRIDS)


def _split(rows: list[int], position: int, tokens: Tensor) -> tuple[Tensor, ...]:
    """The rows in blocks that keep to BLOCK_ELEMENTS on this grid."""
    size = max(1, BLOCK_ELEMENTS // (math.prod(grid_at(position, tokens.dtype)) * tokens.shape[1]))
    return torch.split(torch.tensor(rows, device=tokens.device), size)


def _refused(tried: list[Interpolant], n_tokens: int) -> dict[int, list[int]]:
    """Marks the accurate samples, and returns the others by the position of their next grid."""
    waiting: dict[int, list[int]] = {}
    if not tried:
        return waiting
    sizes = [len(interpolant.rows) for interpolant in tried]
    errors = torch.cat([interpolant.error for interpolant in tried])
    is_accurate = errors <= TOLERANCES[errors.dtype]
    rows = torch.cat([interpolant.rows for interpolant in tried])
    on_host = torch.split(torch.stack([rows, is_accurate.to(rows.dtype)]).cpu(), sizes, dim=1)
    for interpolant, marks, (names, is_fine) in zip(tried, torch.split(is_accurate, sizes), on_host, strict=True):
        interpolant.n_accepted = int(is_fine.sum())
        if interpolant.n_accepted < len(names):
            interpolant.is_accepted = marks
            following = _affordable(interpolant.position + 1, errors.dtype, n_tokens)
            waiting.setdefault(following, []).extend(names[is_fine == 0].tolist())
    return waiting


def _exact_nodes(rows: list[int], tokens: Tensor, slopes: Tensor) -> Iterator[tuple[int, slice, Nodes]]:
    """The exact path: every token's own t as a node, some tokens of one sample at a time."""
    largest, n_tokens = torch.finfo(tokens.dtype).max, tokens.shape[1]
    size = max(1, BLOCK_ELEMENTS // max(1, n_tokens))
    for row in rows:
        x = tokens[row, None]
        t = (slopes[row] * x).clamp(-largest, largest)
        for start in range(0, n_tokens, size):
            some = slice(start, start + size)
            yield row, some, Nodes(x, t[:, some])
