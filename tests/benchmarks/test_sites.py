"""Do intervals of drops, subgroups and shifts cover, and is a gap found no more often than promised?

Heads of five folds are trained on one site and tested on fresh images whose classes are as far apart, or less: their
true AUCs are known (tests/support/simulated.py).
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from simulated import SETTINGS, Setting, fitted_heads, images_of, patients_of, true_aucs
from simulated_findings import draw_findings

from dvme.heads.neighbours.robustness import robustness_index
from dvme.stats.influence import Scored, scored
from dvme.stats.intervals import Interval
from dvme.stats.shift import domain_classifier
from dvme.stats.subgroups import gaps, subgroups, subgroups_of_findings
from dvme.stats.units import Units
from dvme.stats.unpaired import drop

pytestmark = pytest.mark.bench
N_STUDIES = 800
LEAST, MOST = 0.93, 0.97
"""Covered, of what should be 0.95."""
LEVEL, HIGHEST = 0.05, 0.065
ENOUGH, LEAST_OF_FEW = 15, 0.9
"""Images of either class from which on a subgroup covers so, and what one with fewer covers."""


def _percent(values: list[bool] | NDArray[np.bool_]) -> str:
    share = float(np.mean(values))
    return f"{100 * share:.1f} +- {100 * np.sqrt(share * (1 - share) / len(values)):.1f} %"


def _covers(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def _test_set(
    setting: Setting, heads: list[NDArray[np.float64]], rng: np.random.Generator
) -> tuple[Scored, NDArray[np.float64]]:
    labels = np.repeat(np.arange(setting.n_classes), setting.test)
    patients = patients_of(setting, labels, rng)
    images, units = images_of(setting, labels, patients, rng), Units(labels, patients)
    return scored(labels, [images @ head for head in heads], units, ["auc"])["auc"], true_aucs(setting, heads)


FOLDS, FEW = SETTINGS["5 folds of 200 rows"], SETTINGS["20 of 1000 rows"]
SITES = {
    "100 + 100 to 100 + 100": (FOLDS, replace(FOLDS, separation=1.0)),
    "100 + 100, the same site again": (FOLDS, FOLDS),
    "10 of 100 positive to 125 of 2,500": (
        SETTINGS["10 of 100 positive"],
        replace(SETTINGS["125 of 2,500 positive"], separation=1.2),
    ),
    "near 1, 10 of 100 positive to 200 + 200": (
        replace(SETTINGS["10 of 100 positive"], separation=3.2),
        replace(FOLDS, test=(200, 200), separation=2.2),
    ),
    "5 of 100 positive to 5 of 100": (
        SETTINGS["5 of 100 positive"],
        replace(SETTINGS["5 of 100 positive"], separation=1.2),
    ),
    "patients of 1 to 12 to patients of 1 to 12": (
        SETTINGS["patients of 1 to 12"],
        replace(SETTINGS["patients of 1 to 12"], separation=1.0),
    ),
    "patients of both classes to images": (
        SETTINGS["patients of both classes"],
        replace(FOLDS, separation=1.0),
    ),
    "150 + 150, patients of 1 to 3, to patients of both classes": (
        replace(FOLDS, test=(150, 150), patients=(1, 3)),
        replace(FOLDS, test=(150, 150), patients=(1, 3), is_mixed=True, separation=1.0),
    ),
    "20 of 1000 rows to 100 + 100": (FEW, replace(FEW, separation=1.3)),
    "five grades to five grades, 10 times as many": (
        replace(SETTINGS["grades 49:10:27:5:9"], test=(490, 100, 270, 50, 90)),
        replace(SETTINGS["grades 49:10:27:5:9"], test=(490, 100, 270, 50, 90), separation=1.4),
    ),
    "five grades to five grades": (
        SETTINGS["grades 49:10:27:5:9"],
        replace(SETTINGS["grades 49:10:27:5:9"], separation=1.4),
    ),
}
FEW_UNITS = {
    "near 1, 10 of 100 positive to 200 + 200",
    "5 of 100 positive to 5 of 100",
    "patients of 1 to 12 to patients of 1 to 12",
    "five grades to five grades",
}
"""Of a class, on a side: there the intervals are careful, see `Scored`."""


@pytest.mark.parametrize("name", SITES)
def test_drop__covers(name: str) -> None:
    """Of these heads 95 +- 2 per cent, or more with few units; of the method at least 93, as heads share rows."""
    (home, away), started = SITES[name], time.perf_counter()
    rng = np.random.default_rng(list(SITES).index(name))
    found, truths, of_heads = [], [], []
    for _ in range(N_STUDIES):
        heads, shared_rows = fitted_heads(home, home.separation, rng)
        (internal, first), (external, second) = _test_set(home, heads, rng), _test_set(away, heads, rng)
        truths.append(float((first - second).mean()))
        of_heads.append(_covers(drop(internal, external).difference, truths[-1]))
        found.append(drop(internal, external, shared_rows=shared_rows))
    true = float(np.mean(truths))
    of_method = [_covers(each.difference, true) for each in found]
    print(
        f"\n{name}: true drop {true:.3f}; covered: of these heads {_percent(of_heads)}, of the method "
        f"{_percent(of_method)}; told apart {_percent([each.p < LEVEL for each in found])}  "
        f"[{_since(started)}]"
    )
    assert LEAST <= np.mean(of_heads) <= (1.0 if name in FEW_UNITS else MOST)
    assert np.mean(of_method) >= LEAST


SIZES = {
    "4 equal subgroups of 400 to 20 images": ((200, 60, 20, 10), None),
    "2 of 300 and 30 images": ((150, 15), None),
    "6 of 200, 100, 50, 30, 20, 12 images": ((100, 50, 25, 15, 10, 6), None),
    "3 of patients with 1 to 12 images in one": ((300, 100, 60), "apart"),
    "3 of patients with 1 to 12 images in one, 4 times as many": ((1200, 400, 240), "apart"),
    "3 views of the same patients": ((200, 100, 50), "mixed"),
    "2 of 6 and 200 images": ((3, 100), None),
}
"""By name: images of either class in each subgroup, and how they have patients."""


def _subgroups_of(
    sizes: tuple[int, ...], patients: str | None, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp] | None]:
    """(N,) labels, subgroups and patients."""
    of_group = np.repeat(np.arange(len(sizes)), 2 * np.array(sizes))
    labels = np.concatenate([np.repeat([0, 1], n) for n in sizes])
    if patients is None:
        return labels, of_group, None
    n = rng.integers(1, 13, len(labels))
    blocks = np.repeat(np.arange(len(n)), n)[: len(labels)]
    if patients == "mixed":
        return labels, of_group, rng.permutation(blocks)
    order = np.lexsort((rng.random(len(labels)), of_group))
    found = np.empty(len(labels), dtype=np.intp)
    found[order] = blocks
    return labels, of_group, np.unique(found * len(sizes) + of_group, return_inverse=True)[1]


@pytest.mark.parametrize("are_heads_fixed", [True, False])
@pytest.mark.parametrize("name", SIZES)
def test_gaps__level_and_coverage(name: str, are_heads_fixed: bool) -> None:
    """Equal subgroups, and an overlapping one of every other image."""
    (sizes, how), started = SIZES[name], time.perf_counter()
    rng = np.random.default_rng(list(SIZES).index(name))
    setting, apart, covered, covered_gaps = FOLDS, [], [], []
    for seed in range(N_STUDIES):
        heads, shared_rows = fitted_heads(setting, setting.separation, rng)
        labels, of_group, patients = _subgroups_of(sizes, how, rng)
        images = images_of(setting, labels, patients, rng)
        members = {str(g): of_group == g for g in range(len(sizes))}
        found = subgroups(labels, [images @ head for head in heads], Units(labels, patients), members)
        truth = float(true_aucs(setting, heads).mean())
        covered.append([_covers(each.interval(), truth) for each in found])
        tested = gaps(found, shared_rows=None if are_heads_fixed else shared_rows, seed=seed)
        assert tested.largest is not None
        apart.append(tested.p < LEVEL)
        covered_gaps.append(all(_covers(gap.comparison.difference, 0.0) for gap in tested.pairs))
        assert apart[-1] != covered_gaps[-1]
    print(
        f"\n{name}, {'these heads' if are_heads_fixed else 'the method'}: a gap in {_percent(apart)} of studies; "
        f"scores covered {', '.join(_percent(each) for each in np.array(covered).T)}  "
        f"[{_since(started)}]"
    )
    assert np.mean(apart) <= HIGHEST
    assert np.mean(covered, axis=0)[np.array(sizes) >= ENOUGH].min() >= LEAST
    assert np.mean(covered, axis=0).min() >= LEAST_OF_FEW


SHIFT = 1.2
FINDINGS = {
    "2 subgroups of 200 and 60 images": ((200, 60), (0.4, 0.2, 0.1), 1, False, 0.0),
    "4 of 300, 150, 80, 40 images, a tenth unknown": ((300, 150, 80, 40), (0.4, 0.3, 0.2), 1, False, 0.1),
    "3 of patients with 3 images in one": ((300, 120, 60), (0.4, 0.3, 0.2), 3, False, 0.0),
    "3 views of the same patients": ((300, 120, 60), (0.4, 0.3, 0.2), 3, True, 0.0),
    "2 of patients with 3 images, 13 findings, some rare": (
        (300, 200),
        (0.5, *(0.1,) * 6, *(0.04,) * 6),
        3,
        False,
        0.0,
    ),
}
"""By name: images of each subgroup, prevalences, images of a patient, if subgroups share patients, unknown part."""


@pytest.mark.parametrize("name", FINDINGS)
def test_gaps_of_findings__level_and_coverage(name: str) -> None:
    """Subgroups in which every finding is recognised equally well, by the mean AUC over the findings."""
    (sizes, prevalence, per_patient, are_views, unknown), started = FINDINGS[name], time.perf_counter()
    rng, apart, covered, n_common = np.random.default_rng(list(FINDINGS).index(name)), [], [], []
    truth_of_all = float(norm.cdf(SHIFT / np.sqrt(2.0)))
    for seed in range(N_STUDIES):
        truth, heads, patients, members = draw_findings(
            rng, sizes, prevalence, per_patient=per_patient, are_views=are_views, shift=SHIFT, unknown=unknown
        )
        found, is_common = subgroups_of_findings(truth, heads, patients, members)
        tested = gaps(found, seed=seed)
        apart.append(tested.p < LEVEL)
        covered.append([_covers(each.interval(), truth_of_all) for each in found])
        n_common.append(int(is_common.sum()))
    print(
        f"\n{name}: a gap in {_percent(apart)} of studies; {np.mean(n_common):.1f} findings in common; scores covered "
        f"{', '.join(_percent(each) for each in np.array(covered).T)}  [{_since(started)}]"
    )
    assert np.mean(apart) <= HIGHEST
    assert np.mean(covered, axis=0).min() >= LEAST


N_SHIFTS = 300
SHIFTS = {"4 values, 40 + 60": (4, 40, 60), "50 values, 50 + 50": (50, 50, 50), "20 values, 300 + 300": (20, 300, 300)}


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("name", SHIFTS)
def test_domain_classifier__covers_a_half_where_there_is_no_shift(name: str, is_grouped: bool) -> None:
    (dim, *sizes), started = SHIFTS[name], time.perf_counter()
    rng, covered = np.random.default_rng(list(SHIFTS).index(name)), []
    for seed in range(N_SHIFTS):
        sides = [rng.normal(size=(n, dim)) for n in sizes]
        patients = [np.arange(n) // 3 for n in sizes]
        if is_grouped:
            sides = [side + rng.normal(size=side.shape)[of] for side, of in zip(sides, patients, strict=True)]
        found = domain_classifier(*sides, (patients[0], patients[1]) if is_grouped else (None, None), seed=seed)
        covered.append(_covers(found.auc, 0.5))
    print(f"\n{name}, {'patients of 3' if is_grouped else 'images'}: covered {_percent(covered)}  [{_since(started)}]")
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("per_patient", [1, 4])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_robustness_index__covers(shift: float, per_patient: int) -> None:
    """The mean index over many draws of the images; classes are 1.5 apart, sites by the shift."""
    rng, found, started = np.random.default_rng(0), [], time.perf_counter()
    patients = np.arange(400) // per_patient
    classes, sites = patients % 2, patients // 2 % 2
    for _ in range(N_SHIFTS):
        own, of_patients = rng.normal(size=(2, 400, 5))
        images = own if per_patient == 1 else np.sqrt(0.5) * (own + of_patients[patients])
        images = images + np.stack([1.5 * classes, shift * sites, *np.zeros((3, 400))], axis=1) + 1.0
        found.append(robustness_index(images, classes, sites, patients).index)
    true = float(np.mean([each.estimate for each in found]))
    covered = [_covers(each, true) for each in found]
    print(
        f"\nsites {shift:g} apart, {per_patient} images a patient: index {true:.3f}, covered {_percent(covered)}  "
        f"[{_since(started)}]"
    )
    assert np.mean(covered) >= 0.9


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.0f} s"
