"""Do the intervals of a finding cover what they should, and how long does a large test set take?

Fixed scorers on fresh images, of one image a patient or of several that are alike: thresholds and scalings are those of
one validation set, so that the true values are those of very many images.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri

from dvme.metrics.decisions import decide
from dvme.metrics.ranking import auc
from dvme.stats.findings import scored_findings
from dvme.stats.shares import share
from dvme.stats.units import Units
from dvme.study import assess
from dvme.study.assess import assessed
from dvme.study.operation import Operation
from dvme.study.panel import Panel
from dvme.study.reliability import FindingReliability, MethodReliability

pytestmark = pytest.mark.bench
NAMES = ("often", "now and then", "rarely")
PREVALENCE, SEPARATION = np.array([0.45, 0.25, 0.1]), np.array([1.0, 1.4, 1.7])
N_HEADS, COMMON, ALIKE = 4, 0.75, 0.4
"""Heads, the part of their noise that they have in common, and the part of all noise that a patient's images have."""
N_RANKED, N_STUDIES, N_TRUTH = 2000, 300, 300_000
STATED = 0.08
AT = ("sensitivity", "specificity", "balanced_accuracy", "f1", "positive_predictive_value", "negative_predictive_value")
ERRORS = ("expected_error", "expected_error_by_mass", "largest_error", "brier", "log_loss")


def _noise(n: int, patients: NDArray[np.intp] | None, rng: np.random.Generator) -> NDArray[np.float64]:
    noise = rng.standard_normal((n, len(NAMES)))
    if patients is None:
        return noise
    return np.sqrt(1 - ALIKE) * noise + np.sqrt(ALIKE) * rng.standard_normal((patients.max() + 1, len(NAMES)))[patients]


def _drawn(n: int, rng: np.random.Generator, *, are_grouped: bool = False) -> Panel:
    """Findings of patients go together as well as their scores do."""
    patients = np.repeat(np.arange(n), rng.integers(1, 6, n))[:n] if are_grouped else None
    truth = (_noise(n, patients, rng) < ndtri(PREVALENCE)).astype(np.float64)
    image = np.sqrt(COMMON) * _noise(n, patients, rng)
    heads = [image + np.sqrt(1 - COMMON) * _noise(n, patients, rng) for _ in range(N_HEADS)]
    prior = np.log(PREVALENCE / (1 - PREVALENCE))
    odds = [1.3 * (SEPARATION * (truth + noise - SEPARATION / 2) + prior) for noise in heads]  # too sure
    return Panel(NAMES, truth, tuple(odds), patients)


def _assessed(test: Panel, validation: list[Panel]) -> MethodReliability:
    units = Units(np.zeros(len(test), dtype=np.int64), test.groups)
    return assessed("m", test, validation, units, Operation(everywhere=STATED), is_exclusive=False)


@cache
def _validation() -> list[Panel]:
    chosen_on = _drawn(1500, np.random.default_rng(901))
    return [Panel(NAMES, chosen_on.truth, (odds,)) for odds in chosen_on.odds]


@cache
def _truth() -> MethodReliability:
    return _assessed(_drawn(N_TRUTH, np.random.default_rng(902)), _validation())


def _at_prevalence(row: FindingReliability, true: FindingReliability) -> dict[str, float]:
    """True values that depend on the prevalence, which intervals take as that of the test images."""
    assert true.at is not None
    here, found, left = row.n_positive / row.n_known, true.at.sensitivity.estimate, true.at.specificity.estimate
    yes, no = here * found + (1 - here) * (1 - left), here * (1 - found) + (1 - here) * left
    return {
        "f1": 2 * here * found / (here + yes),
        "positive_predictive_value": here * found / yes,
        "negative_predictive_value": (1 - here) * left / no,
    }


def _hits(found: MethodReliability) -> Iterator[tuple[str, str, bool]]:
    for row, true in zip(found.findings, _truth().findings, strict=True):
        assert row.at is not None
        assert true.at is not None
        own = _at_prevalence(row, true)
        pairs = {name: (getattr(row.at, name), own.get(name, getattr(true.at, name).estimate)) for name in AT}
        stated = ("stated_positive_predictive_value", "stated_negative_predictive_value")
        pairs |= {name: (getattr(row.at, name), getattr(true.at, name).estimate) for name in stated}
        for name in ("prevalence", "auc", "average_precision", "risk_area"):
            pairs[name] = getattr(row, name), getattr(true, name).estimate
        for name in ("before", "platt"):
            mine, its = row.fits[name], true.fits[name]
            pairs |= {f"{each} {name}": (getattr(mine, each), getattr(its, each).estimate) for each in ERRORS}
        pairs["missed above 0.3"] = row.missed[10], true.missed[10].estimate
        pairs["oracle 25%"] = row.oracle[-1], true.oracle[-1].estimate
        for name, (interval, value) in pairs.items():
            yield name, row.finding, interval.low <= value <= interval.high


