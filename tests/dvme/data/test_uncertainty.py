from __future__ import annotations

import math

import numpy as np
import pytest

from dvme.data.uncertainty import Uncertainty
from dvme.errors import OptionError


def test_uncertainty__values() -> None:
    assert [Uncertainty(uncertain=each).value for each in ("zeros", "ones", "soft=0.7")] == [0.0, 1.0, 0.7]
    assert math.isnan(Uncertainty().value)


@pytest.mark.parametrize("uncertain", ["", "half", "soft", "soft=", "soft=x", "0.7"])
def test_uncertainty__what_is_no_policy(uncertain: str) -> None:
    with pytest.raises(OptionError, match=r"is not known; choose from ignore, zeros, ones and soft=0\.7"):
        Uncertainty(uncertain=uncertain)


@pytest.mark.parametrize("uncertain", ["soft=-0.1", "soft=1.1", "soft=inf", "soft=nan"])
def test_uncertainty__a_part_beyond_the_whole(uncertain: str) -> None:
    with pytest.raises(OptionError, match="a soft label is from 0 to 1"):
        Uncertainty(uncertain=uncertain)


def test_uncertainty__blank() -> None:
    with pytest.raises(OptionError, match="blank 'ones' is not known; choose ignore or zeros"):
        Uncertainty(blank="ones")  # type: ignore[arg-type]


def test_uncertainty__says_what_is_made_of_every_kind_of_cell() -> None:
    values = np.array([[-1.0, 0.7, 1.0], [np.nan, -1.0, 0.0], [np.nan, 0.0, -1.0]])
    assert Uncertainty().said_of(values) == [
        "3 uncertain cells: they teach nothing (uncertain: ignore)",
        "1 cell between 0 and 1: they teach that part",
        "2 empty cells: they take no part (blank: ignore)",
        "heads are chosen and tested on cells of 1 and 0 only",
    ]
    assert Uncertainty(uncertain="soft=0.7", blank="zeros").said_of(values[1:]) == [
        "2 uncertain cells: they teach 0.7 (uncertain: soft=0.7)",
        "2 empty cells: they count as absent (blank: zeros)",
        "heads are chosen and tested on cells of 1 and 0 only",
    ]
    assert Uncertainty().said_of(np.array([[1.0, 0.0]])) == []
