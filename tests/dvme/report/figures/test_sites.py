from dataclasses import replace

import pytest

from dvme.report.figures.sites import sites
from dvme.stats.intervals import Comparison, Interval
from dvme.study.sites.outcome import Drop, FindingDrop, SiteResult, SitesResult

NAN = float("nan")
UNTESTED = Comparison(Interval(0.1, 0.05, 0.15), 0.01, NAN, NAN)
LEAD = Drop("a + linear", Interval(0.8, 0.75, 0.86), Interval(0.7, 0.6, 0.78), UNTESTED, UNTESTED, "")


def finding(name: str, external: float) -> FindingDrop:
    ends = Interval(external, external - 0.1, external + 0.1)
    return FindingDrop(
        "a + linear", Interval(0.8, NAN, NAN), ends, UNTESTED, UNTESTED, "", name, (name,), (9, 9), (4, 4)
    )


def site(name: str, *findings: FindingDrop) -> SiteResult:
    judged = tuple(each.finding for each in findings)
    other = replace(LEAD, method="a + knn", external=Interval(0.1, 0.0, 0.2))
    return SiteResult(name, "", 9, None, {}, {}, (), (), judged, (other, LEAD), findings, (), ())


def test_sites__both_places_of_the_leading_method_row_by_row() -> None:
    ny, la = site("<b>ny", finding("Edema", 0.6), finding("Mass", 0.65)), site("la", finding("Edema", 0.9))
    figure = sites(SitesResult("auc", "a + linear", (ny, la)))
    own, there = figure.data
    assert [trace.name for trace in (own, there)] == ["own test images", "at the site"]
    assert list(own.x) == [0.8, 0.8, 0.8, 0.8]
    assert list(there.x) == [0.7, 0.6, 0.65, 0.7]  # a site's only finding is its mean
    assert there.error_x.array == pytest.approx((0.08, 0.1, 0.1, 0.08))
    assert own.error_x.arrayminus == pytest.approx((0.05, 0.0, 0.0, 0.05))  # none without an interval
    assert [note.text for note in figure.layout.annotations] == [
        "<b>&lt;b&gt;ny</b>", "AUC, all that both have", "Edema", "Mass", "<b>la</b>", "Edema",
    ]  # fmt: skip
    assert list(own.y) == sorted(own.y)
    assert all(mine < its for mine, its in zip(own.y, there.y, strict=True))
    assert "drop: +0.100 (+0.050 to +0.150)" in own.hovertext[0]
    assert [line.x0 for line in figure.layout.shapes] == [0.5]


def test_sites__another_metric_has_no_findings_and_no_chance() -> None:
    figure = sites(SitesResult("accuracy", "a + linear", (site("ny", finding("Edema", 0.6)),)))
    assert list(figure.data[1].x) == [0.7]
    assert not figure.layout.shapes
