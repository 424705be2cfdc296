"""Exact L2-regularised multinomial logistic regression: several problems, each along a path of strengths, at once.

A problem minimises, over weights W (D, C) and an unpenalised intercept b (C), for each of its strengths l2,

    F(W, b) = sum over its rows i of  -v_i log softmax(x_i W + b)[y_i]   +   l2 / 2 * ||W||^2

with weights v_i of 1 unless others are given,
which for C > 2 is scikit-learn's objective with C = 1 / l2. (For two classes scikit-learn penalises one
vector w = w_1 - w_0; the symmetric optimum here has ||W||^2 = ||w||^2 / 2, so l2 is doubled to agree.)
A class without a row gets no probability and the others are solved without it. Where two are left, one
vector stands for both, which halves the work.

Labels that do not exclude each other are binary problems on the same rows: their targets t from 0 to 1 and weights lie
beside the strengths, so that one product with the rows serves all of them. There F is scikit-learn's for two classes,

    F(w, b) = sum over i of  v_i (t_i log(1 + exp(-z_i)) + (1 - t_i) log(1 + exp(z_i)))  +  l2 / 2 * ||w||^2

with z = x w + b.

L-BFGS takes all strengths of all problems near the optimum in step, see `minimise`, and Newton's method to it, see
`newton`. Two classes of more than `LARGEST_GROUPED` rows with a Gram matrix come there in one subspace for all
strengths, see `krylov`. What they multiply by depends on the rows:

- few (n <= D): their Gram matrix K = X X^T. The optimum lies in their span (Schoelkopf, Herbrich and Smola
  2001), W = X^T A, and inner products of weights are u^T K v. An iteration takes one product with K, for the
  residuals; the images of all else follow. Features are not needed, so that one Gram matrix of all rows serves
  every problem among them.
- many: the rows themselves, twice an iteration, turned onto the axes of their scatter matrix.

Tens of iterations are enough because it starts from the curvature c X^T X + l2 I, where c is the mean p (1 - p)
at the current point: at most 1/4, as in the bound of Boehning (1992), but far less once the rows are
separated. Along its axes X^T X is diagonal; for a Gram matrix it is replaced by its leading eigenvectors and the
mean of the rest, as in the Nystroem preconditioner (Frangella, Tropp and Udell 2023, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from dvme.heads.exact.krylov import minimise_together
from dvme.heads.exact.logistic_problem import FromGram, FromGramAlone, FromRows, LogisticProblem
from dvme.heads.exact.minimise import minimise
from dvme.heads.exact.newton import polish
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

LARGEST_GROUPED = 512
"""Rows of the largest problem that shares a batch with others; larger ones fill the cores alone."""
ANY = -1
"""In place of a problem's number: it goes together with others."""
NULL = 1e-15
"""Eigenvalues of a Gram matrix, relative to the largest, that are rounding."""


@dataclass(frozen=True)
class LogisticFit:
    """Optima of one problem at its S strengths."""

    weights: Tensor
    """(S, D, C); zero for a class without a row. From a Gram matrix: A (S, n, C), its columns sum to 0. One column for
    C = 1, and where classes are in order."""
    intercepts: Tensor
    """(S, C); -inf for a class without a row. Finite ones have mean 0, but for C = 1. Of classes in order (S, C - 1),
    see `cumulative.fit_cumulative`."""
    objectives: Tensor
    """(S,) F at the optimum."""
    is_converged: Tensor
    """(S,) bool."""


