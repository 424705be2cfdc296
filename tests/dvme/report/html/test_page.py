"""The frame of a page: data that no browser takes for markup, and files that are whole or not there."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from plotly.graph_objects import Figure, Scatter

from dvme.report.figures import style
from dvme.report.html.page import NO_NETWORK, Page, Section, as_script, write_page
from dvme.report.html.tables import Row, choice, facts, part, table
from dvme.report.html.template import asset, filled, folded, heading, paragraph, soft

EVIL = "</script><script>alert(1)</script><!--"


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_as_script__comes_back_and_holds_no_markup(value: Any) -> None:
    dumped = as_script(value)
    assert json.loads(dumped) == value
    assert not set("<>&\u2028\u2029") & set(dumped)


def test_as_script__what_is_no_number_is_null() -> None:
    assert as_script({"a": float("nan"), "b": [float("inf"), 1.5]}) == '{"a":null,"b":["inf",1.5]}'


def test_write_page__everything_is_in_the_file(tmp_path: Path) -> None:
    page = Page(EVIL, head=paragraph("first"), themes={"light": style.template(), "dark": style.template(is_dark=True)})
    body = page.figure("curve", Figure(Scatter(x=[1, 2], y=[3, 4], name=EVIL), {"height": 321}), "said")
    page.sections = [Section("one", EVIL, body)]
    out = tmp_path / "page.html"
    write_page(page, out)
    text = out.read_text(encoding="utf-8")
    assert NO_NETWORK in text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", text)
    assert EVIL not in text
    assert text.count("plotly.js v") == 1
    assert 'style="height:321px"' in body
    assert list(out.parent.iterdir()) == [out]
    found = re.search(r'id="figure-curve">(.*?)</script>', text)
    assert found is not None
    figure = json.loads(found[1])
    assert figure["layout"] == {"height": 321}  # the theme is the page's
    np.testing.assert_array_equal(Figure(figure).data[0].y, [3, 4])


def test_write_page__a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        write_page(Page("t"), out)
    monkeypatch.undo()
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_tables__text_in_every_cell() -> None:
    shown = table((EVIL,), (EVIL,), [Row((EVIL,), (EVIL,), frozenset({0}), is_first=True)], EVIL)
    shown += facts({EVIL: EVIL}) + choice("name", EVIL, {EVIL: EVIL}) + part("name", EVIL, Markup())
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 11
    assert 'class="number best"' in shown


def test_scripts__share_the_figures_colours_and_shapes() -> None:
    palette = re.search(r"const PALETTE = (\[.*?\]);", asset("columns.js"))
    symbols = re.search(r"const SYMBOLS = (\[.*?\]);", asset("points.js"))
    neutral = re.search(r'const NOTHING = "(.*?)";', asset("columns.js"))
    assert palette is not None
    assert symbols is not None
    assert neutral is not None
    assert tuple(json.loads(palette[1])) == style.PALETTE
    assert tuple(json.loads(symbols[1])) == style.SYMBOLS
    assert neutral[1] == style.NEUTRAL


@given(st.text(), st.text())
def test_parts__hold_texts_that_come_back_and_no_markup(one: str, other: str) -> None:
    made = heading(one) + folded(one, soft(other), paragraph(other))
    tags = [
        "<h3>",
        "</h3>",
        "<details>",
        "<summary>",
        "</summary>",
        '<p class="soft">',
        "</p>",
        "<p>",
        "</p>",
        "</details>",
    ]
    assert re.findall("<[^>]*>", made) == tags
    told = f"<h3>{one}</h3><details><summary>{one}</summary>"
    assert html.unescape(made) == f'{told}<p class="soft">{other}</p><p>{other}</p></details>'


def test_filled__a_name_that_a_template_lacks_is_no_blank() -> None:
    with pytest.raises(jinja2.UndefinedError):
        filled("legend", what="Error")


def test_templates__breaks_of_lines_are_none_of_the_page() -> None:
    shown = filled("legend", what="a\nb", entries=[("one", "#fff"), ("two", "#000")])
    assert shown == (
        '<ul class="legend"><li><strong>a\nb</strong></li><li><span style="background:#fff"></span>one</li>'
        '<li><span style="background:#000"></span>two</li></ul>'
    )
    row = table(("name",), ("number",), [Row(("a",), ("1", "2"), frozenset({1}), is_first=True)], "label")
    assert row == (
        '<div class="scroll" tabindex="0" role="region" aria-label="label"><table><thead><tr><th scope="col">name</th>'
        '<th scope="col" class="number">number</th></tr></thead><tbody><tr class=\'group\'><td class="name">a</td>'
        '<td class="number">1</td><td class="number best">2</td></tr></tbody></table></div>'
    )
