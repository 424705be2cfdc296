from __future__ import annotations

import numpy as np
import pytest

from dvme.notices import Aside
from dvme.study.design.units import units_of_test


@pytest.mark.parametrize(
    ("counts", "per_group", "line"),
    [
        ((10, 12), 0, "95% CI: over 22 test images"),
        ((30, 10), 2, "95% CI: over 20 test groups; few of a class: 'b' has 5 test groups, so differences hardly show"),
        ((3, 9), 0, "95% CI: over 12 test images; few of a class: 'a' has 3 test images, 'b' has 9 test images, so"),
        ((20, 2), 0, "no interval and no verdict: 'b' has 2 test images, and it takes 3 of every class"),
        ((20, 1), 0, "no interval and no verdict: 'b' has 1 test image, and it takes 3 of every class"),
        ((20, 4), 2, "no interval and no verdict: 'b' has 2 test groups, and it takes 3 of every class"),
        ((0, 20), 0, "95% CI: over 20 test images"),
    ],
)
def test_units_of_test__a_line_says_what_is_independent(counts: tuple[int, int], per_group: int, line: str) -> None:
    labels = np.repeat([0, 1], counts)
    named = [f"p{row // per_group}" if per_group else "" for row in range(len(labels))]
    units, said = units_of_test(labels, np.array(named, dtype=object), ("a", "b"))
    assert said.startswith(line)
    assert (units.n, units.groups is None) == (len(labels) // max(1, per_group), not per_group)


@pytest.mark.parametrize(
    ("n_images", "per_group", "line"),
    [
        (10, 0, "95% CI: over 10 test images"),
        (9, 0, "95% CI: over 9 test images; so few that differences hardly show"),
        (18, 6, "95% CI: over 3 test groups; so few that differences hardly show"),
        (2, 0, "no interval and no verdict: 2 test images, and it takes 3"),
    ],
)
def test_units_of_test__of_masks(n_images: int, per_group: int, line: str) -> None:
    named = [f"p{row // per_group}" if per_group else "" for row in range(n_images)]
    units, said = units_of_test(np.ones((n_images, 1, 1)), np.array(named, dtype=object), ("cell",))
    assert (said, isinstance(said, Aside)) == (line, n_images == 10)
    assert units.n == (n_images // per_group if per_group else n_images)
