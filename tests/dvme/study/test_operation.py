from __future__ import annotations

import math

import numpy as np
import pytest

from dvme.errors import OptionError, UnknownNameError
from dvme.study.operation import Operation

TRUTH = np.array([[1.0, np.nan], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
ODDS = np.array([[3.0, 9.0], [1.0, 1.0], [2.0, 2.0], [0.0, 3.0], [-1.0, 4.0]])


def test_operation__thresholds_by_hand() -> None:
    """Of 3 negatives of the first 2 are at or below 0, and of 4 of the second 3 at or below 3."""
    at_half = Operation(at="specificity=0.6").thresholds(TRUTH, ODDS)
    np.testing.assert_array_equal(at_half, [0.0, 3.0])
    finds_all = Operation(at="sensitivity=1").thresholds(TRUTH, ODDS)
    np.testing.assert_array_equal(finds_all, [0.0, np.nan])  # nobody has the second


@pytest.mark.parametrize(
    "at", ["auc=0.9", "specificity", "specificity=", "specificity=0", "sensitivity=1.2", "", "0.9"]
)
def test_operation__refuses(at: str) -> None:
    with pytest.raises(OptionError, match=r"is not possible; pass at='specificity=0.9' or at='sensitivity=0.9'"):
        Operation(at=at)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 2.0, float("nan"), {"x": 1.5}, {"": 0.0}])
def test_operation__refuses_what_is_no_share(prevalence: float | dict[str, float]) -> None:
    with pytest.raises(OptionError, match=r"it lies between 0 and 1, 2 per cent is prevalence=0\.02"):
        Operation.of("specificity=0.9", prevalence)


def test_operation__a_prevalence_of_one_goes_before_that_of_all() -> None:
    asked = Operation.of("specificity=0.9", {"Mass": 0.02, "": 0.1})
    assert (asked.stated("Mass"), asked.stated("Edema")) == (0.02, 0.1)
    assert math.isnan(Operation().stated("Mass"))
    assert Operation.of("specificity=0.9", 0.3).stated("Mass") == 0.3
    asked.check_names(["Mass"])
    with pytest.raises(UnknownNameError, match="the study has no finding or class 'Mass'; it has Edema: name one of "):
        asked.check_names(["Edema"])


@pytest.mark.parametrize(
    ("at", "described"), [("specificity=0.9", "specificity 0.90"), ("sensitivity=0.975", "sensitivity 0.975")]
)
def test_operation__described(at: str, described: str) -> None:
    assert Operation(at=at).described == described