def _table(hits: Mapping[tuple[str, str], list[bool]], what: str) -> dict[tuple[str, str], float]:
    covered = {key: float(np.mean(own)) for key, own in hits.items()}
    print(f"\n{what}, per cent of {len(next(iter(hits.values()))):,} studies: {', '.join(NAMES)}")
    for name in dict.fromkeys(name for name, _ in hits):
        print(f"  {name:32}", *(f"{covered[name, finding]:7.1%}" for finding in NAMES), flush=True)
    return covered


@pytest.mark.parametrize("are_grouped", [False, True])
def test_intervals__of_auc_and_of_the_operating_point_cover(are_grouped: bool) -> None:
    """Within 95 ± 2 per cent, by finding: four standard errors of so many studies."""
    rng, hits = np.random.default_rng(910 + are_grouped), defaultdict(list)
    thresholds = [Operation().thresholds(each.truth, each.odds[0]) for each in _validation()]
    large = _drawn(N_TRUTH, np.random.default_rng(902))
    true_auc = np.mean([auc(large.truth, odds) for odds in large.odds], axis=0)
    true = [decide(large.truth, odds, own) for odds, own in zip(large.odds, thresholds, strict=True)]
    sides = {name: np.mean([getattr(each, name) for each in true], axis=0) for name in ("sensitivity", "specificity")}
    for _ in range(N_RANKED):
        test = _drawn(700, rng, are_grouped=are_grouped)
        ranked, _ = scored_findings(test.truth, test.odds, test.groups)
        for label, finding in enumerate(NAMES):
            yes = np.stack(
                [odds[:, label] > own[label] for odds, own in zip(test.odds, thresholds, strict=True)], axis=1
            )
            scored = ranked[label]
            assert scored is not None
            found = {"auc": (scored.interval(), true_auc[label])}
            for name, side in (("sensitivity", 1.0), ("specificity", 0.0)):
                rows = test.truth[:, label] == side
                interval = share(yes[rows] == side, None if test.groups is None else test.groups[rows])
                found[name] = interval, sides[name][label]
            for name, (interval, value) in found.items():
                hits[name, finding].append(bool(interval.low <= value <= interval.high))
    for key, covered in _table(hits, "patients" if are_grouped else "images").items():
        assert 0.93 <= covered <= 0.97, (key, covered)


@pytest.mark.parametrize("are_grouped", [False, True])
def test_intervals__of_all_else_cover(are_grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration errors and oracle AUC at least so often; the others between 90 and 99 per cent of few studies."""
    _truth()
    monkeypatch.setattr(assess, "MOST_RESAMPLES", 400)
    rng, hits = np.random.default_rng(903 + are_grouped), defaultdict(list)
    for _ in range(N_STUDIES):
        for name, finding, is_inside in _hits(_assessed(_drawn(700, rng, are_grouped=are_grouped), _validation())):
            hits[name, finding].append(bool(is_inside))
    for (name, finding), covered in _table(hits, "patients" if are_grouped else "images").items():
        is_bound = "error" in name or name == "oracle 25%"
        assert 0.9 <= covered <= (1.0 if is_bound else 0.99), (name, finding, covered)


@pytest.mark.parametrize("are_grouped", [False, True])
def test_assessed__a_large_test_set(are_grouped: bool) -> None:
    """14 findings of 25,000 images by 5 heads, in less than a minute and half a GiB."""
    rng, n_findings = np.random.default_rng(0), 14
    prevalence = np.array([0.1, 0.03, 0.12, 0.18, 0.05, 0.06, 0.02, 0.1, 0.07, 0.04, 0.04, 0.02, 0.04, 0.005])

    def drawn(n: int, n_heads: int) -> Panel:
        truth = (rng.random((n, n_findings)) < prevalence).astype(float)
        odds = np.log(prevalence) + 1.3 * truth + rng.standard_normal(truth.shape)
        heads = tuple(odds + 0.5 * rng.standard_normal(truth.shape) for _ in range(n_heads))
        truth[rng.random(truth.shape) < 0.05] = np.nan
        patients = rng.integers(0, n // 3, n) if are_grouped else None
        return Panel(tuple(map(str, range(n_findings))), truth, heads, patients)

    test, validation = drawn(25_000, 5), [drawn(8_000, 1) for _ in range(5)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, started = time.perf_counter(), time.process_time()
    _assessed(test, validation)
    seconds, computed = time.perf_counter() - start, time.process_time() - started
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    kind = "patients" if are_grouped else "images"
    print(f"\n14 findings x 25,000 {kind} x 5 heads: {seconds:.1f} s, {computed:.1f} s of CPU, {held:.2f} GiB more")
    assert computed < 60
    assert held < 0.5
