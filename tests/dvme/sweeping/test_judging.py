from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import dvme
from dvme.evaluation import study
from dvme.sampling.manifest import Draw, SubsetManifest
from dvme.sampling.options import SubsetOptions
from dvme.stats import crossed, draw, holm, labels_saved, paired_effect, resample
from dvme.sweeping.judging import MOST_SHARED, Judge
from dvme.sweeping.ledger import FinishedJob
from dvme.sweeping.outcome import Cell, Gain, SweepReport
from dvme.sweeping.run import Run

HEADS = ("linear", "knn", "dvme", "concat", "mean-logits")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> SweepReport:
    folder = tmp_path_factory.mktemp("judged") / "run"
    found: SweepReport = dvme.sweep(cache, folder, heads=light(*HEADS), options=options, controls=False)
    return found


class _ByHand:
    """The statistics from the run's folder alone: its predictions, its manifest and dvme.stats."""

    def __init__(self, report: SweepReport) -> None:
        self.run = Run.load(report.run)
        self.manifest = self.run.manifest
        self.truth = self.manifest.class_indices()[self.manifest.test]
        draws = draw(self.truth, None, seed=zlib.crc32(b"bootstrap 0"), n_resamples=2000)
        self.resampled = {
            self.place(method, size): resample(self.truth, [job.test.astype(np.float64) for job in jobs], draws)["auc"]
            for (method, size), jobs in self.run.finished.items()
        }

    def place(self, method: int, size: int) -> tuple[str, str]:
        return self.run.names[method], self.manifest.sizes[size]

    def overlap(self, size: str) -> float:
        index = self.manifest.sizes.index(size)
        trains = [set(self.manifest.train(each, index).tolist()) for each in self.manifest.draws]
        pairs = [(a, b) for i, a in enumerate(trains) for b in trains[i + 1 :]]
        return min(float(np.mean([len(a & b) / np.sqrt(len(a) * len(b)) for a, b in pairs])), MOST_SHARED)

    def compare(self, one: str, other: str, size: str) -> Any:
        gap = self.resampled[one, size] - self.resampled[other, size]
        return crossed(gap.folds, gap.test_covariance, self.overlap(size))

    def validation(self, method: str, size: str) -> float:
        m, s = self.run.names.index(method), self.manifest.sizes.index(size)
        values = []
        for each, job in zip(self.manifest.draws, self.run.finished[m, s], strict=True):
            truth = self.manifest.class_indices()[self.manifest.validation(each, s)]
            rows = job.validation.astype(np.float64)
            values.append(np.mean([roc_auc_score(truth == c, rows[:, c]) for c in range(3)]))
        return float(np.mean(values))


def test_cells__marks_are_crossed_tests_against_the_best_under_holm_within_the_size(report: SweepReport) -> None:
    by_hand = _ByHand(report)
    for size in by_hand.manifest.sizes:
        cells = [cell for cell in report.cells if cell.size == size]
        best = max(cells, key=lambda cell: cell.test["auc"].mean)
        others = [cell for cell in cells if cell is not best]
        expected = holm([by_hand.compare(best.method, cell.method, size).p for cell in others])
        assert best.is_best
        assert np.isnan(best.p_worse)
        assert [cell.p_worse for cell in others] == pytest.approx(expected.tolist(), abs=1e-9)
        assert not any(cell.is_best for cell in others)
        for cell, p in zip(others, expected, strict=True):
            assert cell.is_equal is bool(p >= 0.05)
        for cell in cells:
            own = by_hand.resampled[cell.method, size]
            assert (cell.interval.low, cell.interval.high) == pytest.approx((own.interval().low, own.interval().high))
            assert cell.validation == pytest.approx(by_hand.validation(cell.method, size), abs=1e-6)


def test_gains__rivals_lead_on_validation_and_holm_is_over_all_of_them(report: SweepReport) -> None:
    by_hand = _ByHand(report)
    fusion = "dvme of 2 backbones"
    assert [gain.role for gain in report.gains] == ["best single backbone", "best control"] * 3
    roles = {
        "best single backbone": [f"{name} + {head}" for name in "ab" for head in ("linear", "knn")],
        "best control": ["concat of 2 backbones", "mean-logits of 2 backbones"],
    }
    comparisons = []
    for gain in report.gains:
        assert gain.fusion == fusion
        assert gain.rival == max(roles[gain.role], key=lambda name: by_hand.validation(name, gain.size))
        comparisons.append(by_hand.compare(fusion, gain.rival, gain.size))
        assert gain.comparison.p == pytest.approx(comparisons[-1].p)
        assert gain.comparison.difference.low == pytest.approx(comparisons[-1].difference.low)
        folds = by_hand.resampled[fusion, gain.size].folds - by_hand.resampled[gain.rival, gain.size].folds
        assert gain.effect == pytest.approx(paired_effect(folds))
        assert (gain.saved is None) is (gain.role == "best control")
    adjusted = holm([each.p for each in comparisons])
    assert [gain.p_adjusted for gain in report.gains] == pytest.approx(adjusted.tolist())
    for gain in report.gains:
        assert gain.word == _word(gain)


