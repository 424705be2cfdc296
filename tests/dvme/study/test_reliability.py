from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from dvme.json_values import as_json, plain, rebuilt
from dvme.stats.intervals import Interval
from dvme.study.reliability import UNDEFINED, FindingReliability, MethodReliability, OperatingPoint, Reliability

NAN = float("nan")


def _row(name: str, low: float, sensitivity: float | None = None, why_not: str = "") -> FindingReliability:
    at = None
    if sensitivity is not None:
        found = Interval(sensitivity, sensitivity - 0.1, sensitivity + 0.1)
        at = OperatingPoint((0.2, NAN), *([found] * 7), NAN, UNDEFINED, UNDEFINED, 1.0, 2.0, 3.0, 4.0)
    auc = UNDEFINED if why_not else Interval(0.8, low, 0.9)
    return FindingReliability(
        name, 10, 4, 2, None, Interval(0.4, 0.2, 0.6), why_not=why_not, auc=auc, auc_together=auc, at=at
    )


def _said(*rows: FindingReliability, what: str = "finding") -> Reliability:
    method = MethodReliability("a + linear", rows, (1.0, 2.0))
    return Reliability(what, "specificity 0.90", "test image", 10, 10, 2, 1000, (0.5,), (1.0,), (0.0,), (method,))


@pytest.mark.parametrize(
    ("rows", "what", "expected"),
    [
        (
            [_row("Mass", 0.6, 0.4), _row("Edema", 0.45, 0.7), _row("Hernia", NAN, why_not="1 test image")],
            "finding",
            "a + linear tells 1 of 2 findings from chance (AUC above 0.5); at specificity 0.90, chosen "
            "on validation, it finds most of Edema 0.70 (95% CI 0.60 to 0.80) and least of Mass 0.40 (95% CI 0.30 to "
            "0.50); Hernia cannot be judged.",
        ),
        (
            [_row("b", 0.5, 0.4)],
            "class",
            "a + linear tells 0 of 1 class from chance (AUC above 0.5); at specificity 0.90, chosen on "
            "validation, it finds of b 0.40 (95% CI 0.30 to 0.50).",
        ),
        (
            [_row("x", 0.6), _row("y", 0.6)],
            "class",
            "a + linear tells 2 of 2 classes from chance (AUC above 0.5).",
        ),
        (
            [_row("x", NAN, why_not="no images")],
            "finding",
            "No finding can be judged: too few test images have one, or have it not.",
        ),
    ],
)
def test_said(rows: list[FindingReliability], what: str, expected: str) -> None:
    assert _said(*rows, what=what).said() == expected


def test_reliability__comes_back_from_json() -> None:
    whole = _said(_row("Mass", 0.6, 0.4), replace(_row("x", NAN, why_not="no"), n_uncertain=2))
    text = as_json(plain(asdict(whole)))
    again = rebuilt(Reliability, json.loads(text))
    assert as_json(plain(asdict(again))) == text
    assert again.leading.findings[0].at.n_draws == 1
    assert (again.leading.findings[1].n_uncertain, again.leading.findings[1].at) == (2, None)
