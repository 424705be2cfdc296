from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.heads.neighbours.of_images import nearest_images
from dvme.heads.neighbours.of_rows import search
from dvme.vectors import unit_rows

SEARCH = partial(search, device="cpu")


def _slowly(queries: NDArray[Any], bank: NDArray[Any], k: int, n_views: int) -> tuple[list[list[int]], NDArray[Any]]:
    """Image by image: its nearest view, and all images in the order of these."""
    n_images = len(bank) // n_views
    images, similarities = [], np.empty((len(queries), k))
    for row, query in enumerate(queries.astype(np.float64)):
        nearest = [max(float(query @ bank[v * n_images + i]) for v in range(n_views)) for i in range(n_images)]
        order = sorted(range(n_images), key=lambda i, nearest=nearest: (-nearest[i], i))[:k]  # type: ignore[misc]
        images.append(order)
        similarities[row] = [nearest[i] for i in order]
    return images, similarities


def _checked(queries: NDArray[Any], bank: NDArray[Any], ks: Sequence[int], n_views: int) -> None:
    similarities, rows = nearest_images(queries, bank, ks, n_views, SEARCH)
    images, expected = _slowly(queries, bank, max(ks), n_views)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    for k in ks:
        for found, wanted in zip((rows % (len(bank) // n_views)).tolist(), images, strict=True):
            assert len(set(found[:k])) == k
            assert set(found[:k]) == set(wanted[:k])
    exact = np.einsum("bd,bkd->bk", queries.astype(np.float64), bank[rows].astype(np.float64))
    np.testing.assert_allclose(exact, expected, atol=1e-6)  # by the view that is nearest


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n_images=st.integers(1, 20), n_views=st.integers(2, 5), share=st.floats(0, 1))
def test_nearest_images__each_once_by_its_nearest_view(seed: int, n_images: int, n_views: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_images, 6))
    bank = unit_rows(np.concatenate([centres + share * rng.normal(size=centres.shape) for _ in range(n_views)]))
    ks = sorted({1, (n_images + 1) // 2, n_images})
    _checked(unit_rows(rng.normal(size=(5, 6))), bank, ks, n_views)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), n_distinct=st.integers(1, 6))
def test_nearest_images__of_equally_similar_ones_the_first(seed: int, n_distinct: int) -> None:
    rng = np.random.default_rng(seed)
    bank = np.eye(8, dtype=np.float32)[rng.integers(0, n_distinct, 3 * 12)]
    _checked(unit_rows(rng.integers(0, 3, size=(4, 8)) + 0.5), bank, [1, 4, 12], 3)