def _word(gain: Gain) -> str:
    if gain.p_adjusted < 0.05:
        return "gain" if gain.comparison.difference.estimate > 0 else "loss"
    return "no gain shown"


def test_gains__labels_saved_take_both_methods_on_the_same_resamples(report: SweepReport) -> None:
    """Test images by the bootstrap; draws by the very same ones for both methods and all sizes."""
    by_hand = _ByHand(report)
    sizes = by_hand.manifest.sizes
    n_train = [float(np.mean([each.n_train[s] for each in by_hand.manifest.draws])) for s in range(3)]
    chosen = np.random.default_rng(0).integers(0, 3, (2000, 3))

    def curves(method: str) -> tuple[list[float], NDArray[Any]]:
        own = [by_hand.resampled[method, size] for size in sizes]
        columns = [one.resampled + (one.folds[chosen].mean(axis=1) - one.folds.mean()) * np.sqrt(3 / 2) for one in own]
        return [one.estimate for one in own], np.stack(columns, axis=1)

    singles = [gain for gain in report.gains if gain.saved is not None]
    assert len(singles) == 3
    for gain in singles:
        (ours, many), (theirs, their_many) = curves(gain.fusion), curves(gain.rival)
        size = n_train[sizes.index(gain.size)]
        expected = labels_saved(n_train, ours, theirs, size=size, resampled_fusion=many, resampled_baseline=their_many)
        assert gain.saved == expected


N_TEST = 60


def _study(n_sizes: int = 3, n_draws: int = 4) -> SubsetManifest:
    """The last 60 images test; sizes of 10, 20, 40."""
    n = 120 + N_TEST
    rng = np.random.default_rng(0)
    draws = []
    for fold in range(n_draws):
        order = rng.permutation(120)
        draws.append(Draw(1, fold + 1, order[:80], order[80:], (10, 20, 40)[:n_sizes], (20,) * n_sizes))
    labels = tuple((i % 2,) for i in range(n))
    ids = np.arange(16 * n).astype(np.uint8).reshape(n, 16)
    return SubsetManifest(ids, labels, ("0", "1"), ("10", "20", "40")[:n_sizes], np.arange(120, n), tuple(draws), {})


def _jobs(manifest: SubsetManifest, signal: float, seed: int, n_draws: int = 4) -> list[FinishedJob]:
    rng = np.random.default_rng(seed)

    def guess(truth: NDArray[Any]) -> NDArray[Any]:
        positive = 1 / (1 + np.exp(-(signal * (2 * truth - 1) + rng.normal(size=len(truth)))))
        return np.stack([1 - positive, positive], axis=1).astype(np.float32)

    truth = manifest.class_indices()
    return [
        FinishedJob(guess(truth[manifest.test]), guess(truth[manifest.validation(each, 0)]), {}, 1.0, 10)
        for each in manifest.draws[:n_draws]
    ]


METHODS = [("linear", ("a",)), ("linear", ("b",)), ("dvme", ("a", "b")), ("concat", ("a", "b")), ("mlp", ("a", "b"))]


def _judge(manifest: SubsetManifest, finished: Any, methods: Any = METHODS) -> Judge:
    draws, _ = study.test_draws(manifest.class_indices()[manifest.test], np.full(N_TEST, "", dtype=object), 0)
    judge = Judge(manifest, methods, finished, draws, "auc")
    judge.resample_all()
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
        assert [amount.value for amount in ends] == pytest.approx([0, 0], abs=1e-9)
        assert [amount.relation for amount in ends] == ["=", "="]
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
            FinishedJob(t.test, c.validation, {}, 1.0, 10) for t, c in zip(tested, chosen, strict=True)
        ]  # the first backbone: good on one of the two only
        steady = _jobs(manifest, 1.0, 3)
        finished |= {(0, size): mixed, (1, size): steady, (2, size): _jobs(manifest, 1.5, 4)}
        finished |= {(3, size): _jobs(manifest, 1.2, 5), (4, size): _jobs(manifest, 0.3, 6)}
    judge = _judge(manifest, finished)
    rivals = {gain.size: gain.rival for gain in judge.gains() if gain.role == "best single backbone"}
    assert rivals == {"10": "b + linear", "20": "a + linear", "40": "a + linear"}
    assert {gain.rival for gain in judge.gains() if gain.role == "best control"} == {"concat of 2 backbones"}
    best = [cell.method for cell in judge.cells() if cell.is_best]
    assert best[0] == "a + linear"  # the mark is of the test set, and says so


