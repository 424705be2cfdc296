"""The last digits of several problems at several strengths in step: Newton's method by conjugate gradients.

Objectives that are the same number can be of points 1e-8 apart, so what compares objectives stops short of the optimum,
and where it stops depends on the order of the rows. Here only gradients say how far it is.

Source: Nocedal and Wright 2006, algorithms 5.3 and 7.1, with the preconditioner and the metric of `minimise`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from dvme.heads.exact.minimise import Optima, Problem, backtracked, dot
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

TOLERANCE, STUCK_TOLERANCE = 1e-16, 1e-15
"""Squared Newton decrement, twice the distance from the least objective, that is left, relative to the objective; the
looser one where rounding allows no more."""
MAX_STEPS, MAX_PRODUCTS = 25, 150
COARSEST = 0.1
"""A Newton step is solved for at least to this residual, relative to the gradient."""
MAX_HALVINGS = 20
ROUNDING = 1e-7
"""Rise of the objective, relative to it, that is rounding where it is small beside the logits; a step that rises more
is not taken."""


def polish(problem: Problem, optima: Optima) -> Optima:
    """Go on from where `minimise` ended, however near, and say anew what has converged.

    Args:
        problem: in full, as `minimise` took it; it is used up.
        optima: what that gave.

    Source: module docstring.
    """
    parameters, objectives = optima.parameters.clone(), optima.objectives.clone()
    is_converged = torch.zeros_like(optima.is_converged)
    jobs, strengths = (torch.arange(size, device=parameters.device) for size in objectives.shape)
    current, is_done = problem.renewed(optima.parameters), torch.zeros_like(optima.is_converged)
    logits = problem.logits(current)
    value = problem.objective(logits, current)
    for _ in range(MAX_STEPS):
        step, along, before, after = _Descent(problem, logits, current, value, is_done).newton_step()
        size, logits, value = backtracked(
            problem,
            (logits, current),
            (along, step),
            value * (1.0 + ROUNDING),
            -before,
            is_done=is_done,
            max_halvings=MAX_HALVINGS,
        )
        current = current + size[..., None, None, None] * step
        left = torch.where(size == 1.0, after, before)
        job, strength = (~is_done).nonzero(as_tuple=True)
        place = jobs[job], strengths[strength]
        parameters[place], objectives[place] = current[job, strength], value[job, strength]
        is_converged[place] = (left <= STUCK_TOLERANCE * value)[job, strength]
        is_done = is_done | (size == 0.0) | (left <= TOLERANCE * value)
        busy_jobs, busy_strengths = (~is_done).any(1), (~is_done).any(0)
        if not bool(busy_jobs.any()):
            break
        if not bool(busy_jobs.all() & busy_strengths.all()):
            problem.keep(busy_jobs, busy_strengths)
            jobs, strengths = jobs[busy_jobs], strengths[busy_strengths]
            kept = current, logits, value, is_done
            current, logits, value, is_done = (x[busy_jobs][:, busy_strengths] for x in kept)
    return Optima(parameters, objectives, is_converged)


class _Descent:
    """Conjugate gradients towards the Newton steps of all problems from where they are."""

    def __init__(self, problem: Problem, logits: Tensor, current: Tensor, value: Tensor, is_done: Tensor) -> None:
        self.problem = copy.copy(problem)  # which keeps fewer and fewer, while the next step takes all
        gradient, self.curvature = problem.gradient(logits, current)
        self.probabilities = problem.probabilities(logits)
        self.residual = gradient.neg_()
        self.direction = problem.precondition(self.residual, self.curvature)
        self.step, self.along = torch.zeros_like(current), torch.zeros_like(logits)
        self.length = dot(self.residual, self.direction)
        self.first, self.value, self.is_done = self.length, value, is_done
        self.decrement = torch.zeros_like(value)
        """Squared, as far as it is known."""

    def newton_step(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Steps, their logits, and squared decrements (J, S) before and, estimated, after them.

        After: the residual is left, and the Hessian changes by up to the largest change of a logit, relative to it.
        """
        steps, alongs = torch.zeros_like(self.step), torch.zeros_like(self.along)
        before, after = torch.zeros_like(self.value), torch.zeros_like(self.value)
        jobs, strengths = (torch.arange(size, device=before.device) for size in before.shape)
        for product in range(1, MAX_PRODUCTS + 1):
            is_stuck = self._improve()
            change = self.along.abs().amax((2, 3))
            rest = torch.where(self.first == 0.0, 0.0, self.length / self.first).abs().sqrt()
            enough = 0.5 * (TOLERANCE * self.value / self.decrement).sqrt()
            is_enough = rest <= torch.maximum(change.clamp_max(COARSEST), enough)
            leaves = (is_enough | is_stuck | (product == MAX_PRODUCTS)) & ~self.is_done
            if not bool(leaves.any()):
                continue
            job, strength = leaves.nonzero(as_tuple=True)
            place = jobs[job], strengths[strength]
            step, along = self.step[job, strength], self.along[job, strength]
            is_finite = (step.flatten(1).isfinite().all(1) & along.flatten(1).isfinite().all(1))[:, None, None]
            steps[place] = torch.where(is_finite[..., None], step, 0.0)
            alongs[place] = torch.where(is_finite, along, 0.0)
            decrement = self.decrement.maximum(self.first.abs())  # the second, where rounding has the first word
            before[place] = decrement[job, strength]
            after[place] = ((rest + change).square() * decrement)[job, strength]
            self.is_done = self.is_done | leaves
            busy_jobs, busy_strengths = (~self.is_done).any(1), (~self.is_done).any(0)
            if not bool(busy_jobs.any()):
                break
            if not bool(busy_jobs.all() & busy_strengths.all()):
                self._keep(busy_jobs, busy_strengths)
                jobs, strengths = jobs[busy_jobs], strengths[busy_strengths]
        return steps, alongs, before, after

    def _improve(self) -> Tensor:
        """Take in one product with the Hessians; (J, S) where there was nothing to gain from it."""
        along = self.problem.logits(self.direction)
        image = self.problem.hessian(self.probabilities, self.direction, along)
        bend = dot(self.direction, image)
        is_stuck = ~((bend > 0) & (self.length > 0))
        size = torch.where(is_stuck | self.is_done, 0.0, self.length / bend)
        wide = size[..., None, None, None]
        self.step.addcmul_(wide, self.direction)
        self.along.addcmul_(wide[..., 0], along)
        self.residual.addcmul_(-wide, image)
        self.decrement = self.decrement + size * self.length
        next_direction = self.problem.precondition(self.residual, self.curvature)
        length = dot(self.residual, next_direction)
        ratio = torch.where(is_stuck, 0.0, length / self.length)
        self.direction = next_direction.addcmul_(ratio[..., None, None, None], self.direction)
        self.length = length
        return is_stuck

    def _keep(self, jobs: Tensor, strengths: Tensor) -> None:
        self.problem.keep(jobs, strengths)
        for name, kept in vars(self).items():
            if name != "problem":
                setattr(self, name, kept[jobs][:, strengths])
