from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light, named
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import dvme
from dvme.data.targets import Targets
from dvme.stats import Comparison, crossed, labels_saved, paired_effect
from dvme.stats.elsewhere import elsewhere
from dvme.stats.influence import scored
from dvme.stats.units import Units
from dvme.study.design.manifest import FoldDraw, SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.judge import MOST_SHARED, Judge
from dvme.study.ledger import FinishedJob
from dvme.study.outcome import Cell, StudyReport
from dvme.study.run import Run

HEADS = ("linear", "knn", "dvme", "concat", "mean-logits")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> StudyReport:
    folder = tmp_path_factory.mktemp("judged") / "run"
    found: StudyReport = dvme.sweep(cache, folder, heads=light(*HEADS), options=options, controls=False)
    return found


class _ByHand:
    """The statistics from the run's folder alone: its predictions and its manifest."""

    def __init__(self, report: StudyReport) -> None:
        self.run = Run.load(report.run)
        self.manifest = self.run.manifest
        self.truth = self.manifest.targets.values[self.manifest.test]
        self.parts = {
            (self.run.names[method], self.manifest.sizes[size]): [self._parts(job.test) for job in jobs]
            for (method, size), jobs in self.run.finished.items()
        }
        self.n_comparisons = (len(self.run.names) - 1) * 3
        self.leaders = {size: self.leader(self.run.names, size) for size in self.manifest.sizes}

    def _parts(self, scores: NDArray[Any]) -> NDArray[Any]:
        """(N,) what images contribute to the macro AUC, from every pair of an image of a class and one of the rest."""
        parts = np.zeros(len(self.truth))
        for c in range(3):
            own = self.truth == c
            wins = (np.sign(np.subtract.outer(scores[own, c], scores[~own, c]).astype(np.float64)) + 1) / 2
            parts[own] += wins.mean(axis=1) / 3
            parts[~own] += wins.mean(axis=0) * np.bincount(self.truth)[self.truth[~own]] / (~own).sum() / 3
        return parts

    def folds(self, name: str, size: str) -> NDArray[Any]:
        """(J,); positives' and negatives' parts are each the whole AUC."""
        return np.array([sum(each[self.truth == c].mean() for c in range(3)) / 2 for each in self.parts[name, size]])

    def overlap(self, size: str) -> float:
        index = self.manifest.sizes.index(size)
        trains = [set(self.manifest.train(each, index).tolist()) for each in self.manifest.draws]
        pairs = [(a, b) for i, a in enumerate(trains) for b in trains[i + 1 :]]
        return min(float(np.mean([len(a & b) / np.sqrt(len(a) * len(b)) for a, b in pairs])), MOST_SHARED)

    def compare(self, one: str, other: str, size: str, level: float = 0.95) -> Comparison:
        gaps = np.array(self.parts[one, size]) - np.array(self.parts[other, size])
        by_class = [gaps[:, self.truth == c] for c in range(3)]
        covariance = sum(np.cov(each) / each.shape[1] for each in by_class)
        own = np.array([each.mean(axis=0).var(ddof=1) / each.shape[1] for each in by_class])
        n = np.array([each.shape[1] for each in by_class])
        df = min(each.sum() ** 2 / sum(each**2 / (n - 1)) for each in (own, 1 / n))  # if images are alike: as 1 / n
        folds = self.folds(one, size) - self.folds(other, size)
        found = crossed(folds, covariance, self.overlap(size), test_df=df, level=level)
        low, high = max(found.difference.low, -1.0), min(found.difference.high, 1.0)  # no AUCs are farther apart
        return replace(found, difference=replace(found.difference, low=low, high=high))

    def versus(self, one: str, other: str, size: str) -> tuple[Comparison, float]:
        found = self.compare(one, other, size, 1 - 0.05 / self.n_comparisons)
        return found, float(np.minimum(1.0, self.n_comparisons * found.p))  # nan stays nan

    def word(self, one: str, other: str, size: str) -> str:
        found, p = self.versus(one, other, size)
        if np.isnan(p):
            return "no test"
        return "no gain shown" if p >= 0.05 else "gain" if found.difference.estimate > 0 else "loss"

    def leader(self, names: Sequence[str], size: str) -> str:
        return max(names, key=lambda name: self.validation(name, size))

    def validation(self, method: str, size: str) -> float:
        m, s = self.run.names.index(method), self.manifest.sizes.index(size)
        values = []
        for each, job in zip(self.manifest.draws, self.run.finished[m, s], strict=True):
            truth = self.manifest.targets.values[self.manifest.validation(each, s)]
            rows = job.validation.astype(np.float64)
            values.append(np.mean([roc_auc_score(truth == c, rows[:, c]) for c in range(3)]))
        return float(np.mean(values))


