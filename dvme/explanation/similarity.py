"""How alike the embeddings of two backbones are: linear centred kernel alignment.

For centred X (N, D) and Y (N, E), linear CKA is |X'Y|^2 / (|X'X| |Y'Y|) in Frobenius norms: 1 if one is a rotation and
a rescaling of the other. It is biased upwards when there are few samples for the dimensions: any two embeddings
of N << D samples come out near 1. The debiased form takes unbiased estimates in all three places and is near 0 for
independent embeddings, at times below it.

For centred features the unbiased estimate needs no more than the same |X'Y|^2, as the rows of the Gram matrix X X' sum
to 0. With d_i = |x_i|^2 and e_i = |y_i|^2 on the diagonals,

    N (N - 3) HSIC_1 = |X'Y|^2 - N / (N - 2) sum_i d_i e_i + (sum_i d_i) (sum_i e_i) / ((N - 1) (N - 2))

Source: Kornblith et al. 2019, section 3; Song et al. 2012, HSIC_1; Nguyen et al. 2021, on its use in CKA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.json_values import ToJson
from dvme.vectors import spans

BLOCK_ELEMENTS = 1 << 22
"""Values of one embedding in float64 at once; a single row or column may exceed it."""
MIN_SAMPLES = 4
"""Fewest that the unbiased estimate is defined for."""
CONSTANT = 1e-24
"""Share of the variance in the squared length up to which embeddings count as constant: rounding, even in float64."""
VOID = 1e-12
"""Share of the plain |X'X|^2 up to which its unbiased estimate is rounding, as where all rows are orthogonal."""


@dataclass(frozen=True)
class Similarity(ToJson):
    """Linear CKA between backbones on one set of samples."""

    backbones: tuple[str, ...]
    """In the order of rows and columns."""
    n_samples: int
    cka: NDArray[Any]
    """(M, M) in [0, 1], symmetric; biased upwards when there are few samples for the dimensions."""
    debiased: NDArray[Any]
    """(M, M) in [-1, 1], symmetric; about 0 for independent embeddings."""


def similarity(embeddings: Mapping[str, NDArray[Any]]) -> Similarity:
    """Linear CKA of every pair of backbones, plain and debiased, from one pass over each pair.

    Args:
        embeddings: (N, D_m) by backbone, the same samples in the same order, N >= 4.

    Returns:
        The matrices; nan where a backbone's embeddings are all the same, and in the debiased one also where they
        leave no unbiased variance, for instance all orthogonal.

    Raises:
        DataError: if there are fewer than 4 samples, or values that are not finite.
    """
    features = {name: _Features(name, array) for name, array in embeddings.items()}
    products = np.diag([_inner_product(each, each) for each in features.values()])
    for (a, one), (b, other) in combinations(enumerate(features.values()), 2):
        products[a, b] = products[b, a] = _inner_product(one, other)
    squares = np.stack([each.squares for each in features.values()])  # (M, N)
    is_constant = np.array([each.is_constant for each in features.values()])
    unbiased = _unbiased(products, squares)
    is_void = is_constant | (np.diag(unbiased) <= VOID * np.diag(products))
    return Similarity(tuple(features), squares.shape[1], _aligned(products, is_constant), _aligned(unbiased, is_void))


class _Features:
    """An embedding with its means, as blocks of centred float64."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        if array.ndim != 2 or len(array) < MIN_SAMPLES:
            message = f"the similarity of {name} is asked of {array.shape}; it takes (N, D) with N >= {MIN_SAMPLES}"
            raise DataError(message)
        self.array = array
        self.n_samples, self.dim = array.shape
        with np.errstate(invalid="ignore"):
            self.mean: NDArray[Any] = np.asarray(array.mean(axis=0, dtype=np.float64))
        if not np.isfinite(self.mean).all():
            raise DataError(f"{name} has values that are not finite; dvme cache verify says which, then extract again")

    @cached_property
    def squares(self) -> NDArray[Any]:
        """(N,) squared length of every centred row."""
        return np.concatenate(
            [np.square(self.rows(some)).sum(axis=1) for some in spans(self.n_samples, self.dim, BLOCK_ELEMENTS)]
        )

    @property
    def is_constant(self) -> bool:
        """Whether rows differ by rounding only."""
        total = self.squares.sum() + self.n_samples * np.square(self.mean).sum()
        return bool(self.squares.sum() <= CONSTANT * total)

    def rows(self, some: slice) -> NDArray[Any]:
        """(n, D) centred."""
        centred: NDArray[Any] = self.array[some].astype(np.float64) - self.mean
        return centred

    def gram(self) -> NDArray[Any]:
        """(N, N) products of the centred rows."""
        total = np.zeros((self.n_samples, self.n_samples))
        for some in spans(self.dim, self.n_samples, BLOCK_ELEMENTS):
            columns = self.array[:, some].astype(np.float64) - self.mean[some]
            total += columns @ columns.T
        return total


def _inner_product(X: _Features, Y: _Features) -> float:
    """|X'Y|^2 = sum of (X X') * (Y Y'), by whichever is cheaper; holds D x E or two N x N numbers and a block."""
    if X.dim * Y.dim > X.n_samples * (X.dim + Y.dim):
        gram = X.gram()
        return float(np.vdot(gram, gram if Y is X else Y.gram()))
    cross = np.zeros((X.dim, Y.dim))
    for some in spans(X.n_samples, max(X.dim, Y.dim), BLOCK_ELEMENTS):
        rows = X.rows(some)
        cross += rows.T @ (rows if Y is X else Y.rows(some))
    return float(np.vdot(cross, cross))


def _unbiased(products: NDArray[Any], squares: NDArray[Any]) -> NDArray[Any]:
    """(M, M) unbiased estimates of HSIC times N (N - 3), from the |X'Y|^2 and the (M, N) squared lengths."""
    n_samples = squares.shape[1]
    totals = squares.sum(axis=1)
    shared = n_samples / (n_samples - 2) * (squares @ squares.T)
    result: NDArray[Any] = products - shared + np.outer(totals, totals) / ((n_samples - 1) * (n_samples - 2))
    return result


def _aligned(products: NDArray[Any], is_undefined: NDArray[Any]) -> NDArray[Any]:
    """(M, M) cosines from inner products; nan in the rows and columns of (M,) backbones."""
    lengths = np.sqrt(np.where(is_undefined, np.nan, np.diag(products)))
    aligned: NDArray[Any] = products / np.outer(lengths, lengths)
    return aligned
