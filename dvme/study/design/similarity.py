"""Pairs of images that a backbone all but confuses, found without comparing each with each where that can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dvme.study.design.crowds import Crowd
from dvme.study.design.directions import ROWS_AT_ONCE, cosines_of, lengths_of, parts, rounding_of, unit_of
from dvme.study.design.recall import Recall

COSINE = 0.999
"""Similarity above which two images count as near-duplicates."""
BLIND = 0.01
"""Share of random pairs above it that shows a backbone which cannot tell images apart, an untrained one say."""
MOST_PAIRS = 50
"""Pairs per image above it that show the same; this many copies of everything are no accident of a data set."""
BLOCK = 2048
SAMPLED_PAIRS = 20000
SAMPLED_ROWS = 512
AXES, TREE_AXES = 32, 4
"""Principal axes on which candidates are looked at, and those of them by which they are looked up."""
SLACK = 1e-5
"""More than rounding changes of a product of two projections, or of the length of a row."""
REACH = float(np.sqrt(2.0 * (1.0 - COSINE + SLACK)))
"""Distance of two projections of unit rows that are a pair, at most."""
CANDIDATES_AT_ONCE = 8192
CLOSE_CALLS = 128
"""Where more than one pair in so many is within rounding of the threshold, all are multiplied in float64."""
VISITED, COMPARED, LISTED, VERIFIED = 100, 200, 5000, 140
"""What a pair costs, in multiplications of a product of matrices: one in a tree, and one in a product, on average; one
that a tree lists; and one whose rows are multiplied by themselves, for each dimension. Measured in float32."""

TREE, PROJECTION, PRODUCT = "tree", "projection", "product"

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
Found = tuple[NDArray[Any], ...]
"""Positions of both and cosines, each (P,)."""


@dataclass(frozen=True)
class Close:
    """P pairs of rows with a cosine above COSINE, in the order of their positions."""

    pairs: NDArray[np.int64]
    """(P, 2) positions, the smaller first."""
    cosines: NDArray[np.float32]
    """(P,)."""
    crowds: tuple[Crowd, ...] = ()
    """Rows of which any two are a pair as well; of those none is in `pairs`."""
    recall: Recall | None = None
    """Of a search that may have missed pairs; None: these are all."""


def close_pairs(values: NDArray[Any], *, block: int = BLOCK) -> Close | None:
    """Every pair of rows with a cosine above COSINE; None if there are more than copies could explain.

    What is decided is the cosine of the values as they are, whichever way a pair is found: where a product in float32
    cannot tell, the two rows are multiplied in float64. A row of zeros, or one that is not finite, is like no other.

    Let p be a row's projection on a few orthonormal axes, and r the length of what is left of it. Then two rows have a
    product of at most p p' + r r' (Cauchy and Schwarz), so pairs for which that is small need not be looked at. Where
    few are left on 4 axes a k-d tree finds them, else a product on 32 axes, else one of whole rows.

    Args:
        values: (N, D) of one backbone.
        block: rows that are compared with as many others at once; what is in memory beside `values` is so many pairs,
            and at most the rows as float32.
    """
    lengths = lengths_of(values)
    is_able = (lengths > 0) & np.isfinite(lengths)
    if is_blind(values, lengths, is_able):
        return None
    return listed(found_among(values, lengths, np.flatnonzero(is_able), block), MOST_PAIRS * len(values))


def listed(found: Iterator[Found], most: int) -> Close | None:
    """All pairs in the order of their positions; None of more than so many."""
    nothing = np.empty(0, dtype=np.int64)
    every: list[Found] = [(nothing, nothing, np.empty(0, dtype=np.float32))]
    n_found = 0
    for part in found:
        every.append(part)
        n_found += len(part[0])
        if n_found > most:
            return None
    one, two, cosines = (np.concatenate(each) for each in zip(*every, strict=True))
    pairs = np.stack([np.minimum(one, two), np.maximum(one, two)], axis=1)
    order = np.lexsort(pairs.T[::-1])
    return Close(pairs[order], cosines[order].astype(np.float32))


def found_among(
    values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64], block: int
) -> Iterator[Found]:
    """Positions of both and cosines of all pairs of some rows, block by block, by the cheapest way."""
    candidates: Iterator[Pairs] | None = None
    if len(able) > block:
        axes = principal_axes(values, lengths, able)
        way = cheapest(values, lengths, able, axes)
        if way != PRODUCT:
            shadows = projected(values, lengths, able, axes)
            candidates = _by_tree(_shortened(shadows), block) if way == TREE else _by_projection(shadows, block)
    if candidates is None:
        yield from _by_product(values, lengths, able, block)
        return
    for one, two in candidates:
        for part in parts(len(one), CANDIDATES_AT_ONCE):
            first, second = one[part], two[part]
            is_near = np.einsum("pk,pk->p", shadows[first], shadows[second]) > COSINE - SLACK
            yield confirmed(values, lengths, able[first[is_near]], able[second[is_near]])


def confirmed(
    values: NDArray[Any], lengths: NDArray[np.float64], one: NDArray[np.int64], two: NDArray[np.int64]
) -> Found:
    """Those of some pairs that are close."""
    cosines = cosines_of(values, lengths, one, two)
    is_close = cosines > COSINE
    return one[is_close], two[is_close], cosines[is_close]


def principal_axes(values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64]) -> NDArray[np.float64]:
    """(D, k) orthonormal, the leading ones of a sample first."""
    from sklearn.utils.extmath import randomized_svd

    sample = np.random.default_rng(0).choice(able, min(SAMPLED_ROWS, len(able)), replace=False)
    unit = unit_of(values, lengths, sample)
    axes = randomized_svd(unit, min(AXES, *unit.shape), n_iter=2, random_state=0)[2]
    orthonormal: NDArray[np.float64] = np.linalg.qr(axes.T)[0]  # to the last bit, whatever the rank of the sample
    return orthonormal


def projected(
    values: NDArray[Any],
    lengths: NDArray[np.float64],
    rows: NDArray[np.int64],
    axes: NDArray[np.float64],
    *,
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """(n, k + 1) unit rows on the axes, and the length of what is left of each.

    Computed in float64, so that what is left of a row that almost lies on the axes is not lost in rounding.
    """
    shadows = np.empty((len(rows), axes.shape[1] + 1), dtype=dtype)
    for part in parts(len(rows), ROWS_AT_ONCE):
        along = unit_of(values, lengths, rows[part]) @ axes
        squares = np.einsum("nk,nk->n", along, along)
        shadows[part, :-1], shadows[part, -1] = along, np.sqrt(np.maximum(0.0, 1.0 - squares))
    return shadows


def cheapest(
    values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64], axes: NDArray[np.float64]
) -> str:
    """The way to go, by what a sample of pairs would cost."""
    one, two = np.random.default_rng(1).choice(able, (2, SAMPLED_ROWS))
    both = [projected(values, lengths, rows, axes) for rows in (one, two)]
    is_pair = one[:, None] != two
    coarse, fine = (
        float((first @ second.T > COSINE - SLACK)[is_pair].mean()) for first, second in (map(_shortened, both), both)
    )
    verified = VERIFIED * values.shape[1] * fine
    costs = {
        TREE: VISITED + LISTED * coarse + verified,
        PROJECTION: COMPARED + AXES + verified,
        PRODUCT: COMPARED + values.shape[1],
    }
    return min(costs, key=costs.__getitem__)


def _shortened(shadows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same on the first TREE_AXES alone."""
    rest = np.linalg.norm(shadows[:, TREE_AXES:], axis=1, keepdims=True)
    return np.concatenate([shadows[:, :TREE_AXES], rest], axis=1)


