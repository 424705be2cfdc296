"""Words first, then the figure, then all numbers; an anonymous page names nobody."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from people import some_patients, some_subgroups

import dvme
from dvme.json_values import as_json
from dvme.report.html.page import Page
from dvme.report.people_section import people_section
from dvme.study.outcome import StudyReport
from dvme.study.run import read_summary

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def summary(clear: Path) -> StudyReport:
    return replace(read_summary(clear / "run"), subgroups=some_subgroups(), per_patient=some_patients())


def _text(body: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_people_section__words_come_first_and_every_number_has_an_interval_or_a_reason(summary: StudyReport) -> None:
    page = Page("x")
    section = people_section(page, summary, is_anonymous=False)
    assert section is not None
    assert list(page.figures) == ["subgroups"]
    said = _text(section.body)
    assert said.startswith("By sex, mean AUC is 0.200 (95% CI 0.100 to 0.400) higher for F than for M, p 0.001;")
    assert "all sex F 0.900 0.850 to 0.940 40 38" in said
    assert "all age [60, 90] none no finding that 3 patients have and 3 have not 4 3" in said
    assert "all age none 1 of 2 subgroups have a score; a gap is between two" in said
    assert "A sex +0.050 -0.050 to +0.250 0.400 M minus F" in said
    assert "6 test images without age." in said
    assert "Per patient (max of its images) mean AUC is 0.800 (95% CI 0.700 to 0.900), per image 0.750" in said
    assert "A 0.800 0.700 to 0.900 20 of 80 0.750 0.650 to 0.850 30 of 100" in said
    assert "B none 2 patients with it, 78 without; it takes 3 2 of 80" in said
    assert "conflicting labels (p7): left out" in said


def test_people_section__is_none_where_nothing_was_asked(summary: StudyReport) -> None:
    alone = replace(summary, subgroups=None, per_patient=None)
    assert people_section(Page("x"), alone, is_anonymous=False) is None
    assert people_section(Page("x"), replace(summary, per_patient=None), is_anonymous=True) is None


def test_people_section__anonymous_leaves_out_names_and_columns(summary: StudyReport) -> None:
    page = Page("x")
    section = people_section(page, summary, is_anonymous=True)
    assert section is not None
    assert not page.figures
    for secret in ("p7", "sex", "view"):
        assert secret not in _text(section.body)
    assert "0.800" in section.body


def test_people_section__names_are_no_markup(summary: StudyReport) -> None:
    evil = replace(summary, subgroups=some_subgroups(EVIL), per_patient=some_patients(EVIL))
    section = people_section(Page("x"), evil, is_anonymous=False)
    assert section is not None
    assert "<script" not in section.body


def test_write_report__has_the_section(clear: Path, tmp_path: Path) -> None:
    """A run whose summary has what was asked; its cache is gone, so that no map is drawn."""
    run = tmp_path / "run"
    shutil.copytree(clear / "run", run)
    found = replace(read_summary(run), subgroups=some_subgroups(), per_patient=some_patients())
    (run / "summary.json").write_text(as_json(found.to_json()))
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(as_json(described | {"cache": str(tmp_path / "gone.zarr")}))
    dvme.write_report(run, out=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert '<section id="people"' in page
    assert "Subgroups and patients" in page
    assert found.per_patient is not None
    assert found.per_patient.said() in page
    assert found.subgroups is not None
    assert found.subgroups.said() in page  # on the first screen as well
    shown = dvme.write_report(run, out=tmp_path / "a.html", options=dvme.PageOptions(anonymous=True))
    page = (tmp_path / "a.html").read_text()
    for secret in ("by view", "by sex"):
        assert secret not in page
        assert secret not in as_json(shown.to_json())
