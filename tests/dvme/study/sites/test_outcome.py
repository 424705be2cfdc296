from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dvme.json_values import as_json, rebuilt
from dvme.stats.intervals import Comparison, Interval
from dvme.study.sites.outcome import Drop, SiteResult, SitesResult

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN)


def drop_from(internal: float, external: float, margin: float = 0.05, method: str = "a + linear") -> Drop:
    gap = internal - external
    ends = (Interval(value, value - margin, value + margin) for value in (internal, external, gap, gap))
    one, other, own, anew = ends
    return Drop(method, one, other, Comparison(own, 0.01, NAN, NAN), Comparison(anew, 0.01, NAN, NAN), "")


def site_of(*drops: Drop, name: str = "ny", why_not_external: tuple[str, ...] = ()) -> SiteResult:
    return SiteResult(
        *(name, f"{name}.zarr", 100, 80, {}, {"Edema": ("Oedema",)}, ("Mass",), (), ("Edema",), drops, (), ()),
        why_not_external,
    )


@pytest.mark.parametrize(
    ("drop", "word"),
    [(drop_from(0.8, 0.7), "drop"), (drop_from(0.7, 0.8), "rise"), (drop_from(0.8, 0.78), "no drop shown")],
)
def test_drop__its_word_goes_by_the_interval(drop: Drop, word: str) -> None:
    assert drop.word == word
    untested = replace(drop, drop=Comparison(Interval(0.1, NAN, NAN), NAN, NAN, NAN))
    assert untested.word == "no test"


def test_said__is_of_the_leading_method_where_it_drops_most() -> None:
    other = drop_from(0.9, 0.2, method="a + knn")
    la, ny = site_of(drop_from(0.8, 0.75), other, name="la"), site_of(drop_from(0.8, 0.7), other)
    assert SitesResult("auc", "a + linear", (la, ny)).said() == (
        "a + linear scores AUC 0.700 (95% CI 0.650 to 0.750) at ny and 0.800 (0.750 to 0.850) on the study's own test "
        "set, over Edema: these heads drop by 0.100 (0.050 to 0.150), and the drop of heads fitted on other draws is "
        "+0.050 to +0.150. That is the largest of 2 sites."
    )
    rise = site_of(drop_from(0.7, 0.8), why_not_external=("ny is not external",))
    said = SitesResult("auc", "a + linear", (rise,)).said()
    assert "these heads rise by 0.100 (0.050 to 0.150), and" in said
    assert said.endswith(" ny may not be an external site.")
    assert (
        "no drop is shown: +0.020 (-0.030 to +0.070)"
        in SitesResult("auc", "a + linear", (site_of(drop_from(0.8, 0.78)),)).said()
    )


def _together(drop: Drop, margin: float) -> Drop:
    gap = drop.drop.difference.estimate
    return replace(drop, together=Comparison(Interval(gap, gap - margin, gap + margin), 0.02, NAN, NAN))


def test_said__words_go_by_the_interval_for_all_sites_together() -> None:
    la, ny = (site_of(_together(drop_from(0.8, low), 0.06), name=name) for name, low in (("la", 0.745), ("ny", 0.7)))
    found = SitesResult("auc", "a + linear", (la, ny))
    assert [site.drops[0].word for site in found.sites] == ["no drop shown", "drop"]
    assert (
        "these heads drop by 0.100 (95% CI for 2 sites together 0.040 to 0.160), and the drop of heads fitted on other "
        "draws, for itself, is +0.050 to +0.150." in found.said()
    )
    assert found.families == "those of a method are for 2 sites together (Bonferroni)"
    assert SitesResult("auc", "a + linear", (ny,)).families == "each interval is for itself"


def test_sites_result__of_an_older_summary_has_intervals_each_for_itself() -> None:
    found = SitesResult("auc", "a + linear", (site_of(drop_from(0.8, 0.7)), site_of(drop_from(0.8, 0.75), name="la")))
    values = json.loads(as_json(_plain(found)))
    for site in values["sites"]:
        del site["drops"][0]["together"]
    assert repr(rebuilt(SitesResult, values)) == repr(found)
    assert found.families == "each interval is for itself"


def test_said__where_nothing_can_be_said() -> None:
    none = Drop("a + linear", NOTHING, NOTHING, *[Comparison(NOTHING, NAN, NAN, NAN)] * 2, "too few")
    assert SitesResult("auc", "a + linear", (site_of(none),)).said() == "Nothing can be said of ny: too few."
    assert SitesResult("auc", "", (site_of(),)).said() == "Nothing can be said of ny: no head of this study is kept."
    both = SitesResult("auc", "a + linear", (site_of(none), site_of(drop_from(0.8, 0.7), name="la")))
    assert both.said().endswith("Nothing can be said of ny.")


def test_sites_result__survives_json() -> None:
    found = SitesResult("auc", "a + linear", (site_of(drop_from(0.8, 0.7)),))
    assert repr(rebuilt(SitesResult, json.loads(as_json(_plain(found))))) == repr(found)


def _plain(found: SitesResult) -> object:
    from dataclasses import asdict

    return asdict(found)
