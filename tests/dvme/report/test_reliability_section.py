from __future__ import annotations

import html
import re
from dataclasses import replace

import markupsafe
import numpy as np
import pytest

from dvme.report.html.page import Page
from dvme.report.reliability_section import reliability_section
from dvme.stats.units import Units
from dvme.study.assess import assessed, gathered
from dvme.study.operation import Operation
from dvme.study.panel import Panel
from dvme.study.reliability import Reliability

N = 80
EVIL = "<script>Mass"


def _found(n_findings: int = 3, asked: Operation | None = None) -> Reliability:
    """The last finding is of one image; some cells of the first are not known."""
    rng = np.random.default_rng(0)
    truth = (rng.random((N, n_findings)) < 0.4).astype(float)
    truth[:, -1] = np.arange(N) == 5
    truth[:9, 0] = np.nan
    names = (EVIL, *(f"f{k}" for k in range(1, n_findings)))
    test = Panel(names, truth, tuple(np.nan_to_num(truth) + rng.normal(size=truth.shape) for _ in range(2)))
    validation = [Panel(names, truth, (np.nan_to_num(truth) + rng.normal(size=truth.shape),)) for _ in range(2)]
    units, operation = Units(np.zeros(N, dtype=np.int64)), asked or Operation()
    uncertain = np.zeros(truth.shape, dtype=bool)
    uncertain[:4] = True
    method = assessed("m", test, validation, units, operation, is_exclusive=False, uncertain=uncertain)
    return gathered([method, replace(method, method="other")], test, units, operation, "finding")


@pytest.fixture(scope="module")
def found() -> Reliability:
    return _found()


def _rows(body: str, label: str) -> list[list[str]]:
    """Cells of the first table of a name."""
    start = body.index(f'aria-label="{html.escape(label)}"')
    table = body[start : body.index("</table>", start)]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", table)]


@pytest.fixture(scope="module")
def shown(found: Reliability) -> tuple[Page, str]:
    page = Page("p")
    return page, reliability_section(page, found).body


def test_reliability_section__words_come_first_and_names_are_text(found: Reliability, shown: tuple[Page, str]) -> None:
    assert shown[1].startswith(f"<p>{markupsafe.escape(found.said())}</p>")
    assert "<script>" not in shown[1]
    assert "&lt;script&gt;Mass" in shown[1]


def test_reliability_section__tables_are_the_numbers(found: Reliability, shown: tuple[Page, str]) -> None:
    heading, first, _, last = _rows(shown[1], "Counts and ranking by finding")
    mass = found.leading.findings[0]
    assert heading[1:5] == ["with it", "known", "uncertain", "not known"]
    assert first[1:5] == [str(mass.n_positive), "71", "4", "9"]
    assert first[6] == f"{mass.auc.estimate:.3f} ({mass.auc.low:.3f} to {mass.auc.high:.3f})"
    assert last[-2:] == ["1 with, takes 3", ""]
    assert last[-3].startswith("0.013 (")
    _, point, _ = _rows(shown[1], "Operating points by finding")
    assert mass.at is not None
    sensitivity = mass.at.sensitivity
    assert point[1] == f"{sensitivity.estimate:.3f} ({sensitivity.low:.3f} to {sensitivity.high:.3f})"
    assert len(point) == 8
    _, has_it, has_not = _rows(shown[1], f"Confusion of {EVIL}")
    assert has_it[1:3] == [f"{mass.at.true_positives:.1f}", f"{mass.at.false_negatives:.1f}"]
    assert has_not[1:3] == [f"{mass.at.false_positives:.1f}", f"{mass.at.true_negatives:.1f}"]


def test_reliability_section__every_judged_finding_of_every_method_has_figures(shown: tuple[Page, str]) -> None:
    page, body = shown
    assert len(page.figures) == 2 * (2 * 3 + 1)
    assert re.findall(r'data-choice="([\w-]+)"', body) == ["reliability-method", "reliability-finding"]
    assert len(re.findall(r'data-part="reliability-method" data-value="1"', body)) == 2


def test_reliability_section__of_many_findings_the_most_frequent_have_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a prevalence that was stated has its columns."""
    monkeypatch.setattr("dvme.report.reliability_section.MOST_FINDINGS", 1)
    many = _found(4, Operation(everywhere=0.05))
    page = Page("p")
    body = reliability_section(page, replace(many, methods=many.methods[:1])).body
    most = max(many.leading.judged, key=lambda each: each.n_positive)
    assert len(page.figures) == 3 + 1
    assert html.escape(f"Confusion of {most.finding}") in body
    assert "The 1 most frequent of 3" in body
    assert "reliability-method" not in re.findall(r'data-choice="([\w-]+)"', body)
    assert _rows(body, "Operating points by finding")[1][8] == "0.050"


def test_reliability_section__without_any_to_judge() -> None:
    only = _found()
    lone = replace(only.leading, findings=only.leading.findings[-1:], oracle=(), cumulative_oracle=())
    page = Page("p")
    body = reliability_section(page, replace(only, methods=(lone,))).body
    assert body.startswith("<p>No finding can be judged: too few test images")
    assert page.figures == {}
