from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from dvme.metrics.classification import log_odds
from dvme.stats.influence import scored
from dvme.stats.units import Units
from dvme.stats.unpaired import Unpaired, drop
from dvme.study.panel import Panel
from dvme.study.sites.outcome import NO_TEST
from dvme.study.sites.scores import Side, comparable, drop_of, findings_of, together, weighted

NAMES = ("Edema", "Effusion", "Mass")


def _findings(
    seed: int, n: int, *, rare: tuple[int, ...] = (), hidden: tuple[int, ...] = (), signal: float = 1.0
) -> Side:
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 3)) < 0.4).astype(float)
    truth[2:, rare] = 0.0
    truth[:, hidden] = np.nan
    truth[rng.random((n, 3)) < 0.1] = np.nan
    odds = tuple(np.nan_to_num(truth) * signal * luck + rng.normal(size=(n, 3)) for luck in (1.4, 1.0, 0.6))
    return Side(Panel(NAMES, truth, odds, rng.integers(0, n // 2, n)), None, odds)


def _classes(seed: int, labels: NDArray[Any], signal: float = 1.0) -> Side:
    rng = np.random.default_rng(seed)
    odds = []
    for _ in range(2):
        logits = rng.normal(size=(len(labels), 4))
        logits[np.arange(len(labels)), labels] += signal
        odds.append(log_odds(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))))
    truth = (labels[:, None] == np.arange(4)).astype(float)
    return Side(Panel(("0", "1", "2", "3"), truth, tuple(odds)), labels, tuple(odds))


def _units(side: Side) -> Units:
    """Of the second finding."""
    rows = ~np.isnan(side.panel.truth[:, 1])
    assert side.panel.groups is not None
    return Units(side.panel.truth[rows, 1].astype(int), side.panel.groups[rows])


def _area(side: Side, label: int) -> float:
    rows = ~np.isnan(side.panel.truth[:, label])
    truth = side.panel.truth[rows, label]
    return float(np.mean([roc_auc_score(truth, fold[rows, label]) for fold in side.panel.odds]))


def test_drop_of__is_the_mean_over_what_both_can_judge() -> None:
    own, there = _findings(0, 200), _findings(1, 300, rare=(2,), signal=0.4)
    found, _ = drop_of("m", *together(comparable([own, there])), "auc", 0.5)
    one, other = (np.mean([_area(side, label) for label in (0, 1)]) for side in (own, there))
    assert found.internal.estimate == pytest.approx(one, abs=1e-12)
    assert found.external.estimate == pytest.approx(other, abs=1e-12)
    assert found.drop.difference.estimate == pytest.approx(one - other, abs=1e-12)
    assert found.drop.difference.low > 0.0
    assert found.word == "drop"
    wider, narrow = ((each.difference.high - each.difference.low) for each in (found.anew, found.drop))
    assert wider > narrow


def test_drop_of__one_finding_is_its_own_mean() -> None:
    own, there = _findings(0, 200), _findings(1, 300, hidden=(0, 2))
    sides = comparable([own, there])
    (found, _), each = (
        drop_of("m", *together(sides), "auc", 0.5),
        findings_of("m", *sides, {"Effusion": ("Fluid",)}, 0.5),
    )
    ((only, _),) = each
    assert repr((found.internal, found.external, found.drop)) == repr((only.internal, only.external, only.drop))
    assert (only.finding, only.theirs) == ("Effusion", ("Fluid",))
    units = [_units(side) for side in (own, there)]
    scores = []
    for side, unit in zip((own, there), units, strict=True):
        rows = ~np.isnan(side.panel.truth[:, 1])
        odds = [np.stack([-fold[rows, 1], fold[rows, 1]], axis=1) for fold in side.panel.odds]
        scores.append(scored(unit.labels, odds, unit, ["auc"])["auc"])
    assert repr(only.drop) == repr(drop(*scores))
    assert only.n_known == tuple(len(unit.labels) for unit in units)
    assert only.n_positive == tuple(int(unit.labels.sum()) for unit in units)


def test_findings_of__those_that_cannot_be_judged_say_why() -> None:
    own, there = _findings(0, 60), _findings(1, 60, rare=(2,))
    there.panel.truth[:, 2] = np.where(np.isnan(there.panel.truth[:, 2]), np.nan, 0.0)
    rows = [row for row, _ in findings_of("m", own, there, {name: (name,) for name in NAMES}, 0.5)]
    assert [each.why_not for each in rows[:2]] == ["", ""]
    assert there.panel.groups is not None
    n = len(set(there.panel.groups[there.panel.truth[:, 2] == 0.0].tolist()))
    assert rows[2].why_not == f"0 of the site's groups with it, {n} without: it takes 3 of each"
    assert np.isnan(rows[2].external.estimate)
    assert rows[2].internal.estimate == pytest.approx(_area(own, 2), abs=1e-12)
    assert rows[2].word == NO_TEST


def test_drop_of__nothing_in_common_says_so() -> None:
    own, there = _findings(0, 60, hidden=(0,)), _findings(1, 60, hidden=(1, 2))
    found, _ = drop_of("m", *together(comparable([own, there])), "auc", 0.5)
    assert found.why_not == ("no finding or class has 3 images or patients with it, and 3 without, on both sides")
    assert found.word == NO_TEST


@pytest.mark.parametrize("metric", ["auc", "kappa", "accuracy", "balanced_accuracy"])
def test_comparable__only_images_count_whose_class_both_have(metric: str) -> None:
    rng = np.random.default_rng(2)
    own, there = _classes(0, rng.integers(0, 4, 240)), _classes(1, rng.choice([0, 2, 3], 200), signal=0.3)
    found, _ = drop_of("m", *together(comparable([own, there])), metric, 0.5)
    assert own.labels is not None
    rows = own.labels != 1
    truth, heads = own.labels[rows], [fold[rows] for fold in own.odds]
    expected = {
        "auc": [[roc_auc_score(truth == c, head[:, c]) for c in (0, 2, 3)] for head in heads],
        "kappa": [
            cohen_kappa_score(truth, head.argmax(axis=1), labels=range(4), weights="quadratic") for head in heads
        ],
        "accuracy": [(head.argmax(axis=1) == truth).mean() for head in heads],
        "balanced_accuracy": [[(head.argmax(axis=1) == truth)[truth == c].mean() for c in (0, 2, 3)] for head in heads],
    }
    assert found.internal.estimate == pytest.approx(float(np.mean(expected[metric])), abs=1e-12)
    assert found.drop.difference.estimate == pytest.approx(found.internal.estimate - found.external.estimate)
    assert (found.why_not, found.word) == ("", "drop")


def test_drop_of__a_site_of_one_class_has_no_kappa() -> None:
    own, there = _classes(0, np.arange(60) % 4), _classes(1, np.zeros(20, dtype=int))
    found, _ = drop_of("m", *together(comparable([own, there])), "kappa", 0.5)
    assert (found.why_not, found.word) == ("fewer than two classes that both have", NO_TEST)


def test_weighted__is_the_sum_over_what_all_portions_have() -> None:
    labels = np.arange(90) % 3
    sides = dict(
        zip(("private", "public"), together(comparable([_classes(0, labels), _classes(1, labels[:60])])), strict=True)
    )
    found = weighted("m", sides, {"private": 0.51, "public": 0.49}, "kappa")
    kappas = [
        np.mean(
            [
                cohen_kappa_score(labels[:n], fold.argmax(axis=1), labels=range(4), weights="quadratic")
                for fold in side.odds
            ]
        )
        for side, n in zip(sides.values(), (90, 60), strict=True)
    ]
    assert found.total.estimate == pytest.approx(0.51 * kappas[0] + 0.49 * kappas[1], abs=1e-12)
    assert [(each.name, each.weight) for each in found.portions] == [("private", 0.51), ("public", 0.49)]
    assert found.total.low < found.total.estimate < found.total.high
    assert found.why_not == ""


def test_weighted__a_portion_without_a_score_says_so() -> None:
    sides = {"test": _classes(0, np.arange(60) % 4), "ny": _classes(1, np.zeros(20, dtype=int))}
    found = weighted(
        "m", dict(zip(sides, together(comparable([*sides.values()])), strict=True)), {"test": 0.5, "ny": 0.5}, "auc"
    )
    assert np.isnan(found.total.estimate)
    assert found.why_not == "nothing that all portions have can be judged in test, ny"
    few = {"test": _classes(0, np.arange(60) % 2), "ny": _classes(1, np.array([0, 0, 0, 0, 1, 1]))}
    found = weighted("m", few, {"test": 0.5, "ny": 0.5}, "accuracy")
    assert not np.isnan(found.total.estimate)
    assert found.why_not == "ny: it takes 3 images or patients of every class"


def test_drop_of__covers_a_mean_over_findings_of_patients() -> None:
    """Two findings of patients with two images; a sixth of the signal less at the site."""
    rng, n, n_covered = np.random.default_rng(0), 250, 0
    signals = np.array([1.5, 1.2])

    def side(n_images: int, strength: float) -> Side:
        patient = np.arange(n_images) // 2
        truth = (rng.random((n_images // 2, 2)) < 0.4).astype(float)[patient]
        noise = np.sqrt(0.5) * (rng.normal(size=(n_images // 2, 2))[patient] + rng.normal(size=(n_images, 2)))
        odds = (truth * signals * strength + noise,)
        return Side(Panel(NAMES[:2], truth, odds, patient), None, odds)

    true = [float(ndtr(signals * strength / np.sqrt(2)).mean()) for strength in (1.0, 5 / 6)]
    for _ in range(n):
        one, other = (each.scored("auc") for each in together([side(160, 1.0), side(120, 5 / 6)]))
        assert one is not None
        assert other is not None
        found = Unpaired(one, other).interval()  # as `drop`, without p
        n_covered += found.low <= true[0] - true[1] <= found.high
    assert abs(n_covered / n - 0.95) <= 0.02 + np.sqrt(0.95 * 0.05 / n)
