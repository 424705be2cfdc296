"""The function of one variable that attention over scalar tokens is, at nodes and between them.

See attention.py for the formulas and how the samples are dealt out to the grids.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

GRIDS = ((1, 8), (1, 12), (1, 20), (1, 24), (1, 32), (4, 20), (8, 20), (16, 24))
"""(pieces, nodes in each) in float32, from few to many; float64 takes twice the nodes for twice the digits."""
N_NARROW = 2
"""The first grids, of samples whose u are so near 0 that sinh bends little: their nodes are even in t itself."""


def grid_at(position: int, dtype: torch.dtype) -> tuple[int, int]:
    """(pieces, nodes in each) of the grid at a position of GRIDS."""
    n_pieces, n_nodes = GRIDS[position]
    return n_pieces, 2 * n_nodes if dtype == torch.float64 else n_nodes


class Interpolant:
    """g and g' of each of R samples between P pieces of K Chebyshev nodes."""

    basis: Tensor | None
    is_accepted: Tensor | None

    def __init__(self, rows: Tensor, tokens: Tensor, slopes: Tensor, position: int) -> None:
        self.rows, self.position, self.is_accepted, self.n_accepted = rows, position, None, 0
        self.grid = self.n_pieces, self.n_nodes = grid_at(position, tokens.dtype)
        self.spread, low, high = range_of_u(tokens, slopes)
        is_narrow = position < N_NARROW
        if is_narrow:
            low, high = torch.sinh(low), torch.sinh(high)
        half = ((high - low) / (2 * self.n_pieces)).clamp_min(torch.finfo(tokens.dtype).tiny)  # (R,)
        pieces = torch.arange(self.n_pieces, device=tokens.device, dtype=tokens.dtype)
        centres = (low + high)[:, None] / 2 + half[:, None] * (2 * pieces + 1 - self.n_pieces)  # (R, P)
        points, self.transform = _chebyshev(self.n_nodes, tokens.dtype, tokens.device)
        u = (centres[:, :, None] + half[:, None, None] * points).flatten(start_dim=1)  # (R, P K)
        self.nodes = Nodes(tokens, (u if is_narrow else torch.sinh(u)) / self.spread[:, None])
        place = tokens * (slopes * self.spread)[:, None]
        place = (place if is_narrow else _asinh(place)) - (centres[:, :1] - half[:, None])
        place.div_(2 * half[:, None])
        if self.n_pieces > 1:
            self.piece = place.long().clamp_(0, self.n_pieces - 1)  # (R, T)
            place.sub_(self.piece)
        self.local = place.mul_(2).sub_(1).clamp_(-1, 1)  # (R, T), the token's place in its piece
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
        tail = coefficients[..., -2:].abs().sum(dim=3)  # (R, 2, P)
        if self.n_pieces > 1:
            own = self.piece[:, None, None].expand(-1, 2, 1, -1)
            result = result.view(len(own), 2, self.n_pieces, -1).gather(2, own).squeeze(2)
            is_used = torch.zeros_like(tail[:, 0]).scatter_(1, self.piece, 1)  # (R, P)
            tail = tail * is_used[:, None]
        tail = tail.amax(dim=2)
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


class Nodes:
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
        n_samples, _, n_tokens = sides.shape
        first = 2 * torch.arange(n_samples, device=sides.device)[:, None]
        rows = (first + ~self.is_rising).flatten()  # copied whole, which is quicker than torch.where along the nodes
        distances = sides.view(-1, n_tokens).index_select(0, rows).view(n_samples, -1, n_tokens)
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


def range_of_u(tokens: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
