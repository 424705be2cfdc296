from __future__ import annotations

import math

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
