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
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TOLERANCES = {torch.float32: 4e-6, torch.float64: 1e-11}
"""Estimated error, relative to the largest value, up to which the interpolant stands for the function."""
GRIDS = ((1, 16), (1, 20), (1, 24), (1, 32), (4, 20), (8, 20), (16, 24))
"""(pieces, nodes in each) in float32, from few to many; float64 takes twice the nodes for twice the digits."""
WIDTHS = (1.4, 2.2, 2.9, 3.6, 5.7, 13.5)
"""Widths of u up to which each grid but the last is tried first; measured, and only a matter of speed."""
BLOCK_ELEMENTS = 1 << 21
"""Elements (samples x nodes x tokens) worked on at once; a single sample may exceed it."""
SAVED_ELEMENTS = 1 << 25
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
    is_rounding = torch.get_float32_matmul_precision() != "highest" or torch.is_autocast_enabled(tokens.device.type)
    if is_rounding and tokens.dtype == torch.float32:
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
                    interpolant = _Interpolant(some, tokens[some], slopes[some], position)
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
    _, low, high = _range_of_u(tokens, slopes)
    position = torch.bucketize(high - low, torch.tensor(WIDTHS, dtype=tokens.dtype, device=tokens.device))
    position = torch.where(torch.isfinite(high - low), position, len(GRIDS))
    is_finite = torch.isfinite(tokens).all(dim=1) & torch.isfinite(slopes)
    waiting: dict[int, list[int]] = {}
    for row, wanted in enumerate(torch.where(is_finite, position, -1).tolist()):
        if wanted >= 0:
            waiting.setdefault(_affordable(wanted, tokens.dtype, tokens.shape[1]), []).append(row)
    return waiting


def _grid(position: int, dtype: torch.dtype) -> tuple[int, int]:
    n_pieces, n_nodes = GRIDS[position]
    return n_pieces, 2 * n_nodes if dtype == torch.float64 else n_nodes


def _affordable(position: int, dtype: torch.dtype, n_tokens: int) -> int:
    """The grid at this position, or the exact path if it takes no more nodes: one for each token."""
    is_cheaper = position < len(GRIDS) and math.prod(_grid(position, dtype)) < n_tokens
    return position if is_cheaper else len(GRIDS)