def fit_logistic(
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    l2: Sequence[Tensor],
    n_classes: int,
    weights: Sequence[Tensor] | None = None,
    *,
    solve: Callable[..., list[LogisticFit]] | None = None,
) -> list[LogisticFit]:
    """Solve J problems on the device of their features. They may differ in size, but are padded to the largest.

    Args:
        features: J times (n_j, D) float64, n_j >= 1; left as they are.
        labels: J times (n_j,) int64 in [0, C). For C = 1 (S, n_j) float64 targets of a binary problem at each strength.
        l2: J times (S,) positive strengths, in the units of the objective above.
        n_classes: C >= 2, or 1: a column is one label's logit.
        weights: J times (n_j,) above 0; None: 1. For C = 1 (S, n_j): 0 where a row is not of the problem.
        solve: another objective's optimum, see `cumulative.fit_cumulative`; None: that of the module docstring.

    Returns:
        J fits, in order. One does not depend on the others beyond rounding.

    Source: module docstring.
    """
    weights = weights or [torch.ones_like(rows[:, 0]) for rows in features]
    solve = solve or _fit
    fits: dict[int, LogisticFit] = {}
    for is_few in (True, False):
        members = [index for index, rows in enumerate(features) if is_spanned(*rows.shape) == is_few]
        centres = [features[index].mean(dim=0) for index in members]
        centred = [features[index] - centre for index, centre in zip(members, centres, strict=True)]
        own = (
            [labels[index] for index in members],
            [l2[index] for index in members],
            n_classes,
            [weights[index] for index in members],
        )
        if is_few:
            raw = fit_from_gram([rows @ rows.T for rows in centred], *own, solve=solve)
            raw = [replace(fit, weights=rows.T @ fit.weights) for fit, rows in zip(raw, centred, strict=True)]
        else:
            bases = [torch.linalg.eigh(rows.T @ rows).eigenvectors for rows in centred]
            turned = [rows @ basis for rows, basis in zip(centred, bases, strict=True)]
            raw = solve(FromRows, turned, *own)
            raw = [replace(fit, weights=basis @ fit.weights) for fit, basis in zip(raw, bases, strict=True)]
        for index, centre, fit in zip(members, centres, raw, strict=True):
            fits[index] = _with_intercepts(fit, fit.intercepts - centre @ fit.weights)
    return [fits[index] for index in range(len(features))]


def fit_from_gram(
    grams: Sequence[Tensor],
    labels: Sequence[Tensor],
    l2: Sequence[Tensor],
    n_classes: int,
    weights: Sequence[Tensor] | None = None,
    *,
    means: Sequence[Tensor] | None = None,
    solve: Callable[..., list[LogisticFit]] | None = None,
) -> list[LogisticFit]:
    """The same from inner products of rows: logits of a row are its products with the n_j rows times A, plus b.

    `grams` are J times (n_j, n_j) float64, positive semi-definite; of rows with any origin, the nearer to their mean
    the more exact. With `means` they are centred already: J times (n_j,) means of the columns before. The other
    arguments are those of `fit_logistic`.

    Returns:
        J fits, in order, with A for weights: those of the features are X^T A.

    Source: module docstring.
    """
    weights = weights or [torch.ones_like(gram[0]) for gram in grams]
    solve = solve or _fit
    centred = grams
    if means is None:
        means = [gram.mean(dim=0) for gram in grams]
        centred = [(gram - mean).sub_((mean - mean.mean())[:, None]) for gram, mean in zip(grams, means, strict=True)]
    raw = solve(FromGram, centred, labels, l2, n_classes, weights)
    for index, fit in enumerate(raw):
        if not bool(fit.is_converged.all()):
            own = [labels[index]], [l2[index]], n_classes, [weights[index]]
            raw[index] = _factored(centred[index], partial(solve, FromRows), *own)
    fits = []
    for fit, mean in zip(raw, means, strict=True):
        coefficients = fit.weights - fit.weights.mean(dim=1, keepdim=True)
        fits.append(_with_intercepts(replace(fit, weights=coefficients), fit.intercepts - mean @ coefficients))
    return fits


def _factored(gram: Tensor, solve: Callable[..., list[LogisticFit]], *own: object) -> LogisticFit:
    """From rows that have this Gram matrix, where coefficients of it lose their digits.

    Coefficients that its null space takes to 0, as of rows that are there twice, or of all but one that is far out, are
    in no inner product, and rounding makes them grow.
    """
    energies, vectors = torch.linalg.eigh(gram)
    is_kept = energies > NULL * energies[-1]
    lengths, vectors = energies[is_kept].sqrt(), vectors[:, is_kept]
    (fit,) = solve([vectors * lengths], *own)
    return replace(fit, weights=(vectors / lengths) @ fit.weights)


def is_spanned(n_rows: int, dim: int) -> bool:
    """Whether a problem is solved from the Gram matrix of its rows, (n, n), else from the rows, (n, D)."""
    return n_rows <= dim