@pytest.fixture(scope="module")
def by_hand(report: StudyReport) -> _ByHand:
    return _ByHand(report)


def test_cells__marks_are_crossed_tests_against_the_leader_over_all_sizes(
    report: StudyReport, by_hand: _ByHand
) -> None:
    for cell in report.cells:
        leader, own = by_hand.leaders[cell.size], by_hand.folds(cell.method, cell.size)
        assert cell.validation == pytest.approx(by_hand.validation(cell.method, cell.size), abs=1e-6)
        assert cell.test["auc"].folds == pytest.approx(own.tolist())
        highest = max(by_hand.folds(name, cell.size).mean() for name in by_hand.run.names)
        assert cell.is_highest is bool(own.mean() >= highest - 1e-12)
        if cell.method == leader:
            assert (cell.mark, cell.difference, np.isnan(cell.p_adjusted)) == ("*", None, True)
            continue
        expected, p = by_hand.versus(cell.method, leader, cell.size)
        assert cell.p_adjusted == pytest.approx(p, nan_ok=True)
        assert cell.difference is not None
        assert astuple(cell.difference) == pytest.approx(astuple(expected.difference), nan_ok=True)
        words = {"gain": "+", "loss": "", "no gain shown": "=", "no test": "?"}
        assert cell.mark == words[by_hand.word(cell.method, leader, cell.size)]
    assert {cell.mark for cell in report.cells} >= {"*", "="}


def test_cells__intervals_are_those_of_the_run_s_predictions(report: StudyReport, by_hand: _ByHand) -> None:
    units = Units(by_hand.truth)
    for (m, s), jobs in by_hand.run.finished.items():
        (cell,) = [each for each in report.row(*by_hand.run.methods[m]) if each.size == by_hand.manifest.sizes[s]]
        expected = scored(by_hand.truth, [job.test.astype(np.float64) for job in jobs], units, ["auc"])["auc"]
        assert astuple(cell.interval) == pytest.approx(astuple(expected.interval()))


def test_gains__over_every_rival_that_may_be_the_best(report: StudyReport, by_hand: _ByHand) -> None:
    assert [gain.role for gain in report.gains] == ["single backbone", "control"] * 3
    roles = {
        "single backbone": [f"{name} + {head}" for name in "ab" for head in light("linear", "knn")],
        "control": [f"{head} of 2 backbones" for head in light("concat", "mean-logits")],
    }
    for gain in report.gains:
        leader = by_hand.leader(roles[gain.role], gain.size)
        rivals = [m for m in roles[gain.role] if m == leader or by_hand.word(m, leader, gain.size) != "loss"]
        words = {m: by_hand.word(gain.fusion, m, gain.size) for m in rivals}
        assert (gain.fusion, gain.leader) == (f"{named('dvme')} of 2 backbones", leader)
        assert sorted(rival.method for rival in gain.rivals) == sorted(rivals)
        for rival in gain.rivals:
            expected, p = by_hand.versus(gain.fusion, rival.method, gain.size)
            assert (rival.comparison.p, rival.p_adjusted) == pytest.approx((expected.p, p), nan_ok=True)
            assert astuple(rival.comparison.difference) == pytest.approx(astuple(expected.difference), nan_ok=True)
        order = ["loss", "no test", "no gain shown", "gain"]
        assert gain.word == min(words.values(), key=order.index)
        assert gain.word == words[gain.rival]
        told = next(rival for rival in gain.rivals if rival.method == gain.rival)
        assert (gain.comparison, gain.p_adjusted) == (told.comparison, told.p_adjusted)
        folds = by_hand.folds(gain.fusion, gain.size) - by_hand.folds(gain.rival, gain.size)
        assert gain.effect == pytest.approx(paired_effect(folds))
        assert (gain.saved is None) is (gain.role == "control")


def test_gains__labels_saved_take_both_methods_to_the_same_elsewhere(report: StudyReport, by_hand: _ByHand) -> None:
    units, sizes = Units(by_hand.truth), by_hand.manifest.sizes
    n_train = [float(np.mean([each.n_train[s] for each in by_hand.manifest.draws])) for s in range(3)]
    singles = [gain for gain in report.gains if gain.saved is not None]
    assert len(singles) == 3
    for gain in singles:
        cells = []
        for name in (gain.fusion, gain.rival):
            for s in range(3):
                jobs = by_hand.run.finished[by_hand.run.names.index(name), s]
                cells.append(scored(by_hand.truth, [job.test.astype(np.float64) for job in jobs], units)["auc"])
        many = elsewhere(cells, [by_hand.overlap(size) for size in sizes] * 2)
        means = [cell.estimate for cell in cells]
        size = n_train[sizes.index(gain.size)]
        expected = labels_saved(
            n_train, means[:3], means[3:], size=size, resampled_fusion=many[:, :3], resampled_baseline=many[:, 3:]
        )
        assert gain.saved == expected