def _by_tree(points: NDArray[np.float64], block: int) -> Iterator[Pairs]:
    """Pairs of unit vectors whose product may exceed COSINE: the distance of these is at most sqrt(2 (1 - COSINE)).

    Args:
        points: (n, k) unit vectors.
        block: rows of a tree; one over all rows would give all pairs at once.
    """
    from scipy.spatial import KDTree

    order = KDTree(points).indices  # neighbours come together
    parts = [order[start : start + block] for start in range(0, len(order), block)]
    trees = [KDTree(points[part]) for part in parts]
    lows, highs = (np.stack([getattr(tree, end) for tree in trees]) for end in ("mins", "maxes"))
    for a, tree in enumerate(trees):
        own = tree.query_pairs(REACH, output_type="ndarray")
        yield parts[a][own[:, 0]], parts[a][own[:, 1]]
        gaps = np.maximum(0.0, np.maximum(lows[a + 1 :] - highs[a], lows[a] - highs[a + 1 :]))
        for b in (a + 1 + np.flatnonzero(np.linalg.norm(gaps, axis=1) <= REACH)).tolist():
            both = tree.sparse_distance_matrix(trees[b], REACH, output_type="ndarray")
            yield parts[a][both["i"]], parts[b][both["j"]]


def _by_projection(shadows: NDArray[np.float64], block: int) -> Iterator[Pairs]:
    """The same by products of all with all."""
    short = shadows.astype(np.float32)
    for start in range(0, len(short), block):
        for other in range(start, len(short), block):
            products = short[start : start + block] @ short[other : other + block].T
            yield _above(products, COSINE - SLACK, start, other)


def _by_product(
    values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64], block: int
) -> Iterator[Found]:
    """Positions of both and cosines, by products of all whole rows with all.

    In a product in float32, D terms may each be wrong by half a unit in the last place, all of them to one side where
    small terms meet a large sum.
    """
    unit = np.empty((len(able), values.shape[1]), dtype=np.float32)
    for part in parts(len(able), ROWS_AT_ONCE):
        unit[part] = unit_of(values, lengths, able[part])
    doubt = rounding_of(values.shape[1])
    for start in range(0, len(able), block):
        for other in range(start, len(able), block):
            rows, others = unit[start : start + block], unit[other : other + block]
            products = rows @ others.T
            one, two = _above(products, COSINE - doubt, start, other)
            cosines: NDArray[np.float64] = products[one - start, two - other].astype(np.float64)
            unsure = np.flatnonzero(cosines <= COSINE + doubt)
            if len(unsure) * CLOSE_CALLS > products.size:
                own, rest = (unit_of(values, lengths, able[begin : begin + block]) for begin in (start, other))
                exact: NDArray[np.float64] = own @ rest.T
                cosines = exact[one - start, two - other]
            elif len(unsure):
                cosines[unsure] = cosines_of(values, lengths, able[one[unsure]], able[two[unsure]])
            is_close = cosines > COSINE
            yield able[one[is_close]], able[two[is_close]], cosines[is_close]


def _above(products: NDArray[np.float32], threshold: float, start: int, other: int) -> Pairs:
    """Positions of both, the smaller first, in a block whose rows and columns begin at these."""
    one, two = np.nonzero(products > threshold)
    one, two = one + start, two + other
    if start != other:
        return one, two
    return one[one < two], two[one < two]


def is_blind(values: NDArray[Any], lengths: NDArray[np.float64], is_able: NDArray[np.bool_]) -> bool:
    """Whether many random pairs of images all but coincide."""
    if len(values) < 2:
        return False
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, len(values), (2, SAMPLED_PAIRS))
    one, two = one[one != two], two[one != two]
    both = is_able[one] & is_able[two]
    n_near = int((cosines_of(values, lengths, one[both], two[both]) > COSINE).sum())
    return n_near > BLIND * len(one)
