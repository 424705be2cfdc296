import numpy as np
import pytest
from sklearn.metrics import auc, confusion_matrix, roc_auc_score

from dvme.errors import DataError
from dvme.report import calibration, confusion, precision_recall, roc

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
SCORES = RNG.normal(size=(400, 3)).round(1)  # with ties
SCORES[np.arange(400), LABELS] += 1.0
P = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
NAMES = ["a", "b", "c"]


def test_confusion__counts_and_shares() -> None:
    figure = confusion(LABELS, P, NAMES)
    expected = confusion_matrix(LABELS, P.argmax(axis=1))
    np.testing.assert_allclose(figure.data[0].z, expected / expected.sum(axis=1, keepdims=True))
    assert figure.data[0].text[0][1] == str(expected[0, 1])
    assert f"true <b>a</b><br>predicted <b>b</b><br>{expected[0, 1]} images" in figure.data[0].hovertext[0][1]
    assert f"accuracy {expected.trace() / 400:.3f}" in figure.layout.title.subtitle.text


def test_confusion__many_classes_drop_text_and_names() -> None:
    names = [f"class {index}" for index in range(200)]
    labels = np.arange(200).repeat(2)
    figure = confusion(labels, np.eye(200)[labels], names)
    assert figure.data[0].text is None
    assert len(figure.layout.yaxis.ticktext) <= 30
    assert figure.data[0].hovertext[0][1] == ""
    assert "2 images, 100.0%" in figure.data[0].hovertext[7][7]
    assert figure.layout.height < 1000


def test_confusion__names_are_text_and_long_ones_are_cut() -> None:
    figure = confusion(np.array([0, 1]), np.eye(2), ["<script>", "x" * 300])
    assert list(figure.layout.xaxis.ticktext) == ["&lt;script&gt;", "x" * 16 + "<br>" + "x" * 15 + "…"]
    hover = figure.data[0].hovertext[1][0].replace("<br>", "")
    assert "x" * 300 in hover
    assert "<script>" not in hover


def test_confusion__rows_that_cannot_count() -> None:
    p = P.copy()
    p[0, 1] = np.nan
    labels = LABELS.copy()
    labels[1] = -1
    subtitle = confusion(labels, p, NAMES).layout.title.subtitle.text.replace("<br>", " ")
    assert subtitle.startswith("398 images")
    assert "2 without a label or a finite probability left out" in subtitle


def test_confusion__class_without_images_and_a_single_class() -> None:
    figure = confusion(np.zeros(3, dtype=int), np.eye(2)[[0, 0, 1]], ["a", "b"])
    assert np.isnan(figure.data[0].z[1]).all()
    assert "none of the true class" in figure.data[0].hovertext[1][0]
    assert confusion(np.zeros(3, dtype=int), np.ones((3, 1)), ["a"]).data[0].z.tolist() == [[1.0]]


@pytest.mark.parametrize("figure", [confusion, roc, precision_recall, calibration])
def test_figures__refuse_shapes_that_do_not_fit(figure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="pass matching"):
        figure(LABELS, P[:, :2], NAMES)
    with pytest.raises(DataError, match="count them from 0"):
        figure(LABELS + 1, P, NAMES)


@pytest.mark.parametrize("figure", [confusion, roc, precision_recall, calibration])
def test_figures__no_images(figure) -> None:  # type: ignore[no-untyped-def]
    subtitle = figure(np.empty(0, dtype=int), np.empty((0, 3)), NAMES).layout.title.subtitle.text
    assert "0 images" in subtitle.replace("<br>", " ")


def test_roc__a_line_for_each_class_with_its_area() -> None:
    figure = roc(LABELS, P, NAMES)
    areas = [roc_auc_score(c == LABELS, P[:, c]) for c in range(3)]
    assert [t.name for t in figure.data[:3]] == [f"{n} (AUC {a:.3f})" for n, a in zip(NAMES, areas, strict=True)]
    for trace, area in zip(figure.data, areas, strict=False):
        assert auc(trace.x, trace.y) == pytest.approx(area, abs=1e-3)
    assert f"macro AUC {np.mean(areas):.3f}" in figure.layout.title.subtitle.text


def test_roc__two_classes_show_the_second() -> None:
    p = np.stack([1 - P[:, 1], P[:, 1]], axis=1)
    figure = roc((LABELS == 1).astype(int), p, ["no", "yes"])
    assert [trace.name.split(" ")[0] for trace in figure.data] == ["yes", "chance"]


@pytest.mark.parametrize(("figure", "what"), [(roc, "AUC"), (precision_recall, "AP")])
def test_curves__many_classes_wait_below_their_mean(figure, what: str) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    labels, p = rng.integers(0, 12, 500), rng.dirichlet(np.ones(13), 500)
    figure = figure(labels, p, [f"<{index}>" for index in range(13)])
    macro, *classes = [trace for trace in figure.data if trace.name != "chance"]
    assert macro.name.startswith(f"macro mean ({what} ")
    assert len(classes) == 12
    assert {trace.visible for trace in classes} == {"legendonly"}
    assert classes[0].name.startswith("&lt;0&gt; (")
    assert "1 class without a curve" in figure.layout.title.subtitle.text.replace("<br>", " ")


def test_calibration__points_bars_and_error() -> None:
    """Of four images with a confidence of 0.75 one is wrong, and one with 0.95 is right."""
    top = np.array([0.75, 0.75, 0.75, 0.75, 0.95])
    figure = calibration(np.array([0, 0, 0, 1, 0]), np.stack([top, 1 - top], axis=1), ["a", "b"])
    _, points, bars = figure.data
    assert points.x.tolist() == pytest.approx([0.75, 0.95])
    assert points.y.tolist() == [0.75, 1.0]
    assert (points.y + points.error_y.array)[0] == pytest.approx(0.9544, abs=1e-4)  # Wilson's interval of 3 of 4
    assert (points.y - points.error_y.arrayminus)[0] == pytest.approx(0.3006, abs=1e-4)
    assert list(bars.y) == [0, 0, 0, 0, 0, 0, 0, 4, 0, 1]
    assert "Expected calibration error 0.010 over 10 bins, 5 images" in figure.layout.title.subtitle.text.replace(
        "<br>", " "
    )
