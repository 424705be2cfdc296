"""Areas by hand, by scikit-learn, and by counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from labelled_cases import Case, cases
from sklearn.metrics import average_precision_score, roc_auc_score

from dvme.metrics import ranking, weighting
from dvme.metrics.labelled import Labelled
from dvme.metrics.ranking import Ranking, areas, auc, average_precision

CLOSE = 1e-9


def test_auc__by_hand() -> None:
    truth = np.array([[1.0], [0.0], [1.0], [0.0]])
    scores = np.array([[0.9], [0.8], [0.4], [0.4]])
    # pairs: (0.9, 0.8) won, (0.9, 0.4) won, (0.4, 0.8) lost, (0.4, 0.4) half
    assert auc(truth, scores).tolist() == [2.5 / 4]
    # the second image twice: (won, won, won, lost, lost, half) of 6 pairs
    assert auc(truth, scores, np.array([1, 2, 1, 1])) == pytest.approx([3.5 / 6])


def test_average_precision__by_hand() -> None:
    """0.9 no, 0.7 yes, 0.5 yes and no, 0.3 yes: precisions 1/2, 2/4, 3/5, each adding a third of the recall."""
    truth, scores = np.array([[0.0], [1], [1], [0], [1]]), np.array([[0.9], [0.7], [0.5], [0.5], [0.3]])
    assert average_precision(truth, scores) == pytest.approx([(1 / 2 + 2 / 4 + 3 / 5) / 3])


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_areas__as_scikit_learn(case: Case) -> None:
    found = areas(case.truth, case.p, case.weights)
    for r, label, truth, p, weight in case.each():
        if len(np.unique(truth)) < 2:
            assert np.isnan(found.auc[r, label])
        else:
            assert found.auc[r, label] == pytest.approx(roc_auc_score(truth, p, sample_weight=weight), abs=CLOSE)
        if not truth.any():
            assert np.isnan(found.average_precision[r, label])
        else:
            expected = average_precision_score(truth, p, sample_weight=weight)
            assert found.average_precision[r, label] == pytest.approx(expected, abs=CLOSE)


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_auc__as_counting_pairs(case: Case) -> None:
    found = auc(case.truth, case.p, case.weights)
    for r, label, truth, p, weight in case.each():
        yes, no = truth == 1, truth == 0
        wins = (np.sign(p[yes][:, None] - p[no]) + 1) / 2
        pairs = np.outer(weight[yes], weight[no])
        expected = (wins * pairs).sum() / pairs.sum() if pairs.size else np.nan
        assert found[r, label] == pytest.approx(expected, abs=CLOSE, nan_ok=True)


def test_areas__infinite_scores_are_ranked() -> None:
    truth, scores = np.array([[0.0], [1], [0], [1]]), np.array([[-np.inf], [-np.inf], [3.0], [np.inf]])
    assert auc(truth, scores).tolist() == [2.5 / 4]
    assert average_precision(truth, scores) == pytest.approx([(1 / 1 + 2 / 4) / 2])


def test_areas__many_images_labels_and_weightings_in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth, scores, weights = rng.integers(0, 2, (50, 7)), rng.normal(size=(50, 7)), rng.poisson(1, (9, 50))
    whole = areas(truth, scores, weights)
    monkeypatch.setattr(ranking, "RANKED_CELLS", 150)
    monkeypatch.setattr(weighting, "BLOCK_VALUES", 100)
    portions = areas(truth, scores, weights)
    np.testing.assert_array_equal(whole.auc, portions.auc)
    np.testing.assert_array_equal(whole.average_precision, portions.average_precision)
    expected = roc_auc_score(truth[:, 6], scores[:, 6], sample_weight=weights[8])
    assert portions.auc[8, 6] == pytest.approx(expected, abs=CLOSE)


def test_areas__without_images_or_labels() -> None:
    assert np.isnan(auc(np.empty((0, 2)), np.empty((0, 2)))).tolist() == [True, True]
    assert auc(np.empty((3, 0)), np.empty((3, 0)), np.ones((4, 3))).shape == (4, 0)


def test_ranking__counts_are_summed_as_numbers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small whole weights take another way through the sums; too large ones do not."""
    rng = np.random.default_rng(1)
    given = Labelled.of(rng.integers(0, 2, (60, 1)), np.round(rng.normal(size=(60, 1)), 1))
    ranked, counts = Ranking.of(given, 0), rng.poisson(1, (5, 60)).astype(np.uint16)
    expected = ranked.areas(counts.astype(np.float64))
    np.testing.assert_array_equal(ranked.areas(counts), expected)
    np.testing.assert_array_equal(ranked.average_precision(counts), expected[1])
    np.testing.assert_allclose(ranked.areas(counts.astype(np.int64) << 40), expected, rtol=1e-12)
    monkeypatch.setattr(ranking, "WEIGHTS_AT_ONCE", 130)
    np.testing.assert_allclose(ranked.areas(counts), expected, rtol=1e-12)
