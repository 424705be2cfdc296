"""For which findings, or classes, a study's leading method can be trusted, and where not: the answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dvme.study.answers import Finding, Findings
from dvme.study.reliability import FindingReliability, Reliability
from dvme.study.sites.outcome import DROP, NO_TEST, SitesResult
from dvme.text import EXAMPLES, counted, difference_text, some_of

if TYPE_CHECKING:
    from dvme.study.by_subgroup import BySubgroup

QUESTIONS = OF_FINDINGS, ELSEWHERE = ("For which findings can it be trusted?", "Does it hold elsewhere?")
LOSE = "these heads lose"
NAMED = 6
"""Findings that a line names with their intervals; the table has all."""


def with_trust(
    findings: Findings, reliability: Reliability | None, sites: SitesResult | None, subgroups: BySubgroup | None
) -> Findings:
    """The answers, led by one on single findings where an image may have several, or where others were asked about.

    Args:
        findings: what the study says.
        reliability: of its findings, or classes.
        sites: other hospitals, where there are some.
        subgroups: of the test images, where they were asked for.
    """
    is_of_findings = reliability is not None and reliability.what == "finding"
    if not is_of_findings and sites is None and subgroups is None:
        return findings
    answer, clauses, details = "", list[str](), list[str]()
    if reliability is not None and is_of_findings:
        answer, clause, lines = _of_findings(reliability)
        clauses.append(clause)
        details += lines
    if sites is not None:
        dropped = [site.name for site in sites.sites if (own := site.of(sites.leader)) and own.word == DROP]
        clauses += [f"{LOSE} at {_names(dropped)}"] if dropped else []
        where = f"losses at {_names(dropped)}" if dropped else "no drop elsewhere is shown"
        if all(own.word == NO_TEST for site in sites.sites if (own := site.of(sites.leader))):
            where = "nothing can be said of other sites"
        answer = f"{answer}, {where}" if answer else where[:1].upper() + where[1:]
        details.append(sites.said())
    if subgroups is not None:
        details.append(subgroups.said())
        answer = answer or "See the subgroups"
    question = OF_FINDINGS if is_of_findings else ELSEWHERE
    trusted = Finding(question, answer, tuple(details), "; ".join(clauses))
    verdict = "; ".join([*clauses, findings.verdict])
    verdict = verdict[:1].upper() + verdict[1:] if verdict.startswith(("no finding is", LOSE)) else verdict
    return replace(findings, verdict=verdict, answers=(trusted, *findings.answers))


def _of_findings(reliability: Reliability) -> tuple[str, str, list[str]]:
    """The answer, its part of the verdict, and what they rest on."""
    told, untold, empty = reliability.told, reliability.untold, reliability.unjudged
    n = len(told) + len(untold)
    lines = []
    for some, said in ((told, "Told from chance"), (untold, "Not told from chance")):
        if some:
            together = f" (AUC, 95% CI for {n} findings together)" if n > 1 else " (AUC, 95% CI)"
            lines.append(f"{said}{together}: {_listed(some)}.")
    if empty:
        which = some_of([f"{each.finding} ({each.brief})" for each in empty], NAMED)
        lines.append(f"Nothing can be said of {which}.")
    names = _names([each.finding for each in told])
    counts = [f"{names or 'no finding'} {'are' if len(told) > 1 else 'is'} told from chance"]
    if untold and told:
        counts.append(f"{counted(len(untold), 'finding')} {'is' if len(untold) == 1 else 'are'} not")
    if empty:
        counts.append(f"{len(empty)} cannot be judged")
    return names or "None is told from chance", ", ".join(counts), lines


def _names(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 2 more`."""
    if len(names) > EXAMPLES or len(names) < 2:
        return some_of(names, EXAMPLES)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _listed(some: Sequence[FindingReliability]) -> str:
    ordered = sorted(some, key=lambda each: -each.auc.estimate)
    return some_of(
        [f"{each.finding} {difference_text(each.auc_together, 2, signed=False)}" for each in ordered],
        NAMED,
        joint="; ",
    )