def _split(rows: list[int], position: int, tokens: Tensor) -> tuple[Tensor, ...]:
    """The rows in blocks that keep to BLOCK_ELEMENTS on this grid."""
    size = max(1, BLOCK_ELEMENTS // (math.prod(_grid(position, tokens.dtype)) * tokens.shape[1]))
    return torch.split(torch.tensor(rows, device=tokens.device), size)


def _refused(tried: list[_Interpolant], n_tokens: int) -> dict[int, list[int]]:
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


def _exact_nodes(rows: list[int], tokens: Tensor, slopes: Tensor) -> Iterator[tuple[int, slice, _Nodes]]:
    """The exact path: every token's own t as a node, some tokens of one sample at a time."""
    largest, n_tokens = torch.finfo(tokens.dtype).max, tokens.shape[1]
    size = max(1, BLOCK_ELEMENTS // max(1, n_tokens))
    for row in rows:
        x = tokens[row, None]
        t = (slopes[row] * x).clamp(-largest, largest)
        for start in range(0, n_tokens, size):
            some = slice(start, start + size)
            yield row, some, _Nodes(x, t[:, some])


class _Nodes:
    """g and g' of each of R samples at N values of t."""

    weights: Tensor | None

    def __init__(self, tokens: Tensor, t: Tensor) -> None:
        self.t, self.is_rising = t, t > 0
        self.ends = torch.stack([tokens.amax(dim=1), tokens.amin(dim=1)], dim=1)  # (R, 2)
        mean = tokens.mean(dim=1, keepdim=True)
        sides = self._sides(tokens)
        distances, self.weights = self._weights(sides)
        centred = (tokens - mean)[:, None]
        moments = torch.cat([torch.ones_like(centred), centred, sides], dim=1) @ self.weights.transpose(1, 2)
        self.total = moments[:, 0]  # (R, N)
        about_mean, about_top, about_bottom = (moments[:, 1:] / moments[:, :1]).unbind(dim=1)
        # t (end - g) <= log T: no digits are lost in this difference. g has more of them about the mean near t = 0.
        self.offset = torch.where(self.is_rising, about_top, about_bottom)
        end = torch.where(self.is_rising, self.ends[:, :1], self.ends[:, 1:])
        is_flat = about_mean.abs() < self.offset.abs()
        self.value = torch.where(is_flat, mean + about_mean, end + self.offset)  # (R, N)
        # The second pass is what keeps g' accurate where a few nearly equal tokens have all the weight.
        deviations = distances.sub_(self.offset[:, :, None]).square_()
        self.slope = deviations.mul_(self.weights).sum(dim=2) / self.total  # (R, N)

    def _weights(self, sides: Tensor) -> tuple[Tensor, Tensor]:
        """(R, N, T) distances from the token of the largest weight, and the weights, of which the largest is 1."""
        chosen = torch.stack([self.is_rising, ~self.is_rising], dim=2).to(sides.dtype)
        distances = chosen @ sides
        return distances, (distances * self.t[:, :, None]).exp_()

    def _sides(self, tokens: Tensor) -> Tensor:
        """(R, 2, T) differences from the largest and from the smallest token."""
        return tokens[:, None] - self.ends[:, :, None]

    def pulled_back(self, tokens: Tensor, upstream: Tensor) -> Tensor:
        """(R, T) sum over the nodes of the (R, N) upstream times h_m."""
        sides = self._sides(tokens)
        weights = self._weights(sides)[1] if self.weights is None else self.weights
        upstream = upstream / self.total
        linear = upstream * self.t
        columns = [upstream - linear * self.offset, linear * self.is_rising, linear * ~self.is_rising]
        sums = torch.stack(columns, dim=1) @ weights  # (R, 3, T)
        result: Tensor = sums[:, 0] + (sums[:, 1:] * sides).sum(dim=1)
        return result


class _Interpolant:
    """g and g' of each of R samples between P pieces of K Chebyshev nodes."""

    basis: Tensor | None
    is_accepted: Tensor | None

    def __init__(self, rows: Tensor, tokens: Tensor, slopes: Tensor, position: int) -> None:
        self.rows, self.position, self.is_accepted, self.n_accepted = rows, position, None, 0
        self.grid = self.n_pieces, self.n_nodes = _grid(position, tokens.dtype)
        self.spread, low, high = _range_of_u(tokens, slopes)
        half = ((high - low) / (2 * self.n_pieces)).clamp_min(torch.finfo(tokens.dtype).tiny)  # (R,)
        pieces = torch.arange(self.n_pieces, device=tokens.device, dtype=tokens.dtype)
        centres = (low + high)[:, None] / 2 + half[:, None] * (2 * pieces + 1 - self.n_pieces)  # (R, P)
        points, self.transform = _chebyshev(self.n_nodes, tokens.dtype, tokens.device)
        u = (centres[:, :, None] + half[:, None, None] * points).flatten(start_dim=1)  # (R, P K)
        self.nodes = _Nodes(tokens, torch.sinh(u) / self.spread[:, None])
        place = _asinh(slopes[:, None] * tokens * self.spread[:, None]) - (centres[:, :1] - half[:, None])
        place.div_(2 * half[:, None])
        self.piece = place.long().clamp_(0, self.n_pieces - 1)  # (R, T)
        self.local = place.sub_(self.piece).mul_(2).sub_(1).clamp_(-1, 1)  # (R, T), the token's place in its piece
        self.basis = self._basis()

    def _basis(self) -> Tensor:
        """(R, K, T) Chebyshev polynomials at every token's place in its piece."""
        basis = self.local.new_empty(self.n_nodes, *self.local.shape)
        basis[0], basis[1], twice = 1, self.local, 2 * self.local
        for order in range(2, self.n_nodes):
            torch.mul(twice, basis[order - 1], out=basis[order]).sub_(basis[order - 2])
        return basis.transpose(0, 1)

    def everywhere(self) -> tuple[Tensor, Tensor]:
        """(R, T) of g, and of g', at every token; estimates the error."""
        at_nodes = torch.stack([self.nodes.value, self.nodes.slope], dim=1).view(-1, 2, *self.grid)
        coefficients = at_nodes @ self.transform.T  # (R, 2, P, K)
        assert self.basis is not None
        result = coefficients.flatten(1, 2) @ self.basis  # (R, 2 P, T)
        if self.n_pieces > 1:
            own = self.piece[:, None, None].expand(-1, 2, 1, -1)
            result = result.view(len(own), 2, self.n_pieces, -1).gather(2, own).squeeze(2)
        is_used = torch.zeros_like(coefficients[:, 0, :, 0]).scatter_(1, self.piece, 1)  # (R, P)
        tail = (coefficients[..., -2:].abs().sum(dim=3) * is_used[:, None]).amax(dim=2)  # (R, 2)
        # The rounding of g, which is all that is left of it where the mean is 0 and the slope is 0.
        tail[:, 0] -= 4 * torch.finfo(tail.dtype).eps * self.spread
        largest = result.abs().amax(dim=2).clamp_min(torch.finfo(tail.dtype).tiny)  # (R, 2)
        self.error = (tail / largest).amax(dim=1)  # (R,)
        return result[:, 0], result[:, 1]

    def keep(self, room: int) -> int:
        """Keeps the large arrays for the backward pass if there is room; returns how many elements they take."""
        assert self.nodes.weights is not None
        assert self.basis is not None
        size = self.nodes.weights.numel() + self.basis.numel()
        if size <= room:
            return size
        self.nodes.weights = self.basis = None
        return 0

    def pulled_back(self, tokens: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """The accepted rows, and their (R, T) sum over i of c_i h_m(t_i), taken over the nodes."""
        basis = self._basis() if self.basis is None else self.basis
        parts = upstream[self.rows][:, None]
        if self.n_pieces > 1:
            own = self.piece[:, None]
            parts = parts.new_zeros(len(own), self.n_pieces, own.shape[2]).scatter_(1, own, parts)
        gathered = (parts @ basis.transpose(1, 2)) @ self.transform  # (R, P, K)
        result = self.nodes.pulled_back(tokens[self.rows], gathered.flatten(start_dim=1))
        if self.is_accepted is None:
            return self.rows, result
        return self.rows[self.is_accepted], result[self.is_accepted]


def _range_of_u(tokens: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(R,) s, and the smallest and largest u = asinh(a x s) of every sample."""
    scale = (tokens - tokens.mean(dim=1, keepdim=True)).square_().mean(dim=1).sqrt()
    scale = scale.clamp_min(torch.finfo(tokens.dtype).eps)
    u = _asinh(torch.stack([tokens.amin(dim=1), tokens.amax(dim=1)]) * slopes * scale)
    return scale, u.amin(dim=0), u.amax(dim=0)


def _asinh(x: Tensor) -> Tensor:
    """As torch.asinh, which costs ten times as much on the CPU."""
    size = x.abs()
    square = size.square()
    return torch.log1p(size.add_(square / (square + 1).sqrt_().add_(1))).copysign_(x)


@cache
def _chebyshev(n_nodes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """(K,) nodes of the first kind, and the (K, K) transform from values there to coefficients."""
    angles = math.pi * (torch.arange(n_nodes, dtype=torch.float64) + 0.5) / n_nodes
    orders = torch.arange(n_nodes, dtype=torch.float64)[:, None]
    transform = (2.0 / n_nodes) * torch.cos(orders * angles)
    transform[0] *= 0.5
    return torch.cos(angles).to(dtype=dtype, device=device), transform.to(dtype=dtype, device=device)
