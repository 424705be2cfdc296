"""Do the intervals that are printed cover what they should, in test sets of every kind?

Fixed scorers on fresh Gaussian images: their true AUCs are known, and how often they take one class for another, which
gives the other metrics. Differences of methods and labels saved are of trained heads (tests/support/simulated.py).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from simulated import SETTINGS, Setting, patients_of, standing_of, studies

from dvme.metrics.classification import METRICS
from dvme.stats.curves import Amount, labels_saved
from dvme.stats.elsewhere import elsewhere
from dvme.stats.influence import Scored, scored
from dvme.stats.intervals import percentile_interval
from dvme.stats.units import Units

pytestmark = pytest.mark.bench
LEAST = 0.92
N_STUDIES, N_TABLES = 1000, 1000
N_FOLDS, COMMON = 5, 0.7
"""Heads of a scorer, and the part of their noise that they have in common."""
ALIKE = 0.5
"""The part of it that two scorers have in common, and that the images of a patient have."""
USUAL, NEAR_1 = (0.85,), (0.98, 0.99, 0.995, 0.999)
"""True AUCs of the better scorer."""


@dataclass(frozen=True)
class Scorers:
    """Two scorers, one with the AUC and one with less, on a test set like that of a setting."""

    setting: Setting
    auc: float
    is_ordinal: bool = False
    """Classes are grades on one axis, and a score takes a grade for the next one more often than for others."""

    @property
    def separations(self) -> NDArray[np.float64]:
        """(2,) of the two: the second makes half as many errors again in ranking."""
        aucs = np.array([self.auc, 1 - 1.5 * (1 - self.auc)])
        separations: NDArray[np.float64] = np.sqrt(2) * ndtri(aucs)
        return separations

    def drawn(self, rng: np.random.Generator) -> tuple[Units, list[list[NDArray[np.float64]]]]:
        """Fresh images, and by scorer and head (N, C) scores."""
        labels = np.repeat(np.arange(self.setting.n_classes), self.setting.test)
        patients = patients_of(self.setting, labels, rng)
        n_axes = 1 if self.is_ordinal else self.setting.n_classes
        both = _noise((1, 1, len(labels), n_axes), patients, rng)
        of_scorer = np.sqrt(ALIKE) * both + np.sqrt(1 - ALIKE) * _noise((2, 1, len(labels), n_axes), patients, rng)
        noise = np.sqrt(COMMON) * of_scorer
        noise = noise + np.sqrt(1 - COMMON) * _noise((2, N_FOLDS, len(labels), n_axes), patients, rng)
        means = self._grades if self.is_ordinal else np.eye(n_axes)
        found = []
        for separation, heads in zip(self.separations, noise, strict=True):
            x = heads + separation * means[labels]
            found.append(list(self._columns(separation, x) if self.is_ordinal else x))
        return Units(labels, patients), found

    def truth(self) -> dict[str, NDArray[np.float64]]:
        """(2,) by metric."""
        each = [self._truth_of(separation) for separation in self.separations]
        return {metric: np.array([one[metric] for one in each]) for metric in METRICS}

    @property
    def _grades(self) -> NDArray[np.float64]:
        """(C, 1) one after the other, none of them at 0."""
        return np.arange(self.setting.n_classes)[:, None] - 1.4

    def _columns(self, separation: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The log of the density of each grade at x, but for what all have in common: lines in x."""
        grades = separation * self._grades[:, 0]
        columns: NDArray[np.float64] = x * grades - grades**2 / 2
        return columns

    def _truth_of(self, separation: float) -> dict[str, float]:
        n_classes, counts = self.setting.n_classes, np.array(self.setting.test)
        if self.is_ordinal:
            grades = separation * self._grades[:, 0]
            cuts = np.r_[-np.inf, (grades[1:] + grades[:-1]) / 2, np.inf]
            confusion = np.diff(ndtr(cuts - grades[:, None]), axis=1)
            above = ndtr((grades[:, None] - grades) * np.sign(grades[:, None]) / np.sqrt(2))
        else:
            u = np.linspace(-12, 12, 20001)
            right = np.trapezoid(
                np.exp(-((u - separation) ** 2) / 2) / np.sqrt(2 * np.pi) * ndtr(u) ** (n_classes - 1), u
            )
            confusion = np.full((n_classes, n_classes), (1 - right) / (n_classes - 1))
            np.fill_diagonal(confusion, right)
            above = np.full((n_classes, n_classes), ndtr(separation / np.sqrt(2)))
        problems = [1] if n_classes == 2 else range(n_classes)
        rest = [[k for k in range(n_classes) if k != c] for c in range(n_classes)]
        share, i = counts / counts.sum(), np.arange(n_classes)
        table = share[:, None] * confusion
        apart, predicted = (table * (i[:, None] - i) ** 2).sum(), table.sum(axis=0)
        chance = share @ i**2 + predicted @ i**2 - 2 * (share @ i) * (predicted @ i)
        return {
            "auc": float(np.mean([np.average(above[c, rest[c]], weights=counts[rest[c]]) for c in problems])),
            "accuracy": float(share @ np.diag(confusion)),
            "balanced_accuracy": float(np.diag(confusion).mean()),
            "kappa": float(1 - apart / chance),
        }


