import re

import pytest
from plotly import graph_objects

from dvme.report.figures import style


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a  b\n c", "a b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ('"it\'s"', "&#34;it&#x27;s&#34;"),  # plotly shows `&quot;` as it stands
        ("x" * 41, "x" * 39 + "…"),
        ("x" * 40, "x" * 40),
    ],
)
def test_shown__text_never_markup(name: str, expected: str) -> None:
    assert style.shown(name) == expected


def test_shown__cut_before_it_is_escaped() -> None:
    assert style.shown("&" * 50) == "&amp;" * 39 + "…"


def test_whole__all_of_it() -> None:
    assert style.whole("y" * 300).replace("<br>", "") == "y" * 300


def test_wrapped__two_lines_at_most() -> None:
    assert style.wrapped("efficientnet-lite0") == "efficientnet-<br>lite0"
    assert style.wrapped("z" * 300) == "z" * 16 + "<br>" + "z" * 15 + "…"


def test_name_ticks__every_nth_of_many() -> None:
    ticks = style.name_ticks([f"c{index}" for index in range(200)], at_most=30)
    assert ticks["tickvals"] == list(range(0, 200, 7))
    assert ticks["ticktext"][:2] == ["c0", "c7"]


def test_faded__by_hand() -> None:
    assert style.faded("#0072B2", 0.15) == "rgba(0,114,178,0.15)"


def test_finished__heading_is_wrapped_and_escaped() -> None:
    figure = style.finished(graph_objects.Figure(), title="<i>" + "long " * 12, subtitle="a & b", height=100)
    assert figure.layout.title.text.startswith("&lt;i&gt;long")
    assert "<br>" in figure.layout.title.text
    assert figure.layout.title.subtitle.text == "a &amp; b"
    assert figure.layout.height == 100 + figure.layout.margin.t


def test_template__dark_in_place_of_light_changes_every_color_of_the_page() -> None:
    figure = style.finished(graph_objects.Figure(), title="t", height=100)
    own = figure.to_dict()["layout"] | {"template": None}
    assert not re.search(r"#[0-9A-Fa-f]{6}|rgb", str(own))
    figure.update_layout(template=style.template(is_dark=True))
    assert figure.layout.template.layout.font.color == "#E6E6E6"


@pytest.mark.parametrize("background", ["#FFFFFF", "#12161C"])
@pytest.mark.parametrize("color", [*style.PALETTE, style.NEUTRAL])
def test_palette__reads_on_white_and_on_black(color: str, background: str) -> None:
    def luminance(text: str) -> float:
        parts = [int(text[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted([luminance(color), luminance(background)])
    assert (bright + 0.05) / (dark + 0.05) > 2