N_TEST = 60


def _study(n_sizes: int = 3, n_draws: int = 4) -> SubsetManifest:
    """The last 60 images test; sizes of 10, 20, 40."""
    n = 120 + N_TEST
    rng = np.random.default_rng(0)
    draws = []
    for fold in range(n_draws):
        order = rng.permutation(120)
        draws.append(FoldDraw(1, fold + 1, order[:80], order[80:], (10, 20, 40)[:n_sizes], (20,) * n_sizes))
    targets = Targets(("0", "1"), np.arange(n) % 2)
    ids = np.arange(16 * n).astype(np.uint8).reshape(n, 16)
    return SubsetManifest(ids, targets, ("10", "20", "40")[:n_sizes], np.arange(120, n), tuple(draws), {})


def _jobs(manifest: SubsetManifest, signal: float, seed: int, n_draws: int = 4) -> list[FinishedJob]:
    rng = np.random.default_rng(seed)

    def guess(truth: NDArray[Any]) -> NDArray[Any]:
        positive = 1 / (1 + np.exp(-(signal * (2 * truth - 1) + rng.normal(size=len(truth)))))
        return np.log(np.stack([1 - positive, positive], axis=1)).astype(np.float32)

    truth = manifest.targets.values
    return [
        FinishedJob(guess(truth[manifest.test]), guess(truth[manifest.validation(each, 0)]), {}, 1.0, 10)
        for each in manifest.draws[:n_draws]
    ]


METHODS = [("linear", ("a",)), ("linear", ("b",)), ("dvme", ("a", "b")), ("concat", ("a", "b")), ("mlp", ("a", "b"))]


def _judge(manifest: SubsetManifest, finished: Any, methods: Any = METHODS) -> Judge:
    judge = Judge(manifest, methods, finished, Units(manifest.targets.values[manifest.test]), "auc")
    judge.score_all()
    return judge


def test_labels_saved__of_a_method_over_itself_are_none() -> None:
    """Were the two resampled apart, the ends would lie far from 0."""
    manifest = _study()
    finished: dict[tuple[int, int], list[FinishedJob]] = {}
    for size in range(3):
        jobs = _jobs(manifest, 0.2 + 0.8 * size, size)
        finished |= {(0, size): jobs, (1, size): _jobs(manifest, 0.0, 9), (2, size): jobs}
    gains = _judge(manifest, finished, METHODS[:3]).gains()
    assert [gain.rival for gain in gains] == ["a + linear"] * 3
    for gain in gains[1:]:
        assert gain.saved is not None
        ends = gain.saved.estimate, gain.saved.high
        assert [amount.value for amount in ends] == pytest.approx([0, 0], abs=1e-5)
        assert gain.saved.estimate.relation == "="
        assert gain.saved.low.value <= 0
    first = gains[0].saved
    assert first is not None
    assert (first.estimate.value, first.estimate.relation) == (0, "<=")  # the baseline is there at the smallest size


def test_gains__the_best_single_backbone_is_chosen_on_validation_at_each_size() -> None:
    """At 10 the second one leads on validation, whatever the test set says."""
    manifest = _study()
    finished: dict[tuple[int, int], list[FinishedJob]] = {}
    for size in range(3):
        good, bad = _jobs(manifest, 2.0, 1), _jobs(manifest, 0.1, 2)
        tested, chosen = (good, bad) if size == 0 else (bad, good)
        mixed = [
            FinishedJob(t.log_test, c.log_validation, {}, 1.0, 10) for t, c in zip(tested, chosen, strict=True)
        ]  # the first backbone: good on one of the two only
        steady = _jobs(manifest, 1.0, 3)
        finished |= {(0, size): mixed, (1, size): steady, (2, size): _jobs(manifest, 1.5, 4)}
        finished |= {(3, size): _jobs(manifest, 1.2, 5), (4, size): _jobs(manifest, 0.3, 6)}
    judge = _judge(manifest, finished)
    leaders = {gain.size: gain.leader for gain in judge.gains() if gain.role == "single backbone"}
    assert leaders == {"10": "b + linear", "20": "a + linear", "40": "a + linear"}
    assert {gain.leader for gain in judge.gains() if gain.role == "control"} == {"concat of 2 backbones"}
    first = [cell for cell in judge.cells() if cell.size == "10"]
    assert [cell.method for cell in first if cell.is_highest] == ["a + linear"]  # on the test set, which claims nothing
    assert [cell.method for cell in first if cell.mark == "*"] == ["dvme of 2 backbones"]


