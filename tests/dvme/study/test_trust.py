from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dvme.stats.intervals import Comparison, Interval
from dvme.study.answers import Finding, Findings
from dvme.study.reliability import FindingReliability, MethodReliability, Reliability
from dvme.study.sites.outcome import Drop, SiteResult, SitesResult
from dvme.study.trust import with_trust

NAN = float("nan")
SAID = Findings("a + linear leads.", (Finding("Which backbone?", "a", ()),), ())
SHARE = Interval(0.4, 0.2, 0.6)


def _finding(name: str, low: float = NAN, brief: str = "") -> FindingReliability:
    auc = Interval(0.8, low, 0.95)
    return FindingReliability(
        name, 10, 4, 0, None, SHARE, why_not=brief, brief=brief, auc=replace(auc, low=0.7), auc_together=auc
    )


def _reliability(*rows: FindingReliability, what: str = "finding") -> Reliability:
    method = MethodReliability("a + linear", rows, (1.0,))
    return Reliability(what, "specificity 0.90", "test image", 10, 10, 2, 1000, (0.5,), (1.0,), (0.0,), (method,))


def _sites(**ends: tuple[float, float]) -> SitesResult:
    """Sites by name, with the ends of the drop's interval."""
    found = []
    for name, (low, high) in ends.items():
        change = Comparison(Interval((low + high) / 2, low, high), 0.01, 2.0, 9.0)
        drop = Drop("a + linear", SHARE, SHARE, change, change, "too few" if low != low else "")  # noqa: PLR0124 - nan
        values: dict[str, Any] = {"pairs": {}, "ours_only": (), "theirs_only": (), "judged": ("Mass",)}
        found.append(
            SiteResult(
                name, f"{name}.zarr", 9, None, {}, **values, drops=(drop,), findings=(), shifts=(), why_not_external=()
            )
        )
    return SitesResult("auc", "a + linear", tuple(found))


def test_trust__findings_are_told_from_chance_by_the_intervals_for_all_of_them() -> None:
    rows = [_finding("Edema", 0.6), _finding("Mass", 0.45), _finding("Hernia", brief="1 with, takes 3")]
    found = with_trust(SAID, _reliability(*rows), None, None)
    assert found.verdict == "Edema is told from chance, 1 finding is not, 1 cannot be judged; a + linear leads."
    first = found.answers[0]
    assert (first.question, first.answer) == ("For which findings can it be trusted?", "Edema")
    assert first.details == (
        "Told from chance (AUC, 95% CI for 2 findings together): Edema 0.80 (0.60 to 0.95).",
        "Not told from chance (AUC, 95% CI for 2 findings together): Mass 0.80 (0.45 to 0.95).",
        "Nothing can be said of Hernia (1 with, takes 3).",
    )
    assert found.answers[1:] == SAID.answers


@pytest.mark.parametrize(
    ("rows", "answer", "clause"),
    [
        ([("a", 0.4)], "None is told from chance", "no finding is told from chance"),
        ([("a", 0.6), ("b", 0.6)], "a and b", "a and b are told from chance"),
        ([("a", 0.6), ("b", 0.6), ("c", 0.6)], "a, b and c", "a, b and c are told from chance"),
        ([(name, 0.6) for name in "abcde"], "a, b, c and 2 more", "a, b, c and 2 more are told from chance"),
        ([("a", 0.5)], "None is told from chance", "no finding is told from chance"),
    ],
)
def test_trust__says_how_many(rows: list[tuple[str, float]], answer: str, clause: str) -> None:
    found = with_trust(SAID, _reliability(*(_finding(*row) for row in rows)), None, None)
    assert (found.answers[0].answer, found.answers[0].clause) == (answer, clause)


@pytest.mark.parametrize(
    ("sites", "answer", "clauses"),
    [
        ({"ny": (0.1, 0.2)}, "Edema, losses at ny", "; these heads lose at ny"),
        (
            {"ny": (0.1, 0.2), "la": (0.1, 0.3), "sf": (-0.1, 0.2)},
            "Edema, losses at ny and la",
            "; these heads lose at ny and la",
        ),
        ({"ny": (-0.1, 0.2)}, "Edema, no drop elsewhere is shown", ""),
        ({"ny": (-0.2, -0.1)}, "Edema, no drop elsewhere is shown", ""),
        ({"ny": (NAN, NAN)}, "Edema, nothing can be said of other sites", ""),
    ],
)
def test_trust__other_sites(sites: dict[str, tuple[float, float]], answer: str, clauses: str) -> None:
    found = with_trust(SAID, _reliability(_finding("Edema", 0.6)), _sites(**sites), None)
    assert found.answers[0].answer == answer
    assert found.verdict == f"Edema is told from chance{clauses}; a + linear leads."
    assert found.answers[0].details[-1] == _sites(**sites).said()


def test_trust__a_loss_is_one_for_all_sites_together() -> None:
    """Each for itself, both would be losses."""
    found = _sites(ny=(0.1, 0.2), la=(0.01, 0.2))
    sites = []
    for site in found.sites:
        own = site.drops[0].drop.difference
        wider = Interval(own.estimate, own.low - 0.03, own.high + 0.03)
        sites.append(replace(site, drops=(replace(site.drops[0], together=Comparison(wider, 0.02, NAN, NAN)),)))
    assert with_trust(SAID, None, found, None).answers[0].answer == "Losses at ny and la"
    assert with_trust(SAID, None, replace(found, sites=tuple(sites)), None).answers[0].answer == "Losses at ny"


def test_trust__of_one_class_each_it_is_said_where_it_was_asked() -> None:
    classes = _reliability(_finding("x", 0.6), what="class")
    assert with_trust(SAID, classes, None, None) is SAID
    assert with_trust(SAID, None, None, None) is SAID
    found = with_trust(SAID, classes, _sites(ny=(0.1, 0.2)), None)
    assert (found.answers[0].question, found.answers[0].answer) == ("Does it hold elsewhere?", "Losses at ny")
    assert found.verdict == "These heads lose at ny; a + linear leads."
