from __future__ import annotations

import math
import re

import pytest

from dvme.errors import OptionError
from dvme.heads.exact.footprint import GIB, Footprint, alike


@pytest.mark.parametrize("n_rows", [100, 1000])
def test_at_once__is_what_fits(n_rows: int) -> None:
    footprint = Footprint(512, 40)
    for n_strengths in range(1, 11):
        budget = footprint(n_rows, n_strengths)
        assert footprint.at_once(n_rows, 11, budget) == n_strengths
        assert footprint.at_once(n_rows, 11, footprint(n_rows, n_strengths + 1) - 1) == n_strengths
    assert footprint.at_once(n_rows, 11, 1 << 50) == 11


def test_at_once__names_a_memory_that_is_enough() -> None:
    footprint = Footprint(1024, 500)
    with pytest.raises(OptionError, match="pass memory, ") as caught:
        footprint.at_once(1000, 11, 256_000_000)
    named = re.search(r"memory, ([\d.]+) GiB more", str(caught.value))  # what else is held is not known here
    assert named is not None
    assert footprint.at_once(1000, 11, 256_000_000 + int(float(named[1]) * GIB)) == 1
    assert float(named[1]) == math.ceil(100 * (footprint(1000, 1) - 256_000_000) / GIB) / 100


def test_footprint__holds_the_measured_cases() -> None:
    """By how much a process rose at the weakest strength, less 40 MB of libraries."""
    assert 456e6 - 40e6 < Footprint(1024, 500)(1000, 1) < 2 * 456e6
    assert 126e6 - 40e6 < Footprint(512, 100)(3000, 1) < 2 * 126e6
    assert 259e6 - 40e6 < Footprint(2048, 100)(2100, 1) < 2 * 259e6
    assert 97e6 - 40e6 < Footprint(64, 2)(20_000, 1) < 2 * 97e6


def test_alike__groups_fit_the_budget() -> None:
    footprint = Footprint(64, 5)
    sizes = {0: 50, 1: 400, 2: 60, 3: 420, 4: 5000, 5: 5100}
    assert alike(sizes, footprint, 11, 1 << 40) == [[0, 2], [1, 3], [4], [5]]
    assert alike(sizes, footprint, 11, 2 * footprint(410, 11)) == [[0, 2], [1], [3], [4], [5]]
    assert alike(sizes, footprint, 11, 1) == [[0], [2], [1], [3], [4], [5]]