def test_gains__without_attention_every_fusion_and_without_a_fusion_none() -> None:
    manifest = _study(n_sizes=1)
    finished = {(m, 0): _jobs(manifest, 1.0, m) for m in range(5)}
    plain = [("linear", ("a",)), ("linear", ("b",)), ("concat", ("a", "b")), ("mean-logits", ("a", "b"))]
    gains = _judge(manifest, finished, plain).gains()
    assert [gain.fusion for gain in gains] == ["concat of 2 backbones", "mean-logits of 2 backbones"]
    assert {gain.role for gain in gains} == {"single backbone"}
    assert [gain.saved for gain in gains] == [None, None]  # one size is no curve
    assert _judge(manifest, finished, plain[:2]).gains() == []


def test_cells__strong_and_weak_methods_are_told_apart() -> None:
    manifest = _study(n_sizes=1)
    finished = {(m, 0): _jobs(manifest, signal, m) for m, signal in enumerate((3.0, 3.0, 0.0, 0.0, 0.0))}
    cells: list[Cell] = _judge(manifest, finished).cells()
    assert sorted(cell.mark for cell in cells[:2]) == ["*", "="]
    assert [cell.mark for cell in cells[2:]] == [""] * 3


def test_cells__a_single_method_and_a_class_that_validation_lacks() -> None:
    manifest = _study(n_sizes=1)
    even = np.flatnonzero(manifest.targets.values[:120] == 0)
    one = FoldDraw(1, 1, np.setdiff1d(np.arange(120), even[:20]), even[:20], (10,), (20,))
    lacking = SubsetManifest(**(vars(manifest) | {"draws": (one, *manifest.draws[1:])}))
    jobs = _jobs(lacking, 1.0, 0)
    (cell,) = _judge(lacking, {(0, 0): jobs}, METHODS[:1]).cells()
    assert (cell.mark, cell.is_highest) == ("*", True)
    known = [
        roc_auc_score(lacking.targets.values[lacking.validation(each, 0)], job.validation[:, 1])
        for each, job in list(zip(lacking.draws, jobs, strict=True))[1:]
    ]
    assert cell.validation == pytest.approx(np.mean(known))  # of the draws that have both classes
    nowhere = SubsetManifest(**(vars(manifest) | {"draws": (one,) * 4}))
    (cell,) = _judge(nowhere, {(0, 0): _jobs(nowhere, 1.0, 0)}, METHODS[:1]).cells()
    assert np.isnan(cell.validation)
    assert (cell.mark, cell.is_highest) == ("?", True)


def test_judge__draws_of_the_same_rows_share_all_but_their_seeds() -> None:
    manifest = _study(n_sizes=1)
    same = SubsetManifest(**(vars(manifest) | {"draws": (manifest.draws[0],) * 4}))
    finished = {(0, 0): _jobs(manifest, 1.0, 0)}
    assert _judge(same, finished, METHODS[:1]).shared_rows[0] == MOST_SHARED
    shared = _judge(manifest, finished, METHODS[:1]).shared_rows[0]
    assert shared == pytest.approx(_overlap(manifest))


def _overlap(manifest: SubsetManifest) -> float:
    trains = [set(manifest.train(each, 0).tolist()) for each in manifest.draws]
    return float(np.mean([len(a & b) / 10 for i, a in enumerate(trains) for b in trains[i + 1 :]]))


def test_judge__two_test_images_of_a_class_are_too_few() -> None:
    manifest = _study(n_sizes=1)
    small = SubsetManifest(**(vars(manifest) | {"test": manifest.test[[0, 2, 4, 6, 8, 1, 3]]}))
    judge = _judge(small, {(m, 0): _jobs(small, 1.0, m) for m in range(3)}, METHODS[:3])
    cells = judge.cells()
    assert all(np.isnan(cell.interval.low) for cell in cells)
    assert sorted(cell.mark for cell in cells) == ["*", "?", "?"]
    assert all(np.isnan(cell.p_adjusted) for cell in cells)
    assert [gain.word for gain in judge.gains()] == ["no test"]
