"""Two classes from a Gram matrix, at all strengths in one subspace that grows by their gradients.

For weights X^T a the gradient of a strength in the metric of K is v (p - t) + l2 a, see logistic_problem.py. All
strengths begin with the same one, and what they need later differs little. So their coefficients a are sought in one
basis. It gains the gradients of all strengths that are not at their optimum, less what it has of them, for one product
with K. As it is orthonormal in the metric of K, a problem in the basis is a logistic regression on tens of columns, K
times the basis, with the penalty l2 / 2 ||c||^2 on coordinates c. Newton's method solves that, with a Hessian that
holds until logits have moved by `STALE`: up to there, p (1 - p) stays within a factor of exp(STALE).

For linear equations this is the block Krylov method for all shifts of a matrix. It takes half the products of L-BFGS
with a preconditioner, and finds no eigenvectors beforehand.

Source: Lampe, Reichel and Voss 2012, section 3, for one Tikhonov problem; Voss 2004 for the nonlinear step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.heads.exact.logistic_problem import LEAST_ENERGY, RANK, times
from dvme.heads.exact.minimise import SUFFICIENT_DECREASE, Optima
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dvme.heads.exact.logistic_problem import FromGramAlone
else:
    torch = deferred("torch")

TOLERANCE = 1e-15
"""Squared Newton decrement of a strength in the basis with its own gradient, relative to its objective, at which it
leaves: what is left is less, and `newton.polish` goes on from there."""
MAX_DIMENSION = 256
"""Of the basis. A strength that needs more is left to `newton.polish`."""
ALIKE = 1e-5
"""Eigenvalues of the inner products of new directions, relative to the largest, that are not worth a product with K."""
ROUNDING = 1e-8
"""Length of a direction without what the basis has of it that is rounding."""
RISE = 1e-13
"""Of an objective, relative to it, that is rounding."""
STALE = 0.1
MAX_STEPS, MAX_HALVINGS = 20, 30
LEFT = 0.1
"""Part of the squared decrement in a basis that is left there, for the basis is not the last."""


def minimise_together(problem: FromGramAlone) -> Optima:
    """Come to the optimum at every strength of a single problem with one set of targets, of two classes.

    Leaves the problem as it is but for its preconditioner, which takes the eigenvectors of K from the basis.

    Returns:
        What `newton.polish` goes on from; `is_converged` where the last gradient brought next to nothing.

    Source: module docstring.
    """
    state = _Subspace(problem)
    while state.n_basis < state.most and state.grow():
        state.solve()
    problem.take_leading(*state.eigenvectors())
    return state.optima()


class _Subspace:
    """The basis of S strengths, and where they stand in it."""

    def __init__(self, problem: FromGramAlone) -> None:
        self.gram, self.l2 = problem.matrix[0], problem.l2[0]
        self.targets, self.weights = problem.targets[0, 0, 0], problem.weights[0, 0]
        self.signs = 1.0 - 2.0 * self.targets
        self.trace = self.gram.trace()
        n_strengths, n_rows = len(self.l2), len(self.gram)
        self.most = min(n_rows, MAX_DIMENSION)
        capacity = self.most + n_strengths
        self.n_basis = 0
        self.n_known = 0
        """Vectors of the basis that are in the Hessians."""
        self.basis = self.gram.new_empty(capacity, n_rows)
        """Coefficients of rows, orthonormal in the metric of K; the first `n_basis` count."""
        self.columns = self.gram.new_empty(1 + capacity, n_rows)
        self.columns[0] = 1.0
        """Of the problems in the basis: 1 for the intercept, then K times each vector of the basis."""
        self.parameters = self.gram.new_zeros(n_strengths, 1 + capacity)
        self.parameters[:, 0] = problem.start[0, :, 0, 0, -1]
        self.logits = self.parameters[:, :1].expand(-1, n_rows).clone()
        self.values = self._values(self.logits, self.parameters, self.l2)
        self.hessians = self.gram.new_zeros(n_strengths, 1 + capacity, 1 + capacity)
        self.variances = torch.zeros_like(self.logits)
        """v p (1 - p) of the Hessians."""
        self.known_logits = torch.full_like(self.logits, torch.inf)
        """At which they were computed."""
        self.is_done = torch.zeros_like(self.values, dtype=torch.bool)

    def grow(self) -> bool:
        """Add to the basis what the gradients of the strengths at work bring; False where that is nothing."""
        basis, images = self.basis[: self.n_basis], self.columns[1 : 1 + self.n_basis]
        busy = (~self.is_done).nonzero()[:, 0]
        inside = self.parameters[busy, 1 : 1 + self.n_basis] @ basis
        new = self._residuals(self.logits[busy]) + self.l2[busy, None] * inside
        new = new[new.isfinite().all(1)]
        new = new / torch.linalg.vector_norm(new, dim=1, keepdim=True).clamp_min(1e-300)
        new -= (new @ images.T) @ basis
        new = new[torch.linalg.vector_norm(new, dim=1) > ROUNDING]
        if not len(new):
            return False
        new = new / torch.linalg.vector_norm(new, dim=1, keepdim=True)
        squares, vectors = torch.linalg.eigh(new @ new.T)
        is_new = squares > ALIKE * squares[-1]
        new = (vectors[:, is_new] / squares[is_new].sqrt()).T @ new
        image = times(new, self.gram.T)  # symmetric, and faster read by rows
        if not bool(image.isfinite().all()):
            return False
        twice = image @ basis.T
        new, image = new - twice @ basis, image - twice @ images
        energies, vectors = torch.linalg.eigh(new @ image.T)
        is_new = energies > LEAST_ENERGY * self.trace
        turn = (vectors[:, is_new] / energies[is_new].sqrt()).T
        first, self.n_basis = self.n_basis, self.n_basis + len(turn)
        torch.mm(turn, new, out=self.basis[first : self.n_basis])
        torch.mm(turn, image, out=self.columns[1 + first : 1 + self.n_basis])
        return len(turn) > 0

    def solve(self) -> None:
        """Newton's method in the basis, for all strengths at work; those to which it brought next to nothing leave."""
        todo = (~self.is_done).nonzero()[:, 0]
        first = None
        for _ in range(MAX_STEPS):
            self._renew_hessians(todo, self.n_known)
            self.n_known = self.n_basis
            step, along, decrement = self._newton_step(todo)
            least = TOLERANCE * self.values[todo]
            if first is None:
                first = decrement
                self.is_done[todo] = ~(decrement > least)
            drift = (self.logits[todo] - self.known_logits[todo]).abs().amax(1) + along.abs().amax(1)
            size = self._move(todo, step, along, decrement)
            left = torch.where(size == 1.0, drift.square().clamp_max(1.0), 1.0) * decrement
            self.is_done[todo] |= size == 0.0
            goes_on = (size > 0.0) & (left > torch.maximum(LEFT * first, least))
            if not bool(goes_on.any()):
                break
            todo, first = todo[goes_on], first[goes_on]

    def eigenvectors(self) -> tuple[Tensor, Tensor]:
        """As `FromGram.leading_eigenvectors`: the basis's best ones."""
        basis, images = self.basis[: self.n_basis], self.columns[1 : 1 + self.n_basis]
        energies, vectors = torch.linalg.eigh(images @ images.T)
        leading = vectors[:, -RANK:].T
        return torch.stack([leading @ basis, leading @ images], dim=1), energies[-RANK:]

    def optima(self) -> Optima:
        """Where the strengths are."""
        inside = self.parameters[:, 1 : 1 + self.n_basis]
        basis, images = self.basis[: self.n_basis], self.columns[1 : 1 + self.n_basis]
        both = torch.stack([inside @ basis, inside @ images], dim=1)  # (S, 2, n)
        intercepts = self.parameters[:, None, :1].expand(-1, 2, -1)
        parameters = torch.cat([both, intercepts], dim=2)[None, :, :, None]
        return Optima(parameters, self.values[None], self.is_done[None])

    def _renew_hessians(self, todo: Tensor, n_known: int) -> None:
        """Compute those that are stale; into the others take the basis's vectors from the one at `n_known`."""
        size = 1 + self.n_basis
        columns = self.columns[:size]
        is_stale = (self.logits[todo] - self.known_logits[todo]).abs().amax(1) > STALE
        for strength, first in zip(todo.tolist(), torch.where(is_stale, 0, 1 + n_known).tolist(), strict=True):
            if first == size:
                continue
            if first == 0:
                probabilities = torch.sigmoid(self.logits[strength])
                self.variances[strength] = self.weights * probabilities * (1.0 - probabilities)
                self.known_logits[strength] = self.logits[strength]
            block = (columns[first:] * self.variances[strength]) @ columns.T
            hessian = self.hessians[strength]
            hessian[:size, first:size], hessian[first:size, :size] = block.T, block
            hessian.diagonal()[max(first, 1) : size] += self.l2[strength]

    def _newton_step(self, todo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(s, 1 + M) steps, (s, n) their logits, and (s,) squared decrements; 0 where there is none."""
        size = 1 + self.n_basis
        gradient = self._residuals(self.logits[todo]) @ self.columns[:size].T
        gradient[:, 1:] += self.l2[todo, None] * self.parameters[todo, 1:size]
        factor, failed = torch.linalg.cholesky_ex(self.hessians[todo, :size, :size])
        step = torch.cholesky_solve(-gradient[..., None], factor)[..., 0]
        is_sound = (failed == 0) & step.isfinite().all(1)
        step = torch.where(is_sound[:, None], step, 0.0)
        return step, step @ self.columns[:size], -torch.linalg.vecdot(step, gradient)

    def _move(self, todo: Tensor, step: Tensor, along: Tensor, decrement: Tensor) -> Tensor:
        """Take (s,) parts of the steps, which are returned: 0 where none comes down."""
        logits, parameters = self.logits[todo], self.parameters[todo, : step.shape[1]]
        level, size = self.values[todo], torch.ones_like(decrement)
        for trial in range(MAX_HALVINGS + 2):
            moved, at = logits + size[:, None] * along, parameters + size[:, None] * step
            values = self._values(moved, at, self.l2[todo])
            is_lower = values <= level * (1.0 + RISE) - SUFFICIENT_DECREASE * size * decrement
            is_enough = is_lower | (size == 0.0)
            if bool(is_enough.all()):
                break
            size = torch.where(is_enough, size, 0.0 if trial >= MAX_HALVINGS else 0.5 * size)
        self.logits[todo], self.parameters[todo, : step.shape[1]], self.values[todo] = moved, at, values
        return size

    def _residuals(self, logits: Tensor) -> Tensor:
        return self.weights * (torch.sigmoid(logits) - self.targets)

    def _values(self, logits: Tensor, parameters: Tensor, l2: Tensor) -> Tensor:
        losses = torch.nn.functional.softplus(self.signs * logits, threshold=700.0) @ self.weights
        return losses + 0.5 * l2 * parameters[:, 1:].square().sum(1)