def _noise(
    shape: tuple[int, int, int, int], patients: NDArray[np.intp] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    noise = rng.standard_normal(shape)
    if patients is None:
        return noise
    of_patients = rng.standard_normal((*shape[:2], int(patients.max()) + 1, shape[3]))
    mixed: NDArray[np.float64] = np.sqrt(1 - ALIKE) * noise + np.sqrt(ALIKE) * of_patients[:, :, patients]
    return mixed


def _plain(*test: int, **others: object) -> Setting:
    return replace(SETTINGS["5 folds of 200 rows"], test=test, **others)


GRADES = SETTINGS["grades 49:10:27:5:9"]
SCORERS = {
    **{name: (setting, USUAL, False) for name, setting in SETTINGS.items()},
    "5 + 5": (_plain(5, 5), USUAL, False),
    "12 + 12": (_plain(12, 12), USUAL + NEAR_1, False),
    **{f"{n} of 100 positive, near 1": (_plain(100 - n, n), NEAR_1, False) for n in (3, 4, 5, 7, 10)},
    "100 + 100, near 1": (_plain(100, 100), NEAR_1, False),
    "patients of 1 to 12, near 1": (_plain(300, 100, patients=(1, 12)), NEAR_1, False),
    "patients, 30 positive images, near 1": (_plain(400, 30, patients=(1, 12)), NEAR_1, False),
    "patients of both classes, near 1": (_plain(60, 40, patients=(1, 12), is_mixed=True), NEAR_1, False),
    "grades 49:10:27:5:9, near 1": (GRADES, NEAR_1, False),
    "grades in order": (GRADES, (0.75, 0.85, *NEAR_1), True),
    "grades in order, 5 times as many": (replace(GRADES, test=tuple(5 * n for n in GRADES.test)), (0.75, 0.95), True),
}
"""By name: the test set, true AUCs (of grades in order: of two next to each other), and whether grades are in order."""


@pytest.mark.parametrize("name", SCORERS)
def test_interval__covers(name: str) -> None:
    """Of every metric of a fixed scorer, and of its difference from one with fewer errors on the same images."""
    setting, aucs, is_ordinal = SCORERS[name]
    lowest = {}
    for auc in aucs:
        started, scorers = time.perf_counter(), Scorers(setting, auc, is_ordinal)
        alone, differences = _covered(scorers, seed=list(SCORERS).index(name))
        truth = scorers.truth()
        print(f"\n{name}, true {auc:g}; covered, where an interval is given (of how many of the differences):", end="")
        for metric in METRICS:
            given = differences[metric][~np.isnan(differences[metric])]
            lowest[auc, metric] = alone[metric].mean()
            lowest[auc, f"difference of {metric}"] = given.mean() if len(given) > N_STUDIES / 2 else 1.0
            print(
                f"\n  {metric:18s}{truth[metric][0]:6.3f} {_percent(alone[metric])}; "
                f"difference {_percent(given)} ({len(given) / N_STUDIES:.2f})",
                end="",
            )
        print(f"  [{time.perf_counter() - started:.0f} s]")
    missed = {what: share for what, share in lowest.items() if share < LEAST}
    assert not missed


def _covered(scorers: Scorers, seed: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """By metric (n,) of whether the truth is in the interval; nan where none is given."""
    rng, truth = np.random.default_rng(seed), scorers.truth()
    alone, differences = defaultdict(list), defaultdict(list)
    for _ in range(N_STUDIES):
        units, heads = scorers.drawn(rng)
        one, other = (scored(units.labels, each, units) for each in heads)
        for metric in METRICS:
            alone[metric].append(_is_in(one[metric], truth[metric][0]))
            differences[metric].append(_is_in(one[metric] - other[metric], truth[metric][0] - truth[metric][1]))
    return {m: np.array(each) for m, each in alone.items()}, {m: np.array(each) for m, each in differences.items()}


def _is_in(found: Scored, true: float) -> float:
    interval = found.interval()
    return float("nan") if np.isnan(interval.low) else float(interval.low - 1e-9 <= true <= interval.high + 1e-9)


def _percent(values: NDArray[np.float64]) -> str:
    if not len(values):
        return "(none)"
    share = float(np.mean(values))
    return f"{100 * share:5.1f} +- {100 * np.sqrt(share * (1 - share) / len(values)):.1f} %"


TABLES: Mapping[str, Sequence[float]] = {
    "15 equal": [0.0] * 15,
    "15 on a ladder": list(np.linspace(0.0, 1.0, 15)),
    "14 equal ones below the leader": [0.0] * 14 + [0.4],
    "14 equal ones far below the leader": [0.0] * 14 + [1.0],
}
"""By name: what is added to the methods' separations."""


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "name", ["25 of 2,500 positive", "10 of 100 positive", "5 folds of 200 rows", "20 of 1000 rows"]
)
def test_standing__intervals_of_a_table_cover_together(name: str, table: str) -> None:
    """All methods against the one that leads on validation: every true difference is in its interval."""
    setting, started = SETTINGS[name], time.perf_counter()
    separations = setting.separation + np.array(TABLES[table])
    found, truths = [], []
    for study in studies(setting, separations, N_TABLES, seed=list(SETTINGS).index(name)):
        standing = standing_of(study)
        leader = standing.leader(0)
        others = [m for m in standing.methods if m != leader]
        found.append((leader, others, [standing.versus(m, leader, 0).comparison.difference for m in others]))
        truths.append(study.true_aucs[0].mean(axis=1))
    true = np.mean(truths, axis=0)
    covered = [
        [each.low <= true[m] - true[leader] <= each.high for m, each in zip(others, intervals, strict=True)]
        for leader, others, intervals in found
    ]
    together = np.all(covered, axis=1).astype(float)
    print(
        f"\n{name}, {table} (true AUC {true.min():.3f} to {true.max():.3f}): {_percent(together)} of tables have all "
        f"true differences in their intervals, {_percent(np.ravel(covered).astype(float))} of the intervals do  "
        f"[{time.perf_counter() - started:.0f} s]"
    )
    assert together.mean() >= LEAST


CURVES = {
    "5 folds of 200 rows": SETTINGS["5 folds of 200 rows"],
    "10 of 100 positive": SETTINGS["10 of 100 positive"],
    "grades 49:10:27:5:9": SETTINGS["grades 49:10:27:5:9"],
    "80 of 1000 rows": replace(SETTINGS["20 of 1000 rows"], n_drawn=80),
}
SHARES = (0.25, 0.5, 1.0)


@pytest.mark.parametrize("name", CURVES)
def test_elsewhere__percentile_intervals_cover(name: str) -> None:
    """A fusion and a single backbone at three nested sizes: labels saved at the smallest, and differences at each.

    The scores' own intervals are not printed anywhere: `Scored.interval` is better where few images of a class decide.
    """
    setting, started = CURVES[name], time.perf_counter()
    separations = [setting.better, setting.separation]
    n_train = np.round(np.array(SHARES) * (setting.n_drawn or 0.8 * sum(setting.pool)))
    drawn, means, truths = [], [], []
    for study in studies(setting, separations, N_TABLES, seed=list(CURVES).index(name), shares=SHARES):
        cells = [study.scored[size][m] for m in (0, 1) for size in range(3)]
        drawn.append(elsewhere(cells, study.shared_rows * 2))
        means.append([cell.estimate for cell in cells])
        truths.append(study.true_aucs.mean(axis=2).T.ravel())
    true = np.mean(truths, axis=0)
    saved = [_saved(n_train, mean, many) for mean, many in zip(means, drawn, strict=True)]
    amount = _saved(n_train, true, true[None])[0]
    of_saved = np.array([float(low <= amount <= high) for _, low, high in saved])
    scores = np.array(
        [[_holds(m[k], many[:, k], true[k]) for k in range(6)] for m, many in zip(means, drawn, strict=True)]
    )
    gaps = [
        _holds(m[k] - m[3 + k], many[:, k] - many[:, 3 + k], true[k] - true[3 + k])
        for m, many in zip(means, drawn, strict=True)
        for k in range(3)
    ]
    print(
        f"\n{name}: {amount:.0f} labels saved beside {n_train[0]:.0f}: covered {_percent(of_saved)} (bounds: "
        f"{np.mean([np.isinf(low) for _, low, _ in saved]):.2f} below, {np.mean([np.isinf(h) for *_, h in saved]):.2f} "
        f"above); scores {_percent(scores.ravel())}, differences at a size {_percent(np.array(gaps))}  "
        f"[{time.perf_counter() - started:.0f} s]"
    )
    assert np.isfinite(amount)
    assert min(of_saved.mean(), np.mean(gaps)) >= LEAST


def _saved(
    n_train: NDArray[np.float64], means: Sequence[float], many: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Labels saved at the smallest size, with the interval; what lies beyond the sweep is infinite."""
    found = labels_saved(
        n_train,
        means[:3],
        means[3:],
        size=n_train[0],
        resampled_fusion=many[:, :3],
        resampled_baseline=many[:, 3:],
    )
    return _value(found.estimate), _value(found.low), _value(found.high)


def _value(amount: Amount) -> float:
    return {"=": amount.value, ">=": np.inf, "<=": -np.inf}[amount.relation]


def _holds(estimate: float, many: NDArray[np.float64], true: float) -> float:
    interval = percentile_interval(estimate, many)
    return float(interval.low <= true <= interval.high)
