"""Exact L2-regularised multinomial logistic regression, many problems over shared rows at once.

Every problem j minimises, over weights W (D, C) and an unpenalised intercept b (C),

    F_j(W, b) = sum over its rows i of  -log softmax(x_i W + b)[y_i]   +   l2_j / 2 * ||W||^2

which for C > 2 is scikit-learn's objective with C = 1 / l2. (For two classes scikit-learn penalises one
vector w = w_1 - w_0; the symmetric optimum here has ||W||^2 = ||w||^2 / 2, so l2 is doubled to agree.)

All problems share one matrix of rows and differ in which rows count and in l2, so an iteration is two
matrix products for all of them together. The rows are first rotated into the eigenbasis of their
scatter matrix: from X X^T where there are fewer rows than dimensions, else from X^T X. The optimum does
not change (it is equivariant under rotation, the span of the rows contains it, and the free intercept
absorbs the centring), but there the curvature bound of Boehning (1992) is diagonal and preconditions
L-BFGS (Nocedal and Wright 2006, algorithm 7.4), which then needs tens of iterations, not hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10
TOLERANCE, STUCK_TOLERANCE = 1e-9, 1e-6
"""Slope at which a problem has converged, relative to its objective; the looser one where rounding stops it first."""
MAX_ITERATIONS = 1000
MAX_HALVINGS = 30
SUFFICIENT_DECREASE = 1e-4
CURVATURE = 0.25
"""Typical p (1 - p) of a class probability; L-BFGS rescales it, so only its order matters."""


@dataclass(frozen=True)
class LogisticFit:
    """Optima of J problems."""

    weights: Tensor
    """(J, D, C)."""
    intercepts: Tensor
    """(J, C); -inf for a class without a training row. Finite ones have mean 0."""
    logits: Tensor
    """(J, N, C) of all shared rows."""
    objectives: Tensor
    """(J,) F_j at the optimum."""
    is_converged: Tensor
    """(J,) bool."""


def fit_logistic(features: Tensor, labels: Tensor, masks: Tensor, l2: Tensor, n_classes: int) -> LogisticFit:
    """Solve J problems over shared rows.

    Args:
        features: (N, D) float64.
        labels: (N,) int64 in [0, C).
        masks: (J, N) bool, the rows that count in each problem; at least one each.
        l2: (J,) positive strengths, in the units of the objective above.
        n_classes: C >= 2.

    Source: module docstring.
    """
    centre = features.mean(dim=0)
    rotated, basis, energies = _rotate(features - centre)
    problem = _Problem(rotated, labels, masks, l2 * (2.0 if n_classes == 2 else 1.0), n_classes, energies)
    parameters, is_converged = _minimise(problem)
    logits = problem.logits(parameters, problem.everyone)
    objectives = problem.objective(logits, parameters, problem.everyone)
    weights = torch.einsum("dr,jrc->jdc", basis, parameters[:, :-1])
    intercepts = parameters[:, -1] + problem.class_bias
    finite = torch.isfinite(intercepts)
    shift = intercepts.masked_fill(~finite, 0.0).sum(1, keepdim=True) / finite.sum(1, keepdim=True)
    return LogisticFit(
        weights=weights,
        intercepts=intercepts - shift - torch.einsum("d,jdc->jc", centre, weights),
        logits=logits,
        objectives=objectives,
        is_converged=is_converged,
    )


class _Problem:
    """The J problems in the rotated basis. Parameters are (J, R + 1, C), the intercept last."""

    def __init__(
        self, rotated: Tensor, labels: Tensor, masks: Tensor, l2: Tensor, n_classes: int, energies: Tensor
    ) -> None:
        self.design = torch.cat([rotated, rotated.new_ones(len(rotated), 1)], dim=1)  # (N, R + 1)
        self.masks = masks.to(rotated.dtype)
        self.targets = torch.nn.functional.one_hot(labels, n_classes).to(rotated.dtype)  # (N, C)
        self.penalty = l2[:, None, None] * torch.cat([torch.ones_like(energies), energies.new_zeros(1)])[:, None]
        n_own = self.masks.sum(1)
        spread = torch.cat([energies, energies.new_tensor([float(len(rotated))])])
        curvature = CURVATURE * (n_own / len(rotated))[:, None, None] * spread[:, None]
        self.preconditioner = 1.0 / (curvature + self.penalty)  # (J, R + 1, 1)
        is_absent = self.masks @ self.targets == 0
        self.class_bias = torch.zeros_like(is_absent, dtype=rotated.dtype).masked_fill(is_absent, -torch.inf)
        self.shape = (len(masks), self.design.shape[1], n_classes)
        self.everyone = torch.arange(len(masks))

    def logits(self, parameters: Tensor, who: Tensor) -> Tensor:
        """(A, N, C) for the problems `who`; absent classes at -inf."""
        return self.products(parameters) + self.class_bias[who][:, None]

    def products(self, parameters: Tensor) -> Tensor:
        """(A, N, C): every row times every problem's parameters, as one matrix product."""
        n_problems, width, n_classes = parameters.shape
        flat = self.design @ parameters.permute(1, 0, 2).reshape(width, n_problems * n_classes)
        return flat.view(-1, n_problems, n_classes).permute(1, 0, 2)

    def objective(self, logits: Tensor, parameters: Tensor, who: Tensor) -> Tensor:
        """(A,) F_j."""
        own = (logits.masked_fill(torch.isinf(logits), 0.0) * self.targets).sum(-1)
        loss = ((torch.logsumexp(logits, dim=-1) - own) * self.masks[who]).sum(1)
        return loss + 0.5 * (self.penalty[who] * parameters.square()).sum((1, 2))

    def gradient(self, logits: Tensor, parameters: Tensor, who: Tensor) -> Tensor:
        """(A, R + 1, C)."""
        residuals = (torch.softmax(logits, dim=-1) - self.targets) * self.masks[who][..., None]
        n_problems, n_rows, n_classes = residuals.shape
        flat = self.design.T @ residuals.permute(1, 0, 2).reshape(n_rows, n_problems * n_classes)
        return flat.view(-1, n_problems, n_classes).permute(1, 0, 2) + self.penalty[who] * parameters


