"""Do the tests keep their level, and do the intervals cover, in studies like ours?

Two backbones of equal worth: independent views of the same Gaussian classes. Folds' heads of both are tested on one
shared test set. Two things can be asked of a difference, and a test that answers one may fail at the other: is there
none on average over training sets (true here by symmetry), and is there none between these very heads on all images
(their true AUCs are known, so the interval of the difference must cover the true one).
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from dvme.stats import (
    Comparison,
    Interval,
    crossed,
    delong,
    draw,
    nadeau_bengio,
    overlap,
    paired_bootstrap,
    resample,
    two_sample_t,
    welch,
)

N_STUDIES = 2000
N_RESAMPLES = 400
N_FOLDS = 5
LEVEL = 0.05
LOWEST = 0.01
"""Of the crossed test, which is careful where training sets overlap."""
NADEAU_BENGIO = 0.2
"""Their correlation for five folds; tried in the crossed test in place of the overlap."""


@dataclass(frozen=True)
class Setting:
    """A study that is repeated with other images."""

    n_classes: int
    n_pool: int
    n_train: int | None
    """Rows drawn from the pool for each fold; None: plain cross-validation of the pool."""
    n_test: int
    dim: int = 10
    separation: float = 1.5
    """Distance of two class means in standard deviations."""
    shared: float = 0.0
    """Part of the noise that both views have in common."""
    anisotropy: float = 0.0
    """Standard deviations of the features are spread over exp(-anisotropy) to exp(anisotropy)."""
    per_patient: int = 1
    """Test images of one patient, who has one class and half of the noise."""
    ridge: float = 0.01
    """Of the least-squares head, per training row. A very large one makes it the difference of the class means."""


SETTINGS = {
    "2 classes, 5 folds of 200": Setting(2, 200, None, 200),
    "4 classes, 5 folds of 200": Setting(4, 200, None, 200),
    "2 classes, 5 folds of 100, 20 features, views share half their noise": Setting(2, 100, None, 300, 20, shared=0.5),
    "2 classes, 5 folds of 60, 30 features": Setting(2, 60, None, 300, 30, separation=2.0),
    "2 classes, 5 folds of 2000, biased heads": Setting(2, 2000, None, 300, anisotropy=1.5, ridge=1e4),
    "2 classes, 80 of 160 rows": Setting(2, 160, 80, 300),
    "2 classes, 40 of 1000 rows": Setting(2, 1000, 40, 200),
    "4 classes, 20 of 1000 rows": Setting(4, 1000, 20, 200),
    "2 classes, 40 of 1000 rows, 4 test images a patient": Setting(2, 1000, 40, 240, per_patient=4),
}


@dataclass(frozen=True)
class Study:
    """One draw of everything."""

    labels: NDArray[np.intp]
    scores: NDArray[np.float64]
    """(2, J, n_test, C) of both methods' heads."""
    true_aucs: NDArray[np.float64]
    """(2, J) of the heads on all images."""
    trains: list[NDArray[np.intp]]
    patients: NDArray[np.intp] | None
    """(n_test,), if there is more than one image of each."""


def _means_and_deviations(setting: Setting) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    means = np.eye(setting.n_classes, setting.dim) * setting.separation / np.sqrt(2)
    if setting.anisotropy:
        along = np.full(setting.dim, setting.separation / 2 / np.sqrt(setting.dim))
        means = np.stack([-along, along])
    return means, np.exp(np.linspace(-1, 1, setting.dim) * setting.anisotropy)


