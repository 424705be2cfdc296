"""Is the largest patient tested as often as anyone else?"""

from __future__ import annotations

import time

import numpy as np
import pytest

from dvme.study.design.holdout import LARGE
from dvme.study.design.splits import make_plan

N_DATA_SETS, N_PATIENTS = 1000, 80
MEDIAN, SPREAD = 3.3, 1.2
"""Of a patient's images, lognormal."""
POSITIVE = 0.4
"""Of the patients."""


@pytest.mark.bench
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4])
def test_make_plan__the_largest_patient_is_tested_with_the_probability_that_was_asked_for(fraction: float) -> None:
    """In data sets in which it may be: a patient much larger than the test part never is."""
    rng, started = np.random.default_rng(round(100 * fraction)), time.perf_counter()
    is_tested, sizes, n_drawn = [], [], 0
    while len(is_tested) < N_DATA_SETS:
        n_drawn += 1
        images = np.maximum(1, rng.lognormal(np.log(MEDIAN), SPREAD, N_PATIENTS).astype(int))
        if images.max() > LARGE * fraction * images.sum():
            continue
        patients = np.repeat(np.array([f"p{i:02d}" for i in range(N_PATIENTS)], dtype=object), images)
        labels = np.repeat((rng.random(N_PATIENTS) < POSITIVE).astype(int), images)
        nothing = np.full(len(labels), "", dtype=object)
        plan = make_plan(labels, nothing, patients, classes=("0", "1"), seed=n_drawn, test_fraction=fraction)
        is_tested.append(f"p{images.argmax():02d}" in patients[plan.test])
        sizes.append(len(plan.test) / len(labels))
    share, error = float(np.mean(is_tested)), float(np.sqrt(fraction * (1 - fraction) / N_DATA_SETS))
    print(
        f"\ntest fraction {fraction:g}: the largest of {N_PATIENTS} patients is tested in {share:.3f} +- {error:.3f} "
        f"of {N_DATA_SETS:,} data sets ({n_drawn:,} drawn); test part {np.mean(sizes):.3f}, {np.min(sizes):.3f} to "
        f"{np.max(sizes):.3f}  [{time.perf_counter() - started:.0f} s]"
    )
    assert abs(share - fraction) <= 1.96 * error