def _rotate(centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(coordinates (N, R), basis (D, R), energies (R,)) with centred = coordinates @ basis.T."""
    n_rows, dim = centred.shape
    if n_rows < dim:
        energies, vectors = torch.linalg.eigh(centred @ centred.T)
        kept = energies > energies.max().clamp_min(torch.finfo(centred.dtype).tiny) * 1e-13
        energies, vectors = energies[kept], vectors[:, kept]
        basis = centred.T @ vectors / energies.sqrt()
        return vectors * energies.sqrt(), basis, energies
    energies, basis = torch.linalg.eigh(centred.T @ centred)
    return centred @ basis, basis, energies.clamp_min(0.0)


def _minimise(problem: _Problem) -> tuple[Tensor, Tensor]:
    """Preconditioned L-BFGS on all problems in step; a problem leaves once it has converged."""
    parameters = problem.design.new_zeros(problem.shape)
    is_converged = torch.zeros(problem.shape[0], dtype=torch.bool)
    who = problem.everyone
    current = parameters[who]
    logits = problem.logits(current, who)
    value = problem.objective(logits, current, who)
    gradient = problem.gradient(logits, current, who)
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    is_stuck = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        direction = -_apply_inverse_hessian(gradient, steps, changes, problem.preconditioner[who])
        slope = (direction * gradient).sum((1, 2))
        scale = value.abs().clamp_min(1e-12)
        is_done = (-slope <= TOLERANCE * scale) | is_stuck
        if is_done.any():
            parameters[who[is_done]] = current[is_done]
            is_converged[who[is_done]] = (-slope <= STUCK_TOLERANCE * scale)[is_done]
            going = ~is_done
            who, current, logits, value, gradient = (x[going] for x in (who, current, logits, value, gradient))
            direction, slope = direction[going], slope[going]
            steps, changes = [s[going] for s in steps], [c[going] for c in changes]
            if not len(who):
                break
        length, logits, value = _search(problem, who, current, logits, value, direction, slope)
        step = length[:, None, None] * direction
        current = current + step
        previous, gradient = gradient, problem.gradient(logits, current, who)
        steps, changes = [*steps, step][-HISTORY:], [*changes, gradient - previous][-HISTORY:]
        is_stuck = length == 0.0  # no decrease is left in floating point; the slope says if it is the optimum
    parameters[who] = current
    return parameters, is_converged


def _apply_inverse_hessian(
    gradient: Tensor, steps: list[Tensor], changes: list[Tensor], preconditioner: Tensor
) -> Tensor:
    """The two-loop recursion, for every problem at once. Pairs without curvature count as absent."""
    result = gradient.clone()
    curvatures = [(s * y).sum((1, 2)) for s, y in zip(steps, changes, strict=True)]
    inverses = [torch.where(c > 0, 1.0 / c.clamp_min(1e-300), 0.0) for c in curvatures]
    coefficients = []
    for s, y, inverse in zip(reversed(steps), reversed(changes), reversed(inverses), strict=True):
        coefficient = inverse * (s * result).sum((1, 2))
        coefficients.append(coefficient)
        result -= coefficient[:, None, None] * y
    scale = torch.ones_like(result[:, 0, 0])
    if changes:
        length = (changes[-1] * preconditioner * changes[-1]).sum((1, 2))
        scale = torch.where((curvatures[-1] > 0) & (length > 0), curvatures[-1] / length.clamp_min(1e-300), scale)
    result = scale[:, None, None] * preconditioner * result
    for s, y, inverse, coefficient in zip(steps, changes, inverses, reversed(coefficients), strict=True):
        result += (coefficient - inverse * (y * result).sum((1, 2)))[:, None, None] * s
    return result


def _search(
    problem: _Problem,
    who: Tensor,
    current: Tensor,
    logits: Tensor,
    value: Tensor,
    direction: Tensor,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Backtrack from step 1. Logits are linear in the step, so a trial costs no matrix product."""
    along = problem.products(direction)
    length = torch.ones_like(value)
    is_open = torch.ones_like(value, dtype=torch.bool)
    best_logits, best_value = logits.clone(), value.clone()
    for _ in range(MAX_HALVINGS):
        trial = logits[is_open] + length[is_open][:, None, None] * along[is_open]
        there = current[is_open] + length[is_open][:, None, None] * direction[is_open]
        reached = problem.objective(trial, there, who[is_open])
        is_enough = reached <= value[is_open] + SUFFICIENT_DECREASE * length[is_open] * slope[is_open]
        index = torch.nonzero(is_open).squeeze(1)
        best_logits[index[is_enough]] = trial[is_enough]
        best_value[index[is_enough]] = reached[is_enough]
        is_open[index[is_enough]] = False
        if not is_open.any():
            return length, best_logits, best_value
        length[is_open] *= 0.5
    length[is_open] = 0.0
    return length, best_logits, best_value