def test_gains__without_attention_every_fusion_and_without_a_fusion_none() -> None:
    manifest = _study(n_sizes=1)
    finished = {(m, 0): _jobs(manifest, 1.0, m) for m in range(5)}
    plain = [("linear", ("a",)), ("linear", ("b",)), ("concat", ("a", "b")), ("mean-logits", ("a", "b"))]
    gains = _judge(manifest, finished, plain).gains()
    assert [gain.fusion for gain in gains] == ["concat of 2 backbones", "mean-logits of 2 backbones"]
    assert {gain.role for gain in gains} == {"best single backbone"}
    assert [gain.saved for gain in gains] == [None, None]  # one size is no curve
    assert _judge(manifest, finished, plain[:2]).gains() == []


def test_cells__strong_and_weak_methods_are_told_apart() -> None:
    manifest = _study(n_sizes=1)
    finished = {(m, 0): _jobs(manifest, signal, m) for m, signal in enumerate((3.0, 3.0, 0.0, 0.0, 0.0))}
    cells: list[Cell] = _judge(manifest, finished).cells()
    assert [cell.is_best or cell.is_equal for cell in cells] == [True, True, False, False, False]


def test_cells__a_single_method_and_a_class_that_validation_lacks() -> None:
    manifest = _study(n_sizes=1)
    even = np.flatnonzero(manifest.class_indices()[:120] == 0)
    one = Draw(1, 1, np.setdiff1d(np.arange(120), even[:20]), even[:20], (10,), (20,))
    lacking = SubsetManifest(**(vars(manifest) | {"draws": (one, *manifest.draws[1:])}))
    jobs = _jobs(lacking, 1.0, 0)
    (cell,) = _judge(lacking, {(0, 0): jobs}, METHODS[:1]).cells()
    assert cell.is_best
    known = [
        roc_auc_score(lacking.class_indices()[lacking.validation(each, 0)], job.validation[:, 1])
        for each, job in list(zip(lacking.draws, jobs, strict=True))[1:]
    ]
    assert cell.validation == pytest.approx(np.mean(known))  # of the draws that have both classes
    nowhere = SubsetManifest(**(vars(manifest) | {"draws": (one,) * 4}))
    (cell,) = _judge(nowhere, {(0, 0): _jobs(nowhere, 1.0, 0)}, METHODS[:1]).cells()
    assert np.isnan(cell.validation)


def test_judge__draws_of_the_same_rows_share_all_but_their_seeds() -> None:
    manifest = _study(n_sizes=1)
    same = SubsetManifest(**(vars(manifest) | {"draws": (manifest.draws[0],) * 4}))
    finished = {(0, 0): _jobs(manifest, 1.0, 0)}
    assert _judge(same, finished, METHODS[:1]).shared_rows(0) == MOST_SHARED
    shared = _judge(manifest, finished, METHODS[:1]).shared_rows(0)
    assert shared == pytest.approx(_overlap(manifest))


def _overlap(manifest: SubsetManifest) -> float:
    trains = [set(manifest.train(each, 0).tolist()) for each in manifest.draws]
    return float(np.mean([len(a & b) / 10 for i, a in enumerate(trains) for b in trains[i + 1 :]]))


def test_judge__a_test_set_too_small_to_resample() -> None:
    manifest = _study(n_sizes=1)
    small = SubsetManifest(**(vars(manifest) | {"test": manifest.test[:8]}))
    draws, line = study.test_draws(small.class_indices()[small.test], np.full(8, "", dtype=object), 0)
    assert "8 test images are too few for an interval" in line
    judge = Judge(small, METHODS[:2], {(m, 0): _jobs(small, 1.0, m) for m in (0, 1)}, draws, "auc")
    judge.resample_all()
    cells = judge.cells()
    assert all(np.isnan(cell.interval.low) for cell in cells)
    assert not any(cell.p_worse < 0.05 for cell in cells)
