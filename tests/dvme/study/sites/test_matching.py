from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.data.targets import Targets
from dvme.errors import DataError
from dvme.study.sites.matching import Matched, matched

NAN = np.nan
FINDINGS = Targets.of(np.array(["|Edema|", "|Effusion|Mass|", "|"], dtype=object))
BINARY = Targets.of(np.array(["NORMAL", "PNEUMONIA"], dtype=object))
GRADES = Targets.of(np.array(["0", "1", "2", "3"], dtype=object))


def _matched(labels: list[str], ours: Targets, **wanted: Any) -> Matched:
    names = {name: (value,) if isinstance(value, str) else value for name, value in wanted.items()}
    return matched("ny", Targets.of(np.array(labels, dtype=object)), ours, names)


def _table(found: Matched) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in found.truth.tolist()]


def test_matched__findings_by_name_and_what_is_not_named_is_not_known() -> None:
    found = _matched(["|Edema|Hernia|", "|Mass=|", "|Edema=?|Mass=|", "|Mass|"], FINDINGS)
    assert FINDINGS.classes == ("Edema", "Effusion", "Mass")
    assert found.rows.tolist() == [0, 1, 3]  # of the third nothing is known that both have
    assert _table(found) == [[1, None, 0], [0, None, None], [0, None, 1]]
    assert found.pairs == {"Edema": ("Edema",), "Mass": ("Mass",)}
    assert (found.ours_only, found.theirs_only) == (("Effusion",), ("Hernia",))
    assert found.left_out == {"without a known finding that both have": 1}
    assert not found.is_of_classes
    assert found.notices == (
        "ny: of the study's findings it lacks Effusion",
        "ny: the study lacks Hernia",
        "ny: left out: 1 without a known finding that both have",
    )


def test_matched__several_names_are_there_where_one_is_and_absent_where_all_are() -> None:
    labels = ["|a|", "|b|", "|", "|a=|", "|a=|b|", "|a|b=|", "|Edema|"]
    found = _matched(labels, FINDINGS, Edema=("a", "b"))
    assert [row[0] for row in _table(found)] == [1, 1, 0, 1, 1, 0]
    assert found.rows.tolist() == [0, 1, 2, 4, 5, 6]
    assert found.theirs_only == ("Edema",)  # what was said goes before the name
    assert found.notices[0] == "ny: Edema is a or b there"


def test_matched__a_site_of_one_class_each_knows_its_findings_alone() -> None:
    found = _matched(["PNEUMONIA", "NORMAL", "Mass"], FINDINGS, Edema="PNEUMONIA")
    assert _table(found) == [[1, None, 0], [0, None, 0], [0, None, 1]]
    assert found.notices[-1] == "ny: the study lacks NORMAL (its images count as being without the others)"


def test_matched__a_name_of_another_case_is_pointed_at() -> None:
    found = _matched(
        ["|pleural effusion|Mass|", "|"], Targets.of(np.array(["|Pleural_Effusion|Mass|", "|"], dtype=object))
    )
    assert found.notices[0] == (
        "ny: of the study's findings it lacks Pleural_Effusion; if it is the same, pass "
        "label_map={'Pleural_Effusion': 'pleural effusion'}"
    )


def test_matched__classes_at_a_site_of_findings() -> None:
    labels = ["|Pneumonia|", "|", "|Mass|", "|Pneumonia|Mass|", "|Pneumonia=|", "|Pneumonia|Mass=|"]
    both = _matched(labels, BINARY, PNEUMONIA="Pneumonia", NORMAL="No Finding")
    assert both.rows.tolist() == [0, 1, 3, 5]
    assert both.labels.tolist() == [1, 0, 1, 1]
    assert both.is_of_classes
    assert both.left_out == {"of which the class is not known": 1, "of no class of the study": 1}
    alone = _matched(labels, BINARY, PNEUMONIA="Pneumonia")
    assert alone.rows.tolist() == [0, 1, 2, 3, 5]
    assert alone.labels.tolist() == [1, 0, 0, 1, 1]
    assert "ny: all images without PNEUMONIA count as NORMAL, whatever else they have" in alone.notices
    several = _matched(["|1|", "|1|2|", "|"], GRADES)  # of more classes each is a question by itself
    assert _table(several) == [[None, 1, 0, None], [None, 1, 1, None], [None, 0, 0, None]]
    assert not several.is_of_classes
    whole = _matched(["|0|", "|1|2|", "|", "|3|2=|"], GRADES)
    assert (whole.rows.tolist(), whole.labels.tolist()) == ([0, 3], [0, 3])
    assert whole.left_out == {"of several of the study's classes": 1, "of no class of the study": 1}


def test_matched__classes_at_a_site_of_classes() -> None:
    found = _matched(["1", "x", "3", "1", "four"], GRADES, **{"3": ("3", "four")})
    assert (found.rows.tolist(), found.labels.tolist()) == ([0, 2, 3, 4], [1, 3, 1, 3])
    assert (found.shared, found.ours_only, found.theirs_only) == ((1, 3), ("0", "2"), ("x",))
    assert found.left_out == {"of no class of the study": 1}
    assert found.is_of_classes


@pytest.mark.parametrize(
    ("labels", "ours", "wanted", "said"),
    [
        (
            ["a", "b"],
            BINARY,
            {},
            r"none of the study's classes \(NORMAL, PNEUMONIA\), it has a, b; say .*{'OURS': 'THEIRS'}",
        ),
        (["|pneumonia|"], BINARY, {}, r"it has pneumonia, No Finding; .*label_map={'PNEUMONIA': 'pneumonia'}"),
        (["|Mass|"], FINDINGS, {"Edema": "Oedema"}, r"has no 'Oedema' for label_map={'Edema': 'Oedema'}; it has Mass"),
        (["a", "b"], FINDINGS, {"Edema": "No Finding"}, r"has no 'No Finding' for .*; it has a, b"),
    ],
)
def test_matched__what_does_not_fit_is_one_line(labels: list[str], ours: Targets, wanted: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        _matched(labels, ours, **wanted)
    assert "\n" not in str(refused.value)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=3, max_size=3), min_size=1, max_size=8))
def test_matched__every_image_is_judged_or_counted(rows: list[list[float]]) -> None:
    """And is judged as its own cells say, whichever kind the study is of."""
    values = np.array(rows, dtype=np.float32)
    theirs = Targets(("0", "1", "x"), values)
    for ours in (FINDINGS, GRADES):
        wanted = {"Edema": ("0",), "Mass": ("1",)} if ours is FINDINGS else {}
        found = matched("ny", theirs, ours, wanted)
        assert len(found.rows) + sum(found.left_out.values()) == len(rows)
        places = [ours.classes.index(name) for name in found.pairs]
        np.testing.assert_array_equal(found.truth[:, places], values[found.rows, :2])
        assert np.isnan(np.delete(found.truth, places, axis=1)).all()
