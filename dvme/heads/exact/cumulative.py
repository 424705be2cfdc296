"""Classes in order by one score: proportional odds with an L2 penalty, for several problems and strengths at once.

The cuts b_0 > b_1 > ... lie between the classes. With z = x w,

    P(y > k) = sigmoid(z + b_k),

and a problem minimises, for each of its strengths l2,

    F(w, b) = sum over its rows i of  -v_i log P(y_i)  +  l2 / 2 * ||w||^2.

Of two classes that is logistic regression. As sigmoid(a) - sigmoid(e) = sigmoid(a) sigmoid(-e) (1 - exp(e - a)), a row
of class k costs

    log(1 + exp(-(z + b_{k-1}))) + log(1 + exp(z + b_k)) - log(1 - exp(-(b_{k-1} - b_k))):

two binary losses, at the cuts beside its class, and what keeps these apart, which is the same for all rows of a class.
F is convex where the cuts are in order, and infinite where two of them meet. So nothing has to be parametrised anew.

Source: McCullagh 1980 for the model; Pratt 1981 for its convexity.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.exact.logistic import LogisticFit
from dvme.heads.exact.logistic_problem import LEAST_CURVATURE, LogisticProblem
from dvme.heads.exact.minimise import Problem, minimise
from dvme.heads.exact.newton import polish
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


def fit_cumulative(
    kind: type[LogisticProblem],
    matrices: Sequence[Tensor],
    labels: Sequence[Tensor],
    l2: Sequence[Tensor],
    n_classes: int,
    weights: Sequence[Tensor],
) -> list[LogisticFit]:
    """Solve J problems from centred rows or their Gram matrices; those with as many classes go together.

    Args:
        kind: what is multiplied by.
        matrices: J times (n_j, P) float64, as `kind` takes them.
        labels: J times (n_j,) int64 in [0, C), in their order.
        l2: J times (S,) positive strengths.
        n_classes: C >= 2.
        weights: J times (n_j,) above 0.

    Returns:
        J fits with weights (S, P, 1) and intercepts (S, C - 1), the cuts. Around a class without a row they are equal,
        or infinite, and it gets no probability.
    """
    fits: dict[int, LogisticFit] = {}
    alike: dict[int, list[int]] = {}
    present = [torch.unique(own) for own in labels]
    for index, classes in enumerate(present):
        alike.setdefault(len(classes), []).append(index)
    for n_present, members in alike.items():
        own = [matrices[index] for index in members]
        strengths = torch.stack([l2[index] for index in members])
        if n_present == 1:
            cuts = strengths.new_zeros(*strengths.shape, 0)
            parameters = [each.new_zeros(strengths.shape[1], each.shape[1]) for each in own]
            objectives, is_converged = torch.zeros_like(strengths), torch.ones_like(strengths, dtype=torch.bool)
        else:
            grades = [torch.searchsorted(present[index], labels[index]) for index in members]
            problem = CumulativeProblem(kind, own, grades, [weights[index] for index in members], strengths)
            optima = polish(copy(problem), minimise(problem))
            cuts, found = optima.parameters[:, :, 0, 0, 1 - n_present :], optima.parameters[:, :, 0, 0]
            parameters = [each[:, : matrix.shape[1]] for each, matrix in zip(found, own, strict=True)]
            objectives, is_converged = optima.objectives, optima.is_converged
        for position, index in enumerate(members):
            fits[index] = LogisticFit(
                parameters[position][..., None],
                _between_all(cuts[position], present[index], n_classes),
                objectives[position],
                is_converged[position],
            )
    return [fits[index] for index in range(len(matrices))]


def cumulative_log_proba(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(B, C) log probabilities of classes from (B, C - 1) log odds of being above each, which fall along a row.

    Of a class whose two are equal: -inf.
    """
    from scipy.special import log_expit

    ends = np.full((len(logits), 1), np.inf)
    above, beyond = np.hstack([ends, logits]), np.hstack([logits, -ends])
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = np.where(above == beyond, 0.0, above - beyond)  # inf - inf
        logs: NDArray[np.float64] = log_expit(above) + log_expit(-beyond) + np.log(-np.expm1(-gaps))
    return np.where(gaps > 0.0, logs, -np.inf)