def _images(
    setting: Setting, n: int, rng: np.random.Generator, patients: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Labels in turn, and (2, n, D) features."""
    means, deviations = _means_and_deviations(setting)
    labels = np.arange(n) % setting.n_classes
    common, own = rng.normal(size=(n, setting.dim)), rng.normal(size=(2, n, setting.dim))
    if patients is not None:
        own = np.sqrt(0.5) * (own + rng.normal(size=own.shape)[:, patients])
    noise = np.sqrt(setting.shared) * common + np.sqrt(1 - setting.shared) * own
    return labels, means[labels] + deviations * noise


def _trains(setting: Setting, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows of each fold, stratified. Labels go in turn, so rows of one turn are one of every class."""
    turns = setting.n_pool // setting.n_classes
    if setting.n_train is None:
        parts = np.array_split(rng.permutation(turns), N_FOLDS)
        chosen = [np.setdiff1d(np.arange(turns), part) for part in parts]
    else:
        chosen = [rng.permutation(turns)[: setting.n_train // setting.n_classes] for _ in range(N_FOLDS)]
    return [(some[:, None] * setting.n_classes + np.arange(setting.n_classes)).ravel() for some in chosen]


def _study(setting: Setting, rng: np.random.Generator) -> Study:
    """Least squares on the classes' indicators: linear discriminant analysis, but for the length of the weights."""
    labels, pool = _images(setting, setting.n_pool, rng)
    turns, place = np.divmod(np.arange(setting.n_test), setting.n_classes)
    patients = turns // setting.per_patient * setting.n_classes + place if setting.per_patient > 1 else None
    test_labels, test = _images(setting, setting.n_test, rng, patients)
    trains = _trains(setting, rng)
    rows = np.stack(trains)
    features = pool[:, rows]  # (2, J, n, D)
    features = features - features.mean(axis=2, keepdims=True)
    targets = (labels[rows][..., None] == np.arange(setting.n_classes)) - 1.0 / setting.n_classes
    turned = np.swapaxes(features, -1, -2)
    scatter = turned @ features + setting.ridge * rows.shape[1] * np.eye(setting.dim)
    weights = np.linalg.solve(scatter, turned @ targets[None])  # (2, J, D, C)
    return Study(test_labels, test[:, None] @ weights, _true_aucs(setting, weights), trains, patients)


def _true_aucs(setting: Setting, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro AUC on all images: a linear score of Gaussians is Gaussian."""
    means, deviations = _means_and_deviations(setting)
    classes = [1] if setting.n_classes == 2 else range(setting.n_classes)
    areas = []
    for c in classes:
        direction = weights[..., c]  # (2, J, D)
        length = np.sqrt(2) * np.linalg.norm(direction * deviations, axis=-1)
        areas += [ndtr(direction @ (means[c] - mean) / length) for k, mean in enumerate(means) if k != c]
    return np.mean(areas, axis=0)


def _tested(study: Study, seed: int) -> tuple[dict[str, Comparison], Interval]:
    """Every offered test of the two methods, and the interval of the first."""
    draws = draw(study.labels, study.patients, seed=seed, n_resamples=N_RESAMPLES)
    heads = [list(scores) for scores in study.scores]
    one, other = (resample(study.labels, folds, draws, ["auc"])["auc"] for folds in heads)
    gap, n_train = one - other, len(study.trains[0])
    found = delong(study.labels, *heads)
    tests = {
        "paired bootstrap": paired_bootstrap(one, other),
        "DeLong": Comparison(found.difference, found.p, found.z, float("inf")),
        "Nadeau-Bengio": nadeau_bengio(gap.folds, n_train, len(study.labels)),
        "Welch": welch(one.folds, other.folds),
        "two-sample t": two_sample_t(one.folds, other.folds),
        "crossed": crossed(gap.folds, gap.test_covariance, overlap(study.trains), test_df=gap.test_df),
        "crossed, r = 0.2": crossed(gap.folds, gap.test_covariance, NADEAU_BENGIO, test_df=gap.test_df),
    }
    return tests, one.interval()


@pytest.mark.bench
@pytest.mark.parametrize("name", SETTINGS)
def test_statistics__levels_and_coverage(name: str) -> None:
    setting, started = SETTINGS[name], time.perf_counter()
    rng = np.random.default_rng(list(SETTINGS).index(name))
    rejected: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    covered, gaps, shares = [], [], []
    for seed in range(N_STUDIES):
        study = _study(setting, rng)
        tests, interval = _tested(study, seed)
        gaps.append(study.true_aucs[0] - study.true_aucs[1])
        truth = float(gaps[-1].mean())
        for test, found in tests.items():
            assert (found.p < LEVEL) == (not found.difference.includes_zero)
            is_missed = not found.difference.low <= truth <= found.difference.high
            rejected[test].append((found.p < LEVEL, is_missed))
        covered.append(interval.low <= study.true_aucs[0].mean() <= interval.high)
        shares.append(overlap(study.trains))
    rates = {test: np.mean(values, axis=0) for test, values in rejected.items()}
    coverage, error = float(np.mean(covered)), float(np.sqrt(LEVEL * (1 - LEVEL) / N_STUDIES))
    correlation = np.corrcoef(np.array(gaps).T)[np.triu_indices(N_FOLDS, 1)].mean()
    print(
        f"\n{name}, {setting.n_test} test images, {N_FOLDS} folds, {N_STUDIES} studies, "
        f"{time.perf_counter() - started:.0f} s; folds share {np.mean(shares):.2f} of their rows, "
        f"true differences of their heads correlate {correlation:.2f}\n"
        f"rejected at 5 % (+- {100 * error:.1f}):  equal on average over training sets | these heads, true difference"
    )
    for test, (average, these) in rates.items():
        print(f"  {test:18s}{100 * average:6.1f} |{100 * these:6.1f}")
    print(f"  interval of one AUC covers the truth of its heads: {100 * coverage:.1f} %")
    assert LOWEST <= rates["crossed"][0] <= LEVEL + 0.02 + error
    for test in ("paired bootstrap", "DeLong") if setting.per_patient == 1 else ("paired bootstrap",):
        assert abs(rates[test][1] - LEVEL) <= 0.02 + error
    assert (
        coverage >= 1 - LEVEL - 0.02 - error
    )  # with few images it covers more: see tests/benchmarks/test_intervals.py
