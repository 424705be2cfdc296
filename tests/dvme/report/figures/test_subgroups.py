from dataclasses import replace

import pytest
from people import some_subgroups

from dvme.report.figures.subgroups import subgroups


def test_subgroups__points_bars_and_words_column_by_column() -> None:
    sex, view, age = figure_data = subgroups(some_subgroups().overall, metric="auc").data
    assert [trace.name for trace in figure_data] == ["sex", "view", "age"]
    assert [list(trace.x) for trace in figure_data] == [[0.9, 0.7], [0.6, 0.61], [0.8]]
    assert sex.error_x.array == pytest.approx([0.04, 0.04])
    assert sex.error_x.arrayminus == pytest.approx([0.05, 0.05])
    assert (sex.marker.symbol, view.marker.symbol, age.marker.symbol) == ("circle", "circle-open", "circle-open")
    assert "0.900 (95% interval 0.850 to 0.940)" in sex.hovertext[0]
    places = [y for trace in figure_data for y in trace.y]
    assert places == sorted(places)


def test_subgroups__says_gaps_and_what_is_too_small() -> None:
    figure = subgroups(some_subgroups().overall, metric="auc")
    notes = [note.text for note in figure.layout.annotations]
    assert notes == [
        "<b>by sex</b>: F minus M<br>+0.200 (+0.100 to +0.400), p 0.001",
        "<b>by view</b>: PA minus AP<br>+0.010 (-0.090 to +0.210), p 0.900",
        "<b>by age</b><br>1 of 2 subgroups have a score; a gap is between two",
        "no finding that 3 patients have and 3 have not",
    ]
    assert list(figure.layout.yaxis.ticktext) == ["F", "M", "AP", "PA", "[0, 60)", "[60, 90]"]
    low, high = figure.layout.xaxis.range
    assert low < 0.5
    assert high > 1.0
    sex = some_subgroups().overall[0]
    assert sex.gap is not None
    tiny = subgroups([replace(sex, gap=replace(sex.gap, p_adjusted=1e-9))], metric="auc")
    assert tiny.layout.annotations[0].text.endswith("p &lt; 0.001")


def test_subgroups__names_are_no_markup() -> None:
    figure = subgroups(some_subgroups("<b>x").overall, metric="kappa")
    assert "<b>x" not in str(figure.layout.annotations[0].text)
    assert "<b>x" not in "".join(figure.layout.yaxis.ticktext)
    assert figure.layout.xaxis.title.text == "test quadratic kappa"
