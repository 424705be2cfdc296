"""The objective of logistic regression, its gradient and its preconditioner, from rows or from their Gram matrix.

See logistic.py for the objective and for when which is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from dvme.heads.exact.minimise import Problem, dot
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

LEAST_CURVATURE = 1e-12
RANK = 32
"""Leading eigenvectors in the preconditioner of a Gram matrix."""
ROWS, LARGE = 4, 1 << 18
"""Matrix libraries multiply this many rows, or twice as many, by a matrix of so many numbers in half the time that they
take for one row less."""
LEAST_ENERGY = 1e-13
"""Eigenvalues of a Gram matrix, relative to its trace, below which they are rounding."""


class LogisticProblem(Problem):
    """J problems, padded, with Q = C or, for two classes, 1. The intercept comes last in P + 1.

    Parameters are rows, for matrix libraries multiply a few rows by a large matrix several times faster than a
    few columns.
    """

    n_views: int

    def __init__(
        self,
        matrices: Sequence[Tensor],
        targets: Sequence[Tensor],
        weights: Sequence[Tensor],
        l2: Tensor,
    ) -> None:
        """J times (n, P), (T, Q, n) and (T, n); T is 1 where all strengths share targets and weights, else S."""
        n_rows, width = (max(own.shape[axis] for own in matrices) for axis in (0, 1))
        n_sets, n_outputs, _ = targets[0].shape
        n_jobs = len(matrices)
        self.matrix = matrices[0][None] if n_jobs == 1 else l2.new_zeros(n_jobs, n_rows, width)
        self.weights = l2.new_zeros(n_jobs, n_sets, n_rows)
        self.n_rows = l2.new_zeros(n_jobs, 1)
        self.targets = l2.new_zeros(n_jobs, n_sets, n_outputs, n_rows)
        rank = min(RANK, width)
        self.rest, self.energies = l2.new_zeros(n_jobs, 1), l2.new_zeros(n_jobs, 1, rank)
        self.leading = l2.new_zeros(n_jobs, rank, self.n_views, width)
        self.l2 = l2
        for index, own in enumerate(matrices):
            n_own, own_width = own.shape
            if n_jobs > 1:
                self.matrix[index, :n_own, :own_width] = own
            self.weights[index, :, :n_own] = weights[index]
            self.n_rows[index] = n_own
            self.targets[index, ..., :n_own] = targets[index]
            leading, energies, total = self.leading_eigenvectors(own)
            self.leading[index, : len(leading), :, :own_width] = leading
            self.energies[index, 0, : len(energies)] = energies
            self.rest[index] = (total - energies.sum()).clamp_min(0.0) / max(1, own_width - len(energies))
        self.is_soft = n_outputs == 1 and bool(((self.targets > 0.0) & (self.targets < 1.0)).any())
        total = self.weights.sum(-1)  # (J, T)
        frequencies = (self.targets * self.weights[:, :, None]).sum(-1) / total[..., None]  # (J, T, Q)
        prior = torch.logit(frequencies) if n_outputs == 1 else frequencies.log()
        self.start = l2.new_zeros(*l2.shape, self.n_views, n_outputs, width + 1)
        self.start[..., -1] = (prior - prior.mean(-1, keepdim=True) * (n_outputs > 1))[:, :, None]

    @staticmethod
    @abstractmethod
    def leading_eigenvectors(own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of X^T X: (K, I, P) orthonormal in the metric, (K,) eigenvalues, and the sum of all eigenvalues."""

    @abstractmethod
    def backward(self, residuals: Tensor, parameters: Tensor) -> Tensor:
        """(J, S, I, Q, P) gradient with respect to the weights, from the (J, S, Q, n) one of the losses' logits."""

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """See Problem."""
        self.l2 = self.l2[:, strengths]
        if self.weights.shape[1] > 1:
            self.weights, self.targets = self.weights[:, strengths], self.targets[:, strengths]
        if not bool(jobs.all()):
            for name, kept in vars(self).items():
                if name not in ("start", "is_soft"):
                    setattr(self, name, kept[jobs])

    def objective(self, logits: Tensor, parameters: Tensor) -> Tensor:
        """See Problem."""
        if self.is_soft:
            above = logits.clamp_min(0.0) - self.targets * logits
            losses = (torch.nn.functional.softplus(-logits.abs()) + above)[:, :, 0]
        elif logits.shape[2] == 1:
            losses = torch.nn.functional.softplus((1.0 - 2.0 * self.targets) * logits, threshold=700.0)[:, :, 0]
        else:
            losses = torch.logsumexp(logits, dim=2) - (logits * self.targets).sum(2)
        squares = dot(parameters[..., :-1], parameters[..., :-1])
        return (losses * self.weights).sum(-1) + 0.5 * self.l2 * squares

    def gradient(self, logits: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See Problem; the curvature is the mean p (1 - p) over rows, times their weights, and classes."""
        probabilities = self.probabilities(logits)
        gradient = self._ascent((probabilities - self.targets) * self.weights[:, :, None], parameters)
        variances = (probabilities * (1.0 - probabilities)).mean(2)
        return gradient, ((variances * self.weights).sum(-1) / self.n_rows).clamp_min(LEAST_CURVATURE)

    def probabilities(self, logits: Tensor) -> Tensor:
        """See Problem; of two classes the second's."""
        return torch.sigmoid(logits) if logits.shape[2] == 1 else torch.softmax(logits, dim=2)

    def hessian(self, probabilities: Tensor, direction: Tensor, along: Tensor) -> Tensor:
        """See Problem."""
        if along.shape[2] == 1:
            bend = probabilities * (1.0 - probabilities) * along
        else:
            bend = probabilities * (along - (probabilities * along).sum(2, keepdim=True))
        return self._ascent(bend * self.weights[:, :, None], direction)

    def _ascent(self, residuals: Tensor, parameters: Tensor) -> Tensor:
        """(J, S, I, Q, P + 1): as `backward`, with the intercepts."""
        ascent = torch.empty_like(parameters)
        ascent[..., :-1] = self.backward(residuals, parameters)
        ascent[..., -1] = residuals.sum(-1)[:, :, None]
        return ascent

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """(curvature * scatter + l2)^-1 gradient."""
        rest, gain, inside = self._split(gradient, curvature)
        inside = inside * gain[:, :, None]
        result = rest[..., None, None, None] * gradient
        for image in range(self.n_views):
            result[:, :, image, :, :-1] += _times(inside, self.leading[:, :, image])
        result[..., -1] = gradient[..., -1] / (curvature * self.n_rows)[..., None, None]
        return result

    def preconditioned_length(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See Problem."""
        rest, gain, inside = self._split(gradient, curvature)
        whole = dot(gradient[..., :-1], gradient[..., :-1])
        shift = gradient[:, :, 0, :, -1].square().sum(-1) / (curvature * self.n_rows)
        return rest * whole + (gain * inside.square().sum(2)).sum(-1) + shift

    def _split(self, gradient: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inverse curvature off the leading eigenvectors, (J, S), the gains on them, and coordinates (J, S, Q, K)."""
        rest = 1.0 / (curvature * self.rest + self.l2)
        gain = 1.0 / (curvature[..., None] * self.energies + self.l2[..., None]) - rest[..., None]
        return rest, gain, _times(gradient[:, :, 0, :, :-1], self.leading[:, :, -1].mT)


class FromRows(LogisticProblem):
    """From (J, n, D) centred rows along the axes of their scatter matrix, which is diagonal there."""

    n_views = 1

    @staticmethod
    def leading_eigenvectors(own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """None: all of them are axes, and `diagonal` has their eigenvalues."""
        return own.new_zeros(0, 1, own.shape[1]), own.new_zeros(0), own.new_zeros(())

    @cached_property
    def diagonal(self) -> Tensor:
        """(J, 1, 1, D) eigenvalues of the scatter matrices."""
        return self.matrix.square().sum(1)[:, None, None]

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See LogisticProblem."""
        weights = gradient[..., :-1] / self._scale(curvature)[:, :, None]
        shift = gradient[..., -1:] / (curvature * self.n_rows)[..., None, None, None]
        return torch.cat([weights, shift], dim=-1)

    def preconditioned_length(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See Problem."""
        weights = gradient[:, :, 0, :, :-1].square() / self._scale(curvature)
        return weights.sum((2, 3)) + gradient[:, :, 0, :, -1].square().sum(-1) / (curvature * self.n_rows)

    def _scale(self, curvature: Tensor) -> Tensor:
        return curvature[..., None, None] * self.diagonal + self.l2[..., None, None]

    def logits(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        own = parameters[:, :, 0]
        return _times(own[..., :-1], self.matrix.mT) + own[..., -1:]

    def renewed(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        return parameters

    def backward(self, residuals: Tensor, parameters: Tensor) -> Tensor:
        """See LogisticProblem."""
        gradient = _times(residuals, self.matrix)
        return gradient[:, :, None] + self.l2[..., None, None, None] * parameters[..., :-1]


class FromGram(LogisticProblem):
    """From (J, n, n) Gram matrices of centred rows. A vector of row coefficients a stands for weights X^T a."""

    n_views = 2

    @staticmethod
    def leading_eigenvectors(own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """By one step of subspace iteration."""
        basis, _ = torch.linalg.qr(own @ _random(min(RANK, len(own)), own).T)
        image = own @ basis
        energies, vectors = torch.linalg.eigh(basis.T @ image)
        total = own.trace()
        is_kept = energies > LEAST_ENERGY * total
        vectors = vectors[:, is_kept] / energies[is_kept].sqrt()
        return torch.stack([(basis @ vectors).T, (image @ vectors).T], dim=1), energies[is_kept], total

    def logits(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        return parameters[:, :, 1, :, :-1] + parameters[:, :, 1, :, -1:]

    def renewed(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        own = parameters[:, :, 0]
        image = torch.cat([_times(own[..., :-1], self.matrix.mT), own[..., -1:]], dim=-1)
        return torch.stack([own, image], dim=2)

    def backward(self, residuals: Tensor, parameters: Tensor) -> Tensor:
        """See LogisticProblem."""
        image = _times(residuals, self.matrix.mT)  # symmetric, and faster read by rows
        return torch.stack([residuals, image], dim=2) + self.l2[..., None, None, None] * parameters[..., :-1]


class FromGramAlone(FromGram):
    """Of one problem, whose leading eigenvectors are found on the way to its optimum, see krylov.py."""

    @staticmethod
    def leading_eigenvectors(own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """None yet."""
        return own.new_zeros(0, 2, own.shape[1]), own.new_zeros(0), own.trace()

    def take_leading(self, leading: Tensor, energies: Tensor) -> None:
        """(K, 2, n) and (K,), K at most RANK, as `FromGram.leading_eigenvectors` finds them."""
        self.leading[0, : len(leading)], self.energies[0, 0, : len(energies)] = leading, energies
        rest = self.matrix.diagonal(dim1=1, dim2=2).sum() - energies.sum()
        self.rest[0] = rest.clamp_min(0.0) / max(1, self.matrix.shape[1] - len(energies))


def _times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """(J, S, Q, b) from (J, S, Q, a) and (J, a, b)."""
    return times(vectors.flatten(1, 2), matrices).reshape(*vectors.shape[:3], matrices.shape[2])


def times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """(..., k, b) from (..., k, a) and (..., a, b); of large matrices by as many rows at once as they are fast at."""
    n_rows, is_large = vectors.shape[-2], matrices.shape[-2] * matrices.shape[-1] >= LARGE
    if not is_large or n_rows <= 2 or n_rows % ROWS == 0:
        return vectors @ matrices
    filled = torch.nn.functional.pad(vectors, (0, 0, 0, -n_rows % ROWS))
    return (filled @ matrices)[..., :n_rows, :]


def _random(n_rows: int, like: Tensor) -> Tensor:
    """(n_rows, P) for a matrix (n, P), always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_rows, like.shape[1], generator=generator, dtype=like.dtype).to(like.device)