class CumulativeProblem(Problem):
    """J problems, padded, of K + 1 classes that all have rows. Parameters are w (P,), then the cuts (K,).

    What is called logits has along its last axis z + b below each row's class (n,), z + b above it (n,), and the gaps
    between neighbouring cuts (K - 1,). There is no cut below the first class, nor above the last.
    """

    def __init__(
        self,
        kind: type[LogisticProblem],
        matrices: Sequence[Tensor],
        grades: Sequence[Tensor],
        weights: Sequence[Tensor],
        l2: Tensor,
    ) -> None:
        """J times (n, P), (n,) from 0 to K, and (n,)."""
        halves = [torch.full_like(own, 0.5)[None, None] for own in weights]
        self.inner = kind(matrices, halves, [own[None] for own in weights], l2)
        """What multiplies and preconditions; its own intercept stays 0."""
        n_jobs, _, n_rows = self.inner.weights.shape
        self.n_cuts = int(grades[0].max())
        self.below, self.above = (l2.new_zeros(n_jobs, self.n_cuts, n_rows) for _ in range(2))
        for index, own in enumerate(grades):
            one_hot = torch.nn.functional.one_hot(own, self.n_cuts + 1).T.to(l2.dtype)
            self.below[index, :, : len(own)], self.above[index, :, : len(own)] = one_hot[1:], one_hot[:-1]
        counts = self.below @ self.inner.weights.mT  # (J, K, 1)
        self.between = counts[:, None, :-1, 0]
        """(J, 1, K - 1) weights of the rows between two cuts."""
        self.apart = torch.eye(self.n_cuts, dtype=l2.dtype)[:-1] - torch.eye(self.n_cuts, dtype=l2.dtype)[1:]
        """(K - 1, K) takes cuts to gaps."""
        higher = counts[..., 0].flip(-1).cumsum(-1).flip(-1) / self.inner.weights.sum(-1)
        self.start = torch.nn.functional.pad(torch.zeros_like(self.inner.start), (0, self.n_cuts - 1))
        self.start[..., -self.n_cuts :] = torch.logit(higher)[:, None, None, None]

    def __copy__(self) -> CumulativeProblem:
        """Of which the one may be used up, and the other kept."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), inner=copy(self.inner))
        return other

    def keep(self, jobs: Tensor, strengths: Tensor) -> None:
        """See Problem."""
        self.inner.keep(jobs, strengths)
        if not bool(jobs.all()):
            self.below, self.above, self.between = (each[jobs] for each in (self.below, self.above, self.between))

    def renewed(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        cuts = parameters[:, :, :1, :, -self.n_cuts :].expand(-1, -1, parameters.shape[2], -1, -1)
        return torch.cat([self.inner.renewed(self._plain(parameters))[..., :-1], cuts], dim=-1)

    def logits(self, parameters: Tensor) -> Tensor:
        """See Problem."""
        cuts, scores = parameters[:, :, 0, 0, -self.n_cuts :], self.inner.logits(self._plain(parameters))[:, :, 0]
        sides = [scores + cuts @ self.below, scores + cuts @ self.above, cuts @ self.apart.T]
        return torch.cat(sides, dim=-1)[:, :, None]

    def objective(self, logits: Tensor, parameters: Tensor) -> Tensor:
        """See Problem; nan where cuts are out of order."""
        below, above, gaps = self._split(logits)
        softplus = torch.nn.functional.softplus
        losses = softplus(-below, threshold=700.0) * self._has(self.below)
        losses = losses + softplus(above, threshold=700.0) * self._has(self.above)
        weights = parameters[..., : -self.n_cuts]
        squares = torch.linalg.vecdot(weights[:, :, 0, 0], weights[:, :, -1, 0])
        barrier = -(self.between * torch.log(-torch.expm1(-gaps))).sum(-1)
        value: Tensor = (losses * self.inner.weights).sum(-1) + barrier + 0.5 * self.inner.l2 * squares
        return value

    def gradient(self, logits: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See Problem; the mean curvature over rows, times their weights, then the (K, K) Hessian of the cuts."""
        below, above, gaps = self._split(logits)
        sides = -torch.sigmoid(-below) * self._has(self.below), torch.sigmoid(above) * self._has(self.above)
        gradient = self._ascent(sides, -self.between / torch.expm1(gaps), parameters)
        own = self._split(self.probabilities(logits))
        per_row = ((own[0] + own[1]).sum(-1) / self.inner.n_rows).clamp_min(LEAST_CURVATURE)
        of_cuts = torch.diag_embed(own[0] @ self.below.mT + own[1] @ self.above.mT + LEAST_CURVATURE)
        of_cuts = of_cuts + self.apart.T @ (own[2][..., None] * self.apart)
        return gradient, torch.cat([per_row[..., None], of_cuts.flatten(2)], dim=-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """See Problem: second derivatives by the logits, times weights."""
        below, above, gaps = self._split(logits)
        bends = [torch.sigmoid(each) * torch.sigmoid(-each) * self.inner.weights for each in (below, above)]
        bends = [bends[0] * self._has(self.below), bends[1] * self._has(self.above)]
        # exp(g) / expm1(g)^2
        return torch.cat([*bends, self.between / (torch.expm1(gaps) * -torch.expm1(-gaps))], dim=-1)[:, :, None]

    def hessian(self, probabilities: Tensor, direction: Tensor, along: Tensor) -> Tensor:
        """See Problem."""
        bend, change = self._split(probabilities), self._split(along)
        return self._ascent(
            (bend[0] * change[0], bend[1] * change[1]), bend[2] * change[2], direction, is_weighted=True
        )

    def precondition(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See Problem: weights and cuts apart."""
        weights = self.inner.precondition(self._plain(gradient), curvature[..., 0])[..., :-1]
        cuts = self._solved(gradient, curvature)[:, :, None, None]
        return torch.cat([weights, cuts.expand(-1, -1, weights.shape[2], -1, -1)], dim=-1)

    def preconditioned_length(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """See Problem."""
        length = self.inner.preconditioned_length(self._plain(gradient), curvature[..., 0])
        return length + (gradient[:, :, 0, 0, -self.n_cuts :] * self._solved(gradient, curvature)).sum(-1)

    def _solved(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """(J, S, K) a gradient's cuts over their Hessian."""
        of_cuts = curvature[..., 1:].reshape(*curvature.shape[:2], self.n_cuts, self.n_cuts)
        solved: Tensor = torch.linalg.solve(of_cuts, gradient[:, :, 0, 0, -self.n_cuts :])
        return solved

    def _ascent(
        self, sides: tuple[Tensor, Tensor], of_gaps: Tensor, parameters: Tensor, *, is_weighted: bool = False
    ) -> Tensor:
        """(J, S, I, 1, P + K) from the derivatives by all logits."""
        below, above = sides if is_weighted else (each * self.inner.weights for each in sides)
        weights = self.inner.backward((below + above)[:, :, None], self._plain(parameters))
        cuts = (below @ self.below.mT + above @ self.above.mT + of_gaps @ self.apart)[:, :, None, None]
        return torch.cat([weights, cuts.expand(-1, -1, weights.shape[2], -1, -1)], dim=-1)

    def _plain(self, parameters: Tensor) -> Tensor:
        """(J, S, I, 1, P + 1) with an intercept of 0, as `inner` takes them."""
        return torch.nn.functional.pad(parameters[..., : -self.n_cuts], (0, 1))

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(J, S, n) of the cuts below, of those above, and (J, S, K - 1) gaps."""
        n_rows = self.below.shape[-1]
        own = logits[:, :, 0]
        return own[..., :n_rows], own[..., n_rows : 2 * n_rows], own[..., 2 * n_rows :]

    def _has(self, cuts: Tensor) -> Tensor:
        """(J, 1, n) whether a row has one of (J, K, n) cuts."""
        return cuts.sum(1, keepdim=True)


def _between_all(cuts: Tensor, present: Tensor, n_classes: int) -> Tensor:
    """(S, C - 1) cuts between all classes, from (S, K) between the K + 1 that are present."""
    ends = cuts.new_full((len(cuts), 1), torch.inf)
    known = torch.cat([ends, cuts, -ends], dim=1)
    return known[:, torch.searchsorted(present, torch.arange(n_classes - 1), right=True)]
