"""Studies of linear heads on Gaussian classes, drawn anew with everything in them: the heads' true AUCs are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dvme.stats.crossed import overlap
from dvme.stats.influence import Scored, scored
from dvme.stats.units import Units
from dvme.study.standing import Standing

N_FOLDS = 5
SHARED = 0.5
"""Part of the noise that two methods' views of an image have in common, and that the images of a patient have."""
RIDGE = 0.01
"""Of the least-squares heads, per training row."""


@dataclass(frozen=True)
class Setting:
    """A study that is repeated with other images."""

    test: tuple[int, ...]
    """Test images of each class."""
    pool: tuple[int, ...]
    """Images of each class that the folds' training rows are drawn from."""
    separation: float
    """Distance of two class means in standard deviations, of every method but better ones."""
    better: float
    """The same of a method whose heads' true AUC is 0.03 higher on average."""
    n_drawn: int | None = None
    """Training rows drawn from the pool for each fold; None: plain cross-validation of the pool."""
    patients: tuple[int, int] | None = None
    """Fewest and most test images of a patient."""
    is_mixed: bool = False
    """Patients have images of all classes."""
    dim: int = 10

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.test)


_GRADES = (49, 10, 27, 5, 9)
"""Of APTOS 2019, in per cent."""
SETTINGS = {
    "10 of 2,500 positive": Setting((2490, 10), (1000, 40), 1.5, 1.676),
    "25 of 2,500 positive": Setting((2475, 25), (1000, 100), 1.5, 1.690),
    "125 of 2,500 positive": Setting((2375, 125), (1000, 500), 1.5, 1.699),
    "3 of 100 positive": Setting((97, 3), (388, 12), 1.8, 2.000),
    "5 of 100 positive": Setting((95, 5), (380, 20), 1.8, 2.017),
    "10 of 100 positive": Setting((90, 10), (360, 40), 1.6, 1.795),
    "grades 49:10:27:5:9": Setting(_GRADES, tuple(4 * n for n in _GRADES), 1.8, 2.018),
    "3 of each of 5 classes": Setting((3,) * 5, (12,) * 5, 2.2, 2.419),
    "patients of 1 to 12": Setting((300, 100), (240, 80), 1.5, 1.684, patients=(1, 12)),
    "patients, 30 positive images": Setting((400, 30), (240, 80), 1.5, 1.684, patients=(1, 12)),
    "patients of both classes": Setting((300, 100), (240, 80), 1.5, 1.684, patients=(1, 12), is_mixed=True),
    "5 folds of 200 rows": Setting((100, 100), (100, 100), 1.5, 1.679),
    "20 of 1000 rows": Setting((100, 100), (500, 500), 2.0, 2.205, n_drawn=20),
}
"""The folds share three quarters of their rows, but in the last, where they share a fiftieth."""


@dataclass(frozen=True)
class Study:
    """One draw of everything."""

    units: Units
    scored: list[list[Scored]]
    """The test AUC, by size and method."""
    true_aucs: NDArray[np.float64]
    """(S, M, J) of these heads, on all images."""
    validation: NDArray[np.float64]
    """(S, M) mean AUC of the folds' heads on rows of the pool that they were not trained on."""
    shared_rows: list[float]
    """By size."""


def studies(
    setting: Setting, separations: Sequence[float], n: int, *, seed: int = 0, shares: Sequence[float] = (1.0,)
) -> Iterator[Study]:
    """n studies of one method for each separation, on subsets of the training rows that are these shares of them."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield _study(setting, np.asarray(separations), shares, rng)


def standing_of(study: Study) -> Standing:
    """All methods at all sizes."""
    places = {(m, size): one for size, row in enumerate(study.scored) for m, one in enumerate(row)}
    return Standing(places, {(m, size): study.validation[size, m] for m, size in places}, study.shared_rows)


def patients_of(setting: Setting, labels: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp] | None:
    """(N,) patients, of images of one class or of any."""
    if setting.patients is None:
        return None
    fewest, most = setting.patients
    sizes = rng.integers(fewest, most + 1, len(labels))
    patients = np.repeat(np.arange(len(sizes)), sizes)[: len(labels)]
    if setting.is_mixed:
        return rng.permutation(patients)
    return np.unique(patients * setting.n_classes + labels, return_inverse=True)[1]


def fitted_heads(
    setting: Setting, separation: float, rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], float]:
    """(D, C) weights of each fold's head of one method, and the folds' overlap."""
    labels = np.repeat(np.arange(setting.n_classes), setting.pool)
    pool = separation * _means(setting)[labels] + _noise(1, labels, None, setting.dim, rng)
    trains = [train for train, _ in _folds(setting, labels, rng)]
    heads = [_fitted(pool[:, rows], np.eye(setting.n_classes)[labels[rows]])[0] for rows in trains]
    return heads, overlap(trains)


def images_of(
    setting: Setting, labels: NDArray[np.intp], patients: NDArray[np.intp] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N, D) fresh images of one method's view, of classes as far apart as `separation` says."""
    images: NDArray[np.float64] = setting.separation * _means(setting)[labels]
    return images + _noise(1, labels, patients, setting.dim, rng)[0]


