"""Exact L2-regularised multinomial logistic regression: several problems, each along a path of strengths, at once.

A problem minimises, over weights W (D, C) and an unpenalised intercept b (C), for each of its strengths l2,

    F(W, b) = sum over its rows i of  -log softmax(x_i W + b)[y_i]   +   l2 / 2 * ||W||^2

which for C > 2 is scikit-learn's objective with C = 1 / l2. (For two classes scikit-learn penalises one
vector w = w_1 - w_0; the symmetric optimum here has ||W||^2 = ||w||^2 / 2, so l2 is doubled to agree.)
A class without a row gets no probability and the others are solved without it. Where two are left, one
vector stands for both, which halves the work.

L-BFGS (Nocedal and Wright 2006, algorithm 7.4) takes all strengths of all problems in step: they share the
matrix products, and leave once they have converged. Tens of iterations are enough because it starts from
the curvature c X^T X + l2 I, where c is the mean p (1 - p) at the current point: at most 1/4, as in the bound
of Boehning (1992), but far less once the rows are separated. How that is inverted depends on the rows:

- few (n <= D / 2): the problem moves into the span of the centred rows, where the optimum lies. Any
  factor of X X^T serves as rows: its eigenvectors, among which the curvature is diagonal, or, above some
  hundred rows, its Cholesky factor.
- many: the rows stay as they are.

Where the curvature is not diagonal, X^T X is replaced by its leading eigenvectors and the mean of the rest,
as in the Nystroem preconditioner (Frangella, Tropp and Udell 2023, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10
TOLERANCE, STUCK_TOLERANCE = 1e-9, 1e-6
"""Slope at which a problem has converged, relative to its objective; the looser one where rounding stops it first."""
MAX_ITERATIONS = 1000
MAX_HALVINGS = 30
SUFFICIENT_DECREASE = 1e-4
LEAST_CURVATURE = 1e-12
RANK, SKETCHED_ROWS = 64, 4096
"""Leading eigenvectors that precondition many rows, and the most rows they are estimated from."""
JITTER = 1e-13
"""Added to X X^T, relative to its trace, for it is singular; shifts F by about JITTER / strength at most."""


@dataclass(frozen=True)
class LogisticFit:
    """Optima of one problem at its S strengths."""

    weights: Tensor
    """(S, D, C); zero for a class without a row."""
    intercepts: Tensor
    """(S, C); -inf for a class without a row. Finite ones have mean 0."""
    objectives: Tensor
    """(S,) F at the optimum."""
    is_converged: Tensor
    """(S,) bool."""


def fit_logistic(
    features: Sequence[Tensor], labels: Sequence[Tensor], l2: Sequence[Tensor], n_classes: int
) -> list[LogisticFit]:
    """Solve J problems on the device of their features. They may differ in size, but are padded to the largest.

    Args:
        features: J times (n_j, D) float64, n_j >= 1; left as they are.
        labels: J times (n_j,) int64 in [0, C).
        l2: J times (S,) positive strengths, in the units of the objective above.
        n_classes: C >= 2.

    Returns:
        J fits, in order. One does not depend on the others beyond rounding.

    Source: module docstring.
    """
    fits: dict[int, LogisticFit] = {}
    alike: dict[tuple[int, bool], list[int]] = {}
    present = [torch.unique(own) for own in labels]
    for index, classes in enumerate(present):
        if len(classes) == 1:
            fits[index] = _one_class(features[index], int(classes), len(l2[index]), n_classes)
        else:
            alike.setdefault((len(classes), is_spanned(*features[index].shape)), []).append(index)
    for (n_present, _), members in alike.items():
        reduced = [_reduce(features[index]) for index in members]
        targets = [torch.searchsorted(present[index], labels[index]) for index in members]
        halved = 0.5 if n_present == 2 < n_classes else 1.0
        problem = _Problem(reduced, targets, torch.stack([l2[index] for index in members]) * halved, n_present)
        parameters, objectives, is_converged = _minimise(problem)
        for position, index in enumerate(members):
            own = _both_classes(parameters[position]) if n_present == 2 else parameters[position]
            weights, intercepts = _in_features(own, features[index], reduced[position])
            placed = present[index]
            all_weights = weights.new_zeros(*weights.shape[:2], n_classes)
            all_intercepts = intercepts.new_full((len(intercepts), n_classes), -torch.inf)
            all_weights[:, :, placed], all_intercepts[:, placed] = weights, intercepts
            fits[index] = LogisticFit(all_weights, all_intercepts, objectives[position], is_converged[position])
    return [fits[index] for index in range(len(features))]


def is_spanned(n_rows: int, dim: int) -> bool:
    """Whether a problem is solved in the span of its rows; there its matrices are (n, n), else (n, D)."""
    return 2 * n_rows <= dim


@dataclass(frozen=True)
class _Reduced:
    """One problem's centred rows in P coordinates, and what is known of their scatter matrix."""

    design: Tensor
    """(n, P)."""
    centre: Tensor
    """(D,)."""
    energies: Tensor
    """(P,) eigenvalues of design^T design; with `leading`, their mean outside its span."""
    leading: Tensor | None = None
    """(K, P) eigenvectors with the largest eigenvalues, where design^T design is not diagonal."""
    leading_energies: Tensor | None = None
    """(K,)."""


