"""L-BFGS for several problems at several strengths in step: they share matrix products, and leave once converged.

Nocedal and Wright 2006, algorithm 7.4, with a preconditioner that may change from point to point.

Parameters are (J, S, I, Q, P). Along I lie a vector and its image under the metric of its inner product,
<a, b> = a[0] . b[-1]; I = 1 where that is the usual one. Images are linear, so they take every step along, and
no inner product costs a matrix product. A gradient is that with respect to the metric: a direction of ascent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


HISTORY = 10
TOLERANCE = 1e-3
"""Slope at which a problem has come near, relative to its objective: from there Newton's method is as fast (newton.py).
Of 1e-2 to 1e-9, 1e-3 took the least time."""
ROUNDING = 1e-14
"""Slope upwards, relative to the objective, that is rounding and no ascent."""
NO_CURVATURE = 1e-12
"""Inner product of a step and its change of the gradient, relative to the sum of its terms' sizes, that is rounding."""
MAX_ITERATIONS = 1000
MAX_HALVINGS = 30
SUFFICIENT_DECREASE = 1e-4


class Slopes(Protocol):
    """J problems at S strengths, of which a rectangle of problems and strengths is still worked on."""

    start: Tensor
    """(J, S, I, Q, P)."""

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """Go on with some problems and some strengths, both bool masks."""

    def logits(self, parameters: Tensor) -> Tensor:
        """(J, S, Q, n), linear in the parameters, or what else is."""

    def objective(self, logits: Tensor, parameters: Tensor) -> Tensor:
        """(J, S), not negative."""

    def gradient(self, logits: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(J, S, I, Q, P), and (J, S) what the preconditioner has to know of the point."""

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """(J, S, I, Q, P), positive definite and symmetric in the metric."""

    def preconditioned_length(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """(J, S) inner products of a gradient with itself preconditioned; 0 where that is not to be rescaled."""


class Problem(Slopes, Protocol):
    """The same, with what Newton's method needs."""

    def renewed(self, parameters: Tensor) -> Tensor:
        """The same parameters with images computed anew, free of what steps left in them."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """(J, S, Q, n), all that `hessian` has to know of the point."""

    def hessian(self, probabilities: Tensor, direction: Tensor, along: Tensor) -> Tensor:
        """(J, S, I, Q, P) change of the gradient along a direction, whose logits are `along`."""


@dataclass(frozen=True)
class Stop:
    """How far `minimise` goes."""

    tolerance: float = TOLERANCE
    """Slope at which a problem is through, relative to its objective."""
    rise: float = 0.0
    """Of the objective, relative to it, that a step may bring: rounding, where only slopes tell how far it is."""
    max_iterations: int = MAX_ITERATIONS


@dataclass(frozen=True)
class Optima:
    """Where every problem ended at every strength."""

    parameters: Tensor
    """(J, S, I, Q, P)."""
    objectives: Tensor
    """(J, S)."""
    is_converged: Tensor
    """(J, S) bool."""


NEAR = Stop()


def minimise(problem: Slopes, stop: Stop = NEAR) -> Optima:
    """Come near the optimum: work on the problem, which is used up, until every strength has or can get no further.

    A strength has come near (`is_converged`) where the way down is as good as level and the objective is a number of 0
    or more. Where L-BFGS points up, it starts anew from steepest descent, preconditioned; where that does not lead
    down, it ends.

    Source: module docstring.
    """
    state = _State(problem)
    parameters, objectives = state.current.clone(), state.value.clone()
    is_converged = torch.zeros_like(state.is_done)
    jobs, strengths = (torch.arange(size, device=parameters.device) for size in objectives.shape)
    for iteration in range(stop.max_iterations + 1):
        direction, slope = _downhill(problem, state)
        is_sound = (slope <= ROUNDING * state.value) & (state.value >= 0) & state.value.isfinite()
        is_optimum = is_sound & (-slope <= stop.tolerance * state.value)
        leaves = (is_optimum | ~is_sound | state.is_stuck | (iteration == stop.max_iterations)) & ~state.is_done
        if bool(leaves.any()):
            job, strength = leaves.nonzero(as_tuple=True)
            place = jobs[job], strengths[strength]
            parameters[place], objectives[place] = state.current[job, strength], state.value[job, strength]
            is_converged[place] = is_optimum[job, strength]
            state.is_done = state.is_done | leaves
            busy_jobs, busy_strengths = (~state.is_done).any(1), (~state.is_done).any(0)
            if not bool(busy_jobs.any()):
                break
            if not bool(busy_jobs.all() & busy_strengths.all()):
                problem.keep(busy_jobs, busy_strengths)
                state.keep(busy_jobs, busy_strengths)
                jobs, strengths = jobs[busy_jobs], strengths[busy_strengths]
                direction, slope = (x[busy_jobs][:, busy_strengths] for x in (direction, slope))
        state.move(problem, direction, slope, stop.rise)
    return Optima(parameters, objectives, is_converged)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(J, S) inner products of parameters."""
    products: Tensor = torch.linalg.vecdot(a[:, :, 0], b[:, :, -1])
    return products[..., 0] if products.shape[2] == 1 else products.sum(-1)


class _State:
    """Where the active rectangle of problems stands, and the curvature pairs of L-BFGS."""

    def __init__(self, problem: Slopes) -> None:
        self.current = problem.start
        self.logits = problem.logits(self.current)
        self.value = problem.objective(self.logits, self.current)
        self.gradient, self.curvature = problem.gradient(self.logits, self.current)
        self.is_done = torch.zeros_like(self.value, dtype=torch.bool)
        self.is_stuck = self.is_done.clone()
        self.steps = self.current.new_empty(*self.value.shape, 0, *self.current.shape[2:])  # (J, S, H, I, Q, P)
        self.changes = self.steps
        self.products = self.current.new_zeros(*self.value.shape, 0, 0)
        """<step_i, change_j>, (J, S, H, H); zero for i > j, and for pairs without curvature but for a diagonal of 1."""
        self.is_pair = self.is_done.new_empty(*self.value.shape, 0)

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """See Problem."""
        for name, kept in vars(self).items():
            setattr(self, name, kept[jobs][:, strengths])

    def forget(self, is_lost: Tensor) -> None:
        """Drop the pairs of some problems, (J, S)."""
        self.is_pair = self.is_pair & ~is_lost[..., None]
        alone = torch.eye(self.products.shape[-1], dtype=self.products.dtype, device=self.products.device)
        self.products = torch.where(is_lost[..., None, None], alone, self.products)
        lost = is_lost[..., None, None, None, None]
        self.steps, self.changes = (torch.where(lost, 0.0, vectors) for vectors in (self.steps, self.changes))

    def move(self, problem: Slopes, direction: Tensor, slope: Tensor, rise: float) -> None:
        """Backtrack from step 1 along a direction and remember what it told about the curvature."""
        length, self.logits, self.value = backtracked(
            problem,
            (self.logits, self.current),
            (problem.logits(direction), direction),
            self.value * (1.0 + rise),
            slope,
            is_done=self.is_done,
            max_halvings=MAX_HALVINGS,
        )
        self.is_stuck = (length == 0.0) & ~self.is_done
        step = length[..., None, None, None] * direction
        self.current = self.current + step
        previous = self.gradient
        self.gradient, self.curvature = problem.gradient(self.logits, self.current)
        self._remember(step, self.gradient - previous)

    def _remember(self, step: Tensor, change: Tensor) -> None:
        """Take in a pair, the latest last, and forget the oldest."""
        first = int(self.steps.shape[2] == HISTORY)
        self.steps = torch.cat([self.steps[:, :, first:], step[:, :, None]], dim=2)
        self.changes = torch.cat([self.changes[:, :, first:], change[:, :, None]], dim=2)
        column = _dots(self.steps, change)
        terms = (step[:, :, 0] * change[:, :, -1]).abs().sum((2, 3))
        has_curvature = column[:, :, -1] > NO_CURVATURE * terms
        is_pair = torch.cat([self.is_pair[:, :, first:], has_curvature[..., None]], dim=2)
        column = torch.where(is_pair & is_pair[:, :, -1:], column, 0.0)
        column[:, :, -1] += ~is_pair[:, :, -1]
        older = torch.nn.functional.pad(self.products[:, :, first:, first:], (0, 0, 0, 1))
        self.products, self.is_pair = torch.cat([older, column[..., None]], dim=3), is_pair


def _downhill(problem: Slopes, state: _State) -> tuple[Tensor, Tensor]:
    """A direction of descent for every problem, and its slope (J, S); none, and 0 or more, where there is none."""
    direction = _direction(problem, state)
    slope = dot(direction, state.gradient)
    is_lost = ~((slope < 0) & slope.isfinite()) & ~state.is_done
    if bool(is_lost.any()):
        state.forget(is_lost)
        steepest = problem.precondition(-state.gradient, state.curvature)
        direction = torch.where(is_lost[..., None, None, None], steepest, direction)
        slope = dot(direction, state.gradient)
        is_lost = ~((slope <= 0) & slope.isfinite())
        direction = torch.where(is_lost[..., None, None, None], 0.0, direction)
        slope = torch.where(slope.isfinite(), slope, torch.inf)
    return direction, slope


def _direction(problem: Slopes, state: _State) -> Tensor:
    """Down, for every problem at once. Pairs without curvature count as absent.

    The two loops of the recursion are a triangular solve each, with the inner products of steps and changes.
    """
    if not state.steps.shape[2]:
        return problem.precondition(-state.gradient, state.curvature)
    right = torch.where(state.is_pair, _dots(state.steps, -state.gradient), 0.0)[..., None]
    coefficients = torch.linalg.solve_triangular(state.products, right, upper=True)
    result = problem.precondition(-state.gradient - _combined(state.changes, coefficients), state.curvature)
    last, product = state.changes[:, :, -1], state.products[:, :, -1, -1]
    length = problem.preconditioned_length(last, state.curvature)
    is_usable = state.is_pair[:, :, -1] & (length > 0) & length.isfinite()
    result *= torch.where(is_usable, product / length.clamp_min(1e-300), 1.0)[..., None, None, None]
    diagonal = state.products.diagonal(dim1=2, dim2=3)[..., None]
    seen = torch.where(state.is_pair, _dots(state.changes, result), 0.0)[..., None]
    coefficients = torch.linalg.solve_triangular(state.products.mT, diagonal * coefficients - seen, upper=False)
    return result + _combined(state.steps, coefficients)


def _combined(vectors: Tensor, coefficients: Tensor) -> Tensor:
    """(J, S, I, Q, P) sums over H of (J, S, H, I, Q, P), with (J, S, H, 1) coefficients."""
    return (coefficients.mT @ vectors.flatten(3))[:, :, 0].view_as(vectors[:, :, 0])


def _dots(vectors: Tensor, other: Tensor) -> Tensor:
    """(J, S, H) inner products of (J, S, H, I, Q, P) with (J, S, I, Q, P)."""
    return (vectors[:, :, :, 0].flatten(3) @ other[:, :, -1].flatten(2)[..., None])[..., 0]


def backtracked(
    problem: Slopes,
    point: tuple[Tensor, Tensor],
    towards: tuple[Tensor, Tensor],
    level: Tensor,
    slope: Tensor,
    *,
    is_done: Tensor,
    max_halvings: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths of steps (J, S), 0 where floating point has nothing to gain, and logits and objectives there.

    Args:
        problem: its logits are linear in the step, so that a trial costs no matrix product.
        point: logits and parameters.
        towards: changes of both by a whole step, which is tried first.
        level: (J, S) objectives to come below, the farther the longer the step.
        slope: (J, S) of the objective along a whole step.
        is_done: (J, S), which do not move.
        max_halvings: of a step, before it is given up.
    """
    length = torch.where(is_done, 0.0, torch.ones_like(level))
    for trial in range(max_halvings + 2):
        logits = point[0] + length[..., None, None] * towards[0]
        value = problem.objective(logits, point[1] + length[..., None, None, None] * towards[1])
        is_lower = (value >= 0) & (value <= level + SUFFICIENT_DECREASE * length * slope)
        is_enough = (length == 0.0) | is_lower
        if bool(is_enough.all()):
            break
        length = torch.where(is_enough, length, 0.0 if trial >= max_halvings else 0.5 * length)
    return length, logits, value
