from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from dvme.study.design import recall
from dvme.study.design.directions import lengths_of
from dvme.study.design.recall import Recall, sampled_recall


@pytest.mark.parametrize(("n_found", "n_pairs"), [(0, 7), (95, 100), (400, 400)])
def test_sampled_recall__lower_end_of_pairs_apart_is_wilsons(
    n_found: int, n_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair is a group of its own."""
    monkeypatch.setattr(recall, "SAMPLED_IMAGES", 2 * n_pairs)
    values = np.repeat(np.random.default_rng(0).normal(size=(n_pairs, 64)), 2, axis=0).astype(np.float32)
    pairs = np.arange(2 * n_found).reshape(-1, 2)
    found = sampled_recall(values, lengths_of(values), np.arange(2 * n_pairs), pairs, 0.999, 1.0)
    assert (found.n_found, found.n_pairs) == (n_found, n_pairs)
    interval = binomtest(n_found, n_pairs).proportion_ci(method="wilson")
    assert found.low == pytest.approx(interval.low, abs=1e-3)  # of n - 1 in the variance


def test_sampled_recall__pairs_of_one_group_count_once() -> None:
    """A hundred copies of one row are 4,950 pairs and one observation: Wilson's 1 / (1 + 1.96^2)."""
    values = np.ones((100, 8), dtype=np.float32)
    every = np.array([(a, b) for a in range(100) for b in range(a + 1, 100)])
    found = sampled_recall(values, lengths_of(values), np.arange(100), every, 0.999, 1.0)
    assert (found.n_found, found.n_pairs) == (4950, 4950)
    assert found.low == pytest.approx(1 / (1 + 1.959964**2))


def test_recall__says_what_was_found_of_how_many_and_what_all_would_take() -> None:
    assert Recall(500, 120, 120, 0.9889, 7200.0).line("dino") == (
        "near-duplicates searched in cells, approximately, in dino: found 120 of 120 pairs of a sample of 500 images "
        "(recall at least 0.98); near_duplicates='exact' finds all, in about 2.0 h"
    )
    assert "found 90 of 120 pairs of a sample of 500 images (recall at least 0.67, which is low);" in Recall(
        500, 120, 90, 0.675, 1.0
    ).line("dino")
    assert "there are no pairs of a sample of 500 images, so the recall is not known" in Recall(
        500, 0, 0, 0.0, 1.0
    ).said("a")


def test_sampled_recall__counts_pairs_of_the_sample_with_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of copies of every row; of the sampled ones each pair counts once."""
    values = np.repeat(np.random.default_rng(0).normal(size=(100, 16)), 3, axis=0).astype(np.float32)
    every = np.array([(3 * k + a, 3 * k + b) for k in range(100) for a, b in ((0, 1), (0, 2), (1, 2))])
    able = np.arange(6, 300)  # the first six are not searched
    for n_sampled in (5, 300):
        monkeypatch.setattr(recall, "SAMPLED_IMAGES", n_sampled)
        sample = set(np.random.default_rng(2).choice(able, min(n_sampled, 294), replace=False).tolist())
        of_sample = [pair for pair in every.tolist() if sample & set(pair) and pair[0] >= 6]
        found = sampled_recall(values, lengths_of(values), able, every[::2], 0.999, 1.0)
        kept = {tuple(pair) for pair in every[::2].tolist()}
        assert (found.n_images, found.n_pairs) == (len(sample), len(of_sample))
        assert found.n_found == sum(tuple(pair) in kept for pair in of_sample)
