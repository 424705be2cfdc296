from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from dvme.heads.neighbours.inverted_lists import InvertedLists
from dvme.heads.neighbours.recall import MOST, RECALL, SAMPLE, found_shares, search_notices, with_recall
from dvme.notices import Aside
from dvme.vectors import unit_rows


def _clusters(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Rows of 40 kinds that vary along few directions, as embeddings do."""
    fixed = np.random.default_rng(0)
    centres, directions = fixed.normal(size=(40, 6)) * 2.0, fixed.normal(size=(6, 32))
    return ((centres[rng.integers(0, 40, n)] + rng.normal(size=(n, 6))) @ directions).astype(np.float32)


def _isotropic(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return rng.normal(size=(n, 32)).astype(np.float32)


def _of(make: Any, n: int, n_queries: int) -> tuple[InvertedLists, NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(1)
    rows, queries = make(rng, n), unit_rows(make(rng, n_queries))
    return InvertedLists.of(rows, np.arange(n), seed=0), queries, unit_rows(rows)


@pytest.mark.parametrize("make", [_clusters, _isotropic])
def test_with_recall__is_that_of_a_recount(make: Any) -> None:
    lists, queries, unit = _of(make, 4000, SAMPLE)
    probed, recall = with_recall(lists, queries, 20)
    true = np.argsort(-(queries @ unit.T), axis=1)[:, :20]
    found = probed.nearest(queries, 20)[1]
    hits = [len({*own} & {*others}) / 20 for own, others in zip(true.tolist(), found.tolist(), strict=True)]
    assert recall.mean == pytest.approx(np.mean(hits), abs=1e-9)
    assert (recall.k, recall.n_queries, recall.n_probes) == (20, SAMPLE, probed.n_probes)
    assert recall.low < recall.mean


def test_with_recall__clusters_take_few_probes_and_no_more_than_needed() -> None:
    lists, queries, _ = _of(_clusters, 4000, SAMPLE)
    probed, recall = with_recall(lists, queries, 20)
    assert recall.low >= RECALL
    assert probed.n_probes < MOST * lists.n_lists / 2
    true = replace(lists, n_probes=lists.n_lists).nearest(queries, 20)[1]
    fewer = found_shares(lists, queries, true)[:, probed.n_probes - 2].mean()
    assert fewer < recall.mean
    assert "exact_seconds" not in recall.described()


def test_with_recall__isotropic_rows_reach_the_most_probes_and_offer_an_exact_search() -> None:
    lists, queries, _ = _of(_isotropic, 4000, SAMPLE)
    probed, recall = with_recall(lists, queries, 20)
    assert probed.n_probes == int(MOST * lists.n_lists)
    assert recall.low < RECALL
    assert recall.described()["exact_seconds"] > 0
    (line,) = search_notices([("knn", recall.described())])
    assert not isinstance(line, Aside)
    assert f"recall {recall.mean:.3f} at 20, at least {recall.low:.3f} on a sample of 500 images" in line
    assert "that is low: knn@search=exact finds all, in about " in line


def test_with_recall__queries_of_the_bank_are_not_their_own_neighbours() -> None:
    rows = _clusters(np.random.default_rng(2), 1500)
    rows[700:800] = rows[0]  # copies, of which a query may find others in its own place
    lists, own = InvertedLists.of(rows, np.arange(1500), seed=0), np.arange(600, 900)
    probed, recall = with_recall(lists, lists[own], 10, own)
    hits = []
    unit = unit_rows(rows).astype(np.float64)
    of_row = lists.lists_of(np.arange(1500))
    for query in own:
        similarities = np.einsum("nd,d->n", unit, unit[query])
        similarities[query] = -np.inf
        true = np.argsort(-similarities, kind="stable")[:10]
        nearest = np.argsort(-(lists.centroids @ unit[query]), kind="stable")[: probed.n_probes]
        hits.append(np.isin(of_row[true], nearest).mean())
    assert recall.mean == pytest.approx(np.mean(hits), abs=1e-9)


def test_with_recall__lower_end_against_scipy() -> None:
    """Where every query finds its one neighbour or does not, the interval is Wilson's of a share."""
    lists, queries, _ = _of(_isotropic, 2000, SAMPLE)
    _, recall = with_recall(lists, queries, 1)
    low = binomtest(round(recall.mean * SAMPLE), SAMPLE).proportion_ci(method="wilson").low
    assert recall.mean < 1.0
    assert recall.low == pytest.approx(low, abs=1e-4)  # of n - 1 in the variance


def test_with_recall__the_lower_end_keeps_its_promise() -> None:
    """The recall on all other queries is RECALL or more, in nearly all draws of a sample."""
    lists, every, _ = _of(_clusters, 4000, 6000)
    true = replace(lists, n_probes=lists.n_lists).nearest(every, 10)[1]
    truth = found_shares(lists, every, true).mean(axis=0)
    rng = np.random.default_rng(3)
    reached = []
    for _ in range(25):
        probed, recall = with_recall(lists, every[rng.choice(len(every), SAMPLE, replace=False)], 10)
        assert recall.low >= RECALL
        reached.append(truth[probed.n_probes - 1])
    assert np.mean(np.array(reached) >= RECALL) >= 0.9


def test_search_notices__the_worst_of_each_head() -> None:
    measured = {"recall": 0.996, "recall_at": 200, "recall_queries": 500, "n_probes": 8, "n_lists": 1000}
    fits: list[tuple[str, Any]] = [("knn", measured | {"recall_low": 0.993})]
    fits += [("linear", {"strength": 1.0}), ("knn", {"k": 5})]
    fits.append(("knn", measured | {"recall": 0.995, "recall_low": 0.991, "n_probes": 9}))
    (line,) = search_notices(fits)
    assert isinstance(line, Aside)
    wanted = "knn is approximate: recall 0.995 at 200, at least 0.991 on a sample of 500 images, "
    assert line == wanted + "9 of 1,000 lists searched"
    assert search_notices(fits[1:3]) == []
