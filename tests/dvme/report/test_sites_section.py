from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hospitals import write_site
from light import light
from numpy.typing import NDArray

import dvme
from dvme.report.html.page import Page
from dvme.report.sites_section import sites_section
from dvme.stats.intervals import Comparison, Interval
from dvme.study.outcome import StudyReport

NAME = "<script>alert(1)<"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, make_features: Callable[..., NDArray[Any]]) -> StudyReport:
    """A study of three classes, and a site that has two of them and one of its own."""
    root, labels, there = tmp_path_factory.mktemp("sites"), np.arange(120) % 3, np.arange(60) % 2
    values = make_features(np.concatenate([labels, there]), 1.0, 0)
    write_site(root / "own.zarr", {"a": values[:120]}, [f"c{label}" for label in labels])
    names = ["rare" if image < 5 else ("c0", NAME)[label] for image, label in enumerate(there)]
    write_site(root / "ny.zarr", {"a": values[120:]}, names, first=110)  # ten files are the study's
    found: StudyReport = dvme.probe(
        root / "own.zarr",
        heads=light("linear"),
        n_folds=2,
        out=root / "run",
        test=[f"St. Mary={root / 'ny.zarr'}"],
        label_map={"c1": NAME},
        score={"test": 0.5, "St. Mary": 0.5},
    )
    return found


def _plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&#39;", "'").split())


def test_sites_section__says_it_first_and_shows_every_number(report: StudyReport) -> None:
    page, found = Page("x"), report.sites
    assert found is not None
    section = sites_section(page, found, is_anonymous=False)
    assert section is not None
    words = _plain(section.body)
    assert words.startswith(_plain(found.said()))
    (site,) = found.sites
    assert site.why_not_external[0] in words
    said = "it lacks c2; the study lacks rare; left out: 5 of no class of the study, "
    said += ", ".join(f"{count} {reason}" for reason, count in [*site.n_left_out.items()][1:]) + "."
    assert sum(site.n_left_out.values()) == 10
    assert f"St. Mary: 50 images, judged over c0, c1; c1 is &lt;script&gt;alert(1)&lt; there; {said}" in words
    (drop,), (score,), (shift,) = site.drops, found.scores, site.shifts
    for interval in (drop.internal, drop.external, score.total, shift.classifier.auc, shift.robustness.index):
        assert f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})" in words
    assert f"{drop.anew.difference.low:+.3f} to {drop.anew.difference.high:+.3f}" in words
    assert NAME not in section.body
    assert list(page.figures) == ["sites"]


def test_sites_section__shows_drops_for_all_sites_together(report: StudyReport) -> None:
    assert report.sites is not None
    (site,) = report.sites.sites
    wide = Comparison(Interval(0.1234, -0.4321, 0.5678), 0.0987, float("nan"), float("nan"))
    two = [replace(site, name=name, drops=(replace(site.drops[0], together=wide),)) for name in ("ny", "la")]
    section = sites_section(Page("x"), replace(report.sites, sites=tuple(two)), is_anonymous=False)
    assert section is not None
    words = _plain(section.body)
    assert words.count("+0.123 (-0.432 to +0.568) 0.099") == 2
    assert "those of a method are for 2 sites together" in words


def test_sites_section__anonymous_sites_are_numbers(report: StudyReport) -> None:
    page = Page("x")
    section = sites_section(page, report.sites, is_anonymous=True)
    assert section is not None
    for named in ("Mary", "zarr", ".png"):
        assert named not in section.body
        assert named not in page.figures["sites"].to_json()
    assert "site 1" in section.body


def test_sites_section__none_without_sites() -> None:
    assert sites_section(Page("x"), None, is_anonymous=False) is None


def test_write_report__has_the_section(report: StudyReport, tmp_path: Path) -> None:
    assert report.run is not None
    dvme.write_report(report.run, out=tmp_path / "r.html", options=dvme.PageOptions(methods=["pca"]))
    assert 'id="sites"' in (tmp_path / "r.html").read_text()