def true_aucs(setting: Setting, heads: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(J,) of heads on all images like `images_of`, of classes as many as they are in the test set."""
    means = setting.separation * _means(setting)[None]
    return np.array([_true_aucs(means, head[None], setting)[0] for head in heads])


def _means(setting: Setting) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.eye(setting.n_classes, setting.dim) / np.sqrt(2)
    return means


def _study(
    setting: Setting, separations: NDArray[np.float64], shares: Sequence[float], rng: np.random.Generator
) -> Study:
    means = _means(setting)
    labels, test_labels = (np.repeat(np.arange(setting.n_classes), n) for n in (setting.pool, setting.test))
    patients = patients_of(setting, test_labels, rng)
    pool, test = (
        separations[:, None, None] * means[y] + _noise(len(separations), y, groups, setting.dim, rng)
        for y, groups in ((labels, None), (test_labels, patients))
    )
    units, folds = Units(test_labels, patients), list(_folds(setting, labels, rng))
    found, truth, validation, shared = [], [], [], []
    for share in shares:
        trains = [_first(train, labels, share) for train, _ in folds]
        heads = [_fitted(pool[:, rows], np.eye(setting.n_classes)[labels[rows]]) for rows in trains]  # (M, D, C) each
        predicted = [test @ head for head in heads]
        found.append([scored(test_labels, [p[m] for p in predicted], units, ["auc"])["auc"] for m in range(len(pool))])
        truth.append(
            np.stack([_true_aucs(separations[:, None, None] * means, head, setting) for head in heads], axis=1)
        )
        chosen_on = zip(folds, heads, strict=True)
        validation.append(np.mean([_aucs(labels[rows], pool[:, rows] @ head) for (_, rows), head in chosen_on], axis=0))
        shared.append(overlap(trains))
    return Study(units, found, np.array(truth), np.array(validation), shared)


def _noise(
    n_methods: int, labels: NDArray[np.intp], patients: NDArray[np.intp] | None, dim: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(M, N, D) of variance 1."""
    noise = rng.standard_normal((1 + n_methods, len(labels), dim))
    if patients is not None:
        of_patients = rng.standard_normal((1 + n_methods, int(patients.max()) + 1, dim))
        noise = np.sqrt(1 - SHARED) * noise + np.sqrt(SHARED) * of_patients[:, patients]
    mixed: NDArray[np.float64] = np.sqrt(SHARED) * noise[:1] + np.sqrt(1 - SHARED) * noise[1:]
    return mixed


def _folds(
    setting: Setting, labels: NDArray[np.intp], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to train on and rows to choose on, both in random order and stratified."""
    orders = [rng.permutation(np.flatnonzero(labels == c)) for c in range(setting.n_classes)]
    for fold in range(N_FOLDS):
        if setting.n_drawn is None:
            held = [order[fold::N_FOLDS] for order in orders]
            train = [np.setdiff1d(order, part, assume_unique=True) for order, part in zip(orders, held, strict=True)]
        else:
            n = setting.n_drawn // setting.n_classes
            drawn = [rng.permutation(order) for order in orders]
            train, held = [each[:n] for each in drawn], [each[n : n + max(2, n // 4)] for each in drawn]
        yield np.concatenate(train), np.concatenate(held)


def _first(rows: NDArray[np.intp], labels: NDArray[np.intp], share: float) -> NDArray[np.intp]:
    """The share of every class that comes first, two rows at least: subsets are nested."""
    of_class = [rows[labels[rows] == c] for c in np.unique(labels)]
    return np.concatenate([each[: max(2, round(share * len(each)))] for each in of_class])


def _fitted(features: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, D, C) weights of least squares on the classes' indicators, from (M, n, D) features."""
    features = features - features.mean(axis=1, keepdims=True)
    turned = np.swapaxes(features, -1, -2)
    scatter = turned @ features + RIDGE * features.shape[1] * np.eye(features.shape[2])
    weights: NDArray[np.float64] = np.linalg.solve(scatter, turned @ (targets - targets.mean(axis=0)))
    return weights


def _aucs(labels: NDArray[np.intp], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) macro AUCs of (M, n, C) scores without ties, from the ranks of the positives."""
    ranks = np.argsort(np.argsort(scores, axis=1), axis=1) + 1
    areas = []
    for c in [1] if scores.shape[2] == 2 else range(scores.shape[2]):
        positive, n = labels == c, int((labels == c).sum())
        areas.append((ranks[:, positive, c].sum(axis=1) - n * (n + 1) / 2) / (n * (len(labels) - n)))
    return np.mean(areas, axis=0)


def _true_aucs(means: NDArray[np.float64], weights: NDArray[np.float64], setting: Setting) -> NDArray[np.float64]:
    """(M,) macro AUCs on all images, from (M, C, D) means: a linear score of Gaussians is Gaussian.

    The rest of a one-versus-rest problem is a mixture, of classes as many as they are in the test set.
    """
    areas = []
    for c in [1] if setting.n_classes == 2 else range(setting.n_classes):
        direction = weights[:, :, c]
        length = np.sqrt(2) * np.linalg.norm(direction, axis=1)
        rest = [k for k in range(setting.n_classes) if k != c]
        above = [ndtr(((means[:, c] - means[:, k]) * direction).sum(axis=1) / length) for k in rest]
        areas.append(np.average(above, axis=0, weights=[setting.test[k] for k in rest]))
    return np.mean(areas, axis=0)
