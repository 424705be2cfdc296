"""Are equal methods told apart no more often than promised, and better ones often; do their intervals cover?

Methods see independent views of the same Gaussian classes (tests/support/simulated.py). A claim about methods is one
about the average over training sets: equal ones are equal by symmetry, and the better one is 0.03 better. A claim about
these very heads is compared with their true AUCs.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri
from simulated import SETTINGS, standing_of, studies

from dvme.stats.crossed import compared
from dvme.study.standing import BETTER, WORSE, Standing

pytestmark = pytest.mark.bench
LEVEL = 0.05
MOST = 0.065
"""Told apart by mistake, of what should be at most LEVEL."""
LEAST = 0.92
"""Covered, of what should be 0.95."""
GAP, AS_TUNED = 0.03, 0.002
N_STUDIES, N_TABLES = 1000, 1000
N_METHODS = 15
SHARES = (0.25, 0.5, 1.0)
"""Of the training rows, nested."""


def _percent(share: float, n: int) -> str:
    return f"{100 * share:.1f} +- {100 * np.sqrt(share * (1 - share) / n):.1f} %"


@pytest.mark.parametrize("name", SETTINGS)
def test_compared__level_power_and_coverage(name: str) -> None:
    """Two equal methods, and one that is better.

    How often a test can find that is up to the study: most often, about, where it knows the standard error of the
    difference and need not estimate it.
    """
    setting, started = SETTINGS[name], time.perf_counter()
    separations = [setting.separation, setting.separation, setting.better]
    apart, gains, covers, gaps, estimates = [], [], [], [], []
    for study in studies(setting, separations, N_STUDIES, seed=list(SETTINGS).index(name)):
        (one, other, better), truth = study.scored[0], study.true_aucs[0].mean(axis=1)
        equal, ahead = compared(one - other, study.shared_rows[0]), compared(better - one, study.shared_rows[0])
        apart.append(equal.p < LEVEL)
        gains.append((ahead.p < LEVEL) & (ahead.difference.estimate > 0))
        gaps.append(truth[2] - truth[0])
        estimates.append(ahead.difference.estimate)
        intervals = (
            (one.interval(), truth[0]),
            ((one - other).interval(), truth[0] - truth[1]),
            ((better - one).interval(), truth[2] - truth[0]),
            (ahead.difference, GAP),
        )
        covers.append([interval.low <= true <= interval.high for interval, true in intervals])
    level, power, covered = np.mean(apart), np.mean(gains), np.mean(covers, axis=0)
    known = np.mean(np.array(estimates) > ndtri(1 - LEVEL / 2) * np.std(estimates))
    print(
        f"\n{name}: level {_percent(level, N_STUDIES)}, power at {np.mean(gaps):.3f} {_percent(power, N_STUDIES)}, "
        f"with the error known {100 * known:.1f}; covered: score {_percent(covered[0], N_STUDIES)}, difference of "
        f"these heads {100 * covered[1]:.1f} and {100 * covered[2]:.1f}, of methods {100 * covered[3]:.1f}  "
        f"[{time.perf_counter() - started:.0f} s]"
    )
    assert level <= MOST
    assert power <= known + 0.02
    assert abs(np.mean(gaps) - GAP) <= AS_TUNED
    assert covered.min() >= LEAST


def _has_false_mark(standing: Standing) -> bool:
    sizes = range(len(standing.shared_rows))
    return any(standing.mark(m, size) in (BETTER, WORSE) for size in sizes for m in standing.methods)


@pytest.mark.parametrize("name", SETTINGS)
def test_standing__false_marks_of_a_table(name: str) -> None:
    """Of equal methods, at one size."""
    setting, started = SETTINGS[name], time.perf_counter()
    equal = [setting.separation] * N_METHODS
    seed = 100 + list(SETTINGS).index(name)
    level = np.mean([_has_false_mark(standing_of(study)) for study in studies(setting, equal, N_TABLES, seed=seed)])
    print(
        f"\n{name}: a false mark among {N_METHODS} equal methods in {_percent(level, N_TABLES)} of tables  "
        f"[{time.perf_counter() - started:.0f} s]"
    )
    assert level <= MOST


SIZED = {
    **{name: SETTINGS[name] for name in ("10 of 100 positive", "grades 49:10:27:5:9", "5 folds of 200 rows")},
    "80 of 1000 rows": replace(SETTINGS["20 of 1000 rows"], n_drawn=80),
}


@pytest.mark.parametrize("name", SIZED)
def test_standing__false_marks_of_a_table_of_nested_sizes(name: str) -> None:
    setting, started = SIZED[name], time.perf_counter()
    equal = [setting.separation] * N_METHODS
    seed = 200 + list(SIZED).index(name)
    found = studies(setting, equal, N_TABLES, seed=seed, shares=SHARES)
    level = np.mean([_has_false_mark(standing_of(study)) for study in found])
    print(
        f"\n{name}: a false mark among {N_METHODS} equal methods x {len(SHARES)} sizes in {_percent(level, N_TABLES)} "
        f"of tables  [{time.perf_counter() - started:.0f} s]"
    )
    assert level <= MOST


@pytest.mark.parametrize("n_equal", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_against__a_fusion_that_equals_the_best_single_backbone(name: str, n_equal: int) -> None:
    """Of five single backbones some are as good as the fusion, and the others 0.03 worse."""
    setting, started = SETTINGS[name], time.perf_counter()
    separations = [setting.better] * (1 + n_equal) + [setting.separation] * (5 - n_equal)
    words = []
    for study in studies(setting, separations, N_TABLES, seed=300 + list(SETTINGS).index(name)):
        against = standing_of(study).against(0, range(1, 6), 0)
        assert against is not None
        words.append(against.word)
    level = np.mean([word == "gain" for word in words])
    print(
        f"\n{name}, {n_equal} of 5 as good as the fusion: a gain in {_percent(level, N_TABLES)} of studies  "
        f"[{time.perf_counter() - started:.0f} s]"
    )
    assert level <= LEVEL
