"""The frame of a page: data that no browser takes for markup, and files that are whole or not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.graph_objects import Figure, Scatter

from dvme.report.figures import style
from dvme.report.html.page import NO_NETWORK, Page, Section, as_script, asset, write_page
from dvme.report.html.tables import Row, choice, facts, part, table

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
    page = Page(EVIL, head="<p>first</p>", themes={"light": style.template(), "dark": style.template(is_dark=True)})
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
    shown += facts({EVIL: EVIL}) + choice("name", EVIL, {EVIL: EVIL}) + part("name", EVIL, "")
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