def _reduce(features: Tensor) -> _Reduced:
    """Move (n, D) rows to where their scatter matrix is easily inverted."""
    centre = features.mean(dim=0)
    centred = features - centre
    n_rows, dim = centred.shape
    if not is_spanned(n_rows, dim):
        return _Reduced(centred, centre, *_leading_eigenvectors(centred))
    gram = centred @ centred.T
    if n_rows > 2 * RANK:
        identity = torch.eye(n_rows, dtype=gram.dtype, device=gram.device)
        factor, failure = torch.linalg.cholesky_ex(gram + JITTER * gram.trace() * identity)
        if not failure:
            return _Reduced(factor, centre, *_leading_eigenvectors(factor))
    energies, vectors = torch.linalg.eigh(gram)
    kept = energies > energies[-1].clamp_min(torch.finfo(gram.dtype).tiny) * 1e-13
    return _Reduced(vectors[:, kept] * energies[kept].sqrt(), centre, energies[kept])


def _leading_eigenvectors(design: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(P,), (K, P) and (K,), see _Reduced, by one step of subspace iteration on a spread of the rows."""
    n_rows, dim = design.shape
    some = design[:: -(-n_rows // SKETCHED_ROWS)]
    start = torch.randn(min(RANK, dim), dim, generator=torch.Generator().manual_seed(0), dtype=design.dtype)
    basis, _ = torch.linalg.qr(((start.to(design.device) @ some.T) @ some).T)
    image = basis.T @ some.T
    energies, vectors = torch.linalg.eigh(image @ image.T)
    energies = energies.clamp_min(0.0) * (n_rows / len(some))
    rest = (design.square().sum() - energies.sum()).clamp_min(0.0) / max(1, dim - len(energies))
    return rest.expand(dim), (basis @ vectors).T, energies


def _in_features(parameters: Tensor, features: Tensor, reduced: _Reduced) -> tuple[Tensor, Tensor]:
    """(S, D, C) weights and (S, C) intercepts from (S, C, P + 1) parameters of the reduced problem."""
    n_strengths, n_classes, _ = parameters.shape
    own = parameters[..., : reduced.design.shape[1]].flatten(0, 1)
    if is_spanned(*features.shape):
        if reduced.leading is None:
            combined = (own / reduced.energies) @ reduced.design.T
        else:
            combined = torch.linalg.solve_triangular(reduced.design, own, upper=False, left=False)
        own = combined @ features - torch.outer(combined.sum(dim=1), reduced.centre)
    weights = own.view(n_strengths, n_classes, features.shape[1])
    intercepts = parameters[..., -1] - weights @ reduced.centre
    return weights.mT, intercepts - intercepts.mean(dim=1, keepdim=True)


def _both_classes(parameters: Tensor) -> Tensor:
    """(S, 2, P) from the (S, 1, P) of their difference."""
    return torch.cat([-0.5 * parameters, 0.5 * parameters], dim=1)


def _one_class(features: Tensor, label: int, n_strengths: int, n_classes: int) -> LogisticFit:
    """All probability to the only class."""
    intercepts = features.new_full((n_strengths, n_classes), -torch.inf)
    intercepts[:, label] = 0.0
    weights = features.new_zeros(n_strengths, features.shape[1], n_classes)
    objectives = features.new_zeros(n_strengths)
    return LogisticFit(weights, intercepts, objectives, torch.ones_like(objectives, dtype=torch.bool))


class _Problem:
    """J problems, padded, of which a rectangle of problems and strengths is still worked on.

    Parameters are (J, S, Q, P + 1), the intercept last, with Q = C or, for two classes, 1. They are rows, for
    matrix libraries multiply a few rows by a large matrix several times faster than a few columns.
    """

    def __init__(self, reduced: Sequence[_Reduced], targets: Sequence[Tensor], l2: Tensor, n_classes: int) -> None:
        n_rows, width = (max(own.design.shape[axis] for own in reduced) for axis in (0, 1))
        n_outputs = 1 if n_classes == 2 else n_classes
        n_jobs = len(reduced)
        self.design = l2.new_zeros(n_jobs, n_rows, width + 1)  # the last column is 1 for rows, 0 for padding
        self.targets = l2.new_zeros(n_jobs, 1, n_outputs, n_rows)
        self.energies = l2.new_zeros(n_jobs, 1, width + 1)
        self.l2 = l2[..., None].repeat(1, 1, width + 1)
        self.l2[..., -1] = 0.0
        for index, (own, classes) in enumerate(zip(reduced, targets, strict=True)):
            n_own, own_width = own.design.shape
            self.design[index, :n_own, :own_width] = own.design
            self.design[index, :n_own, -1] = 1.0
            self.energies[index, 0, :own_width] = own.energies
            self.energies[index, 0, -1] = n_own
            one_hot = torch.nn.functional.one_hot(classes, n_classes).T.to(l2.dtype)
            self.targets[index, 0, :, :n_own] = one_hot[1:] if n_classes == 2 else one_hot
        self.is_row = self.design[:, None, :, -1].clone()  # (J, 1, n)
        self.n_rows = self.is_row.sum(-1)  # (J, 1)
        self.leading, self.leading_energies = _stacked(reduced, width + 1)
        frequencies = self.targets.sum(-1) / self.n_rows[..., None]  # (J, 1, Q)
        prior = torch.logit(frequencies) if n_outputs == 1 else frequencies.log()
        self.start = l2.new_zeros(*l2.shape, n_outputs, width + 1)
        self.start[..., -1] = prior - prior.mean(-1, keepdim=True) * (n_outputs > 1)

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """Go on with some problems and some strengths, both bool masks."""
        self.l2 = self.l2[:, strengths]
        if bool(jobs.all()):
            return
        self.design, self.targets, self.energies = self.design[jobs], self.targets[jobs], self.energies[jobs]
        self.is_row, self.n_rows, self.l2 = self.is_row[jobs], self.n_rows[jobs], self.l2[jobs]
        self.leading, self.leading_energies = self.leading[jobs], self.leading_energies[jobs]

    def logits(self, parameters: Tensor) -> Tensor:
        """(J, S, Q, n)."""
        return (parameters.flatten(1, 2) @ self.design.mT).view(*parameters.shape[:3], self.design.shape[1])

    def objective(self, logits: Tensor, parameters: Tensor) -> Tensor:
        """(J, S) F."""
        if logits.shape[2] == 1:
            losses = torch.nn.functional.softplus((1.0 - 2.0 * self.targets) * logits, threshold=700.0)[:, :, 0]
        else:
            losses = torch.logsumexp(logits, dim=2) - (logits * self.targets).sum(2)
        return (losses * self.is_row).sum(-1) + 0.5 * (self.l2 * parameters.square().sum(2)).sum(-1)

    def gradient(self, logits: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(J, S, Q, P + 1), and the mean p (1 - p) over rows and classes, (J, S)."""
        probabilities = torch.sigmoid(logits) if logits.shape[2] == 1 else torch.softmax(logits, dim=2)
        residuals = (probabilities - self.targets).flatten(1, 2)  # padded rows of the design are zero
        gradient = (residuals @ self.design).view_as(parameters) + self.l2[:, :, None] * parameters
        variances = (probabilities * (1.0 - probabilities)).mean(2)
        return gradient, ((variances * self.is_row).sum(-1) / self.n_rows).clamp_min(LEAST_CURVATURE)

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """(curvature * scatter + l2)^-1 gradient."""
        rest = 1.0 / (curvature[..., None] * self.energies + self.l2)  # (J, S, P + 1)
        result = rest[:, :, None] * gradient
        if self.leading.shape[1]:
            exact = 1.0 / (curvature[..., None] * self.leading_energies + self.l2[..., :1])  # (J, S, K)
            inside = (gradient.flatten(1, 2) @ self.leading.mT).view(*gradient.shape[:3], -1)
            inside *= (exact - rest[..., :1])[:, :, None]
            result += (inside.flatten(1, 2) @ self.leading).view_as(gradient)
        return result


def _stacked(reduced: Sequence[_Reduced], width: int) -> tuple[Tensor, Tensor]:
    """(J, K, width) leading eigenvectors, padded with zeros, and (J, 1, K) eigenvalues; K = 0 without any."""
    rank = max(0 if own.leading is None else len(own.leading) for own in reduced)
    vectors = reduced[0].design.new_zeros(len(reduced), rank, width)
    energies = vectors.new_zeros(len(reduced), 1, rank)
    for index, own in enumerate(reduced):
        if own.leading is not None and own.leading_energies is not None:
            vectors[index, : len(own.leading), : own.leading.shape[1]] = own.leading
            energies[index, 0, : len(own.leading)] = own.leading_energies
    return vectors, energies


class _State:
    """Where the active rectangle of problems stands, and the curvature pairs of L-BFGS."""

    def __init__(self, problem: _Problem) -> None:
        self.current = problem.start
        self.logits = problem.logits(self.current)
        self.value = problem.objective(self.logits, self.current)
        self.gradient, self.curvature = problem.gradient(self.logits, self.current)
        self.is_done = torch.zeros_like(self.value, dtype=torch.bool)
        self.is_stuck = self.is_done.clone()
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """See _Problem."""
        for name, kept in vars(self).items():
            both = isinstance(kept, list)
            cut = [x[jobs][:, strengths] for x in (kept if both else [kept])]
            setattr(self, name, cut if both else cut[0])

    def move(self, problem: _Problem, direction: Tensor, slope: Tensor) -> None:
        """Backtrack from step 1 along a direction and remember what it told about the curvature."""
        length, self.logits, self.value = _search(problem, self, direction, slope)
        self.is_stuck = (length == 0.0) & ~self.is_done
        step = length[..., None, None] * direction
        self.current = self.current + step
        previous = self.gradient
        self.gradient, self.curvature = problem.gradient(self.logits, self.current)
        self.steps = [*self.steps, step][-HISTORY:]
        self.changes = [*self.changes, self.gradient - previous][-HISTORY:]


def _minimise(problem: _Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters (J, S, Q, P + 1), objectives (J, S) and whether they are optima (J, S)."""
    state = _State(problem)
    parameters, objectives = state.current.clone(), state.value.clone()
    is_converged = torch.zeros_like(state.is_done)
    jobs, strengths = (torch.arange(size, device=parameters.device) for size in objectives.shape)
    for iteration in range(MAX_ITERATIONS + 1):
        direction = _direction(problem, state)
        slope = (direction * state.gradient).sum((2, 3))
        is_optimum = -slope <= torch.where(state.is_stuck, STUCK_TOLERANCE, TOLERANCE) * state.value
        leaves = (is_optimum | state.is_stuck | (iteration == MAX_ITERATIONS)) & ~state.is_done
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
        state.move(problem, direction, slope)
    return parameters, objectives, is_converged


def _direction(problem: _Problem, state: _State) -> Tensor:
    """Down, by the two-loop recursion, for every problem at once. Pairs without curvature count as absent."""
    result = -state.gradient
    pairs = list(zip(state.steps, state.changes, strict=True))
    curvatures = [_dot(s, y) for s, y in pairs]
    inverses = [torch.where(c > 0, 1.0 / c.clamp_min(1e-300), 0.0) for c in curvatures]
    coefficients = []
    for (s, y), inverse in zip(reversed(pairs), reversed(inverses), strict=True):
        coefficient = inverse * _dot(s, result)
        coefficients.append(coefficient)
        result -= coefficient[..., None, None] * y
    result = problem.precondition(result, state.curvature)
    if pairs:
        length = _dot(state.changes[-1], problem.precondition(state.changes[-1], state.curvature))
        is_usable = (curvatures[-1] > 0) & (length > 0)
        result *= torch.where(is_usable, curvatures[-1] / length.clamp_min(1e-300), 1.0)[..., None, None]
    for (s, y), inverse, coefficient in zip(pairs, inverses, reversed(coefficients), strict=True):
        result += (coefficient - inverse * _dot(y, result))[..., None, None] * s
    return result


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(J, S) inner products of parameters."""
    products: Tensor = torch.linalg.vecdot(a.flatten(2), b.flatten(2))
    return products


def _search(problem: _Problem, state: _State, direction: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Step lengths (J, S), 0 where nothing is left to gain in floating point, and logits and F there.

    Logits are linear in the step, so a trial costs no matrix product.
    """
    along = problem.logits(direction)
    length = torch.where(state.is_done, 0.0, torch.ones_like(slope))
    for trial in range(MAX_HALVINGS + 2):
        logits = state.logits + length[..., None, None] * along
        value = problem.objective(logits, state.current + length[..., None, None] * direction)
        is_enough = (length == 0.0) | (value <= state.value + SUFFICIENT_DECREASE * length * slope)
        if bool(is_enough.all()):
            break
        length = torch.where(is_enough, length, 0.0 if trial >= MAX_HALVINGS else 0.5 * length)
    return length, logits, value
