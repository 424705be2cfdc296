from __future__ import annotations

import numpy as np

from dvme.heads.exact.gram_pool import ROWS_AT_ONCE, pooled
from dvme.heads.exact.linear import Linear
from dvme.heads.fitting.jobs import Job


def test_centred__products_about_the_rows_own_mean() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(90, 120)) + 2.0).astype(np.float32)
    orders = [rng.permutation(90) for _ in range(3)]
    assert len(orders[0][:70]) > 2 * ROWS_AT_ONCE
    pool = pooled([Job(Linear(), ("a",), order[:70], order[70:]) for order in orders], features, 1 << 30)
    assert pool is not None
    rows = features[orders[1][:70]].astype(np.float64)
    gram, means = pool.centred(orders[1][:70])
    about = rows - rows.mean(axis=0)
    np.testing.assert_allclose(gram, about @ about.T, atol=1e-10)
    whole = features.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(means, (rows - whole) @ (rows.mean(axis=0) - whole), atol=1e-10)
    block = pool.block(orders[1][70:], orders[1][:70])
    other = features[orders[1][70:]].astype(np.float64)
    np.testing.assert_allclose(block, (other - whole) @ (rows - whole).T, atol=1e-10)