def _with_intercepts(fit: LogisticFit, intercepts: Tensor) -> LogisticFit:
    """Their mean tells nothing, for a shift of all changes no probability: made 0. Of one column of weights it does."""
    if fit.weights.shape[2] == 1:
        return replace(fit, intercepts=intercepts)
    is_present = intercepts.isfinite()
    mean = torch.where(is_present, intercepts, 0.0).sum(1, keepdim=True) / is_present.sum(1, keepdim=True)
    return replace(fit, intercepts=intercepts - mean)


def _fit(
    kind: type[LogisticProblem],
    matrices: Sequence[Tensor],
    labels: Sequence[Tensor],
    l2: Sequence[Tensor],
    n_classes: int,
    weights: Sequence[Tensor],
) -> list[LogisticFit]:
    """Fits to centred matrices, with weights for their columns. Problems with as many classes go together.

    A large Gram matrix of two classes is solved alone, for all strengths in one subspace.
    """
    if n_classes == 1:
        return _fit_binary(kind, matrices, [own[:, None] for own in labels], l2, weights)
    fits: dict[int, LogisticFit] = {}
    alike: dict[tuple[int, int], list[int]] = {}
    present = [torch.unique(own) for own in labels]
    for index, classes in enumerate(present):
        is_alone = kind is FromGram and len(classes) == 2 and len(labels[index]) > LARGEST_GROUPED
        alike.setdefault((len(classes), index if is_alone else ANY), []).append(index)
    for (n_present, alone), members in alike.items():
        if n_present == 1:
            fits |= {index: _one_class(matrices[index], present[index], l2[index], n_classes) for index in members}
            continue
        places = [torch.searchsorted(present[index], labels[index]) for index in members]
        one_hot = [torch.nn.functional.one_hot(own, n_present).T.to(l2[0].dtype) for own in places]
        targets = [own[None, 1:] if n_present == 2 else own[None] for own in one_hot]
        halved = 0.5 if n_present == 2 < n_classes else 1.0
        strengths = torch.stack([l2[index] for index in members]) * halved
        own_matrices, own_weights = ([each[index] for index in members] for each in (matrices, weights))
        problem = (kind if alone == ANY else FromGramAlone)(own_matrices, targets, own_weights, strengths)
        near = minimise_together(problem) if isinstance(problem, FromGramAlone) else minimise(copy(problem))
        optima = polish(problem, near)
        for position, index in enumerate(members):
            own = optima.parameters[position, :, 0]  # (S, Q, P + 1)
            own = torch.cat([-0.5 * own, 0.5 * own], dim=1) if n_present == 2 else own
            fit = _one_class(matrices[index], present[index][:1], l2[index], n_classes)
            fit.weights[:, :, present[index]] = own[..., : matrices[index].shape[1]].mT
            fit.intercepts[:, present[index]] = own[..., -1]
            reached = {"objectives": optima.objectives[position], "is_converged": optima.is_converged[position]}
            fits[index] = replace(fit, **reached)
    return [fits[index] for index in range(len(matrices))]


def _fit_binary(
    kind: type[LogisticProblem],
    matrices: Sequence[Tensor],
    targets: Sequence[Tensor],
    l2: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> list[LogisticFit]:
    """Of (S, 1, n) targets, each with a strength and weights of its own."""
    if not matrices:
        return []
    problem = kind(matrices, targets, weights, torch.stack(list(l2)))
    optima = polish(copy(problem), minimise(problem))
    found = zip(matrices, optima.parameters[:, :, 0], optima.objectives, optima.is_converged, strict=True)
    return [
        LogisticFit(own[..., : matrix.shape[1]].mT, own[..., -1], objectives, is_converged)
        for matrix, own, objectives, is_converged in found
    ]


def _one_class(matrix: Tensor, label: Tensor, l2: Tensor, n_classes: int) -> LogisticFit:
    """All probability to the only class, (1,)."""
    intercepts = matrix.new_full((len(l2), n_classes), -torch.inf)
    intercepts[:, label] = 0.0
    weights = matrix.new_zeros(len(l2), matrix.shape[1], n_classes)
    objectives = matrix.new_zeros(len(l2))
    return LogisticFit(weights, intercepts, objectives, torch.ones_like(objectives, dtype=torch.bool))
