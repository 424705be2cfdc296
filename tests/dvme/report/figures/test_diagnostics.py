import numpy as np
import pytest
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    roc_auc_score,
)
from sklearn.metrics import (
    precision_recall_curve as reference_precision_recall,
)
from sklearn.metrics import (
    roc_curve as reference_roc,
)

from dvme.errors import DataError
from dvme.report import calibration, confusion, precision_recall, roc
from dvme.report.figures.diagnostics import precision_recall_curve, reliability, roc_curve, wilson

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


@pytest.mark.parametrize("c", [0, 1, 2])
def test_roc_curve__as_scikit_learn(c: int) -> None:
    x, y, area = roc_curve(c == LABELS, P[:, c])
    false, true, _ = reference_roc(c == LABELS, P[:, c], drop_intermediate=False)
    np.testing.assert_allclose(x, false)
    np.testing.assert_allclose(y, true)
    assert area == pytest.approx(roc_auc_score(c == LABELS, P[:, c]))


@pytest.mark.parametrize("c", [0, 1, 2])
def test_precision_recall_curve__as_scikit_learn(c: int) -> None:
    x, y, area = precision_recall_curve(c == LABELS, P[:, c])
    assert area == pytest.approx(average_precision_score(c == LABELS, P[:, c]))
    assert auc(x, y) == pytest.approx(area)  # the drawn steps enclose what the legend says
    precision, recall, _ = reference_precision_recall(c == LABELS, P[:, c])
    known = set(zip(recall.round(9), precision.round(9), strict=True))
    assert set(zip(x[1::2].round(9), y[1::2].round(9), strict=True)) <= known


def test_precision_recall_curve__by_hand() -> None:
    x, y, area = precision_recall_curve(np.array([False, True, False, True]), np.array([0.9, 0.8, 0.7, 0.6]))
    assert x.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert y.tolist() == [0.5, 0.5, 0.5, 0.5]
    assert area == 0.5


def test_roc__a_line_for_each_class_with_its_area() -> None:
    figure = roc(LABELS, P, NAMES)
    areas = [roc_auc_score(c == LABELS, P[:, c]) for c in range(3)]
    assert [t.name for t in figure.data[:3]] == [f"{n} (AUC {a:.3f})" for n, a in zip(NAMES, areas, strict=True)]
    for trace, area in zip(figure.data, areas, strict=False):
        assert len(trace.x) <= 200
        assert auc(trace.x, trace.y) == pytest.approx(area, abs=1e-3)
    assert f"macro AUC {np.mean(areas):.3f}" in figure.layout.title.subtitle.text


def test_roc__two_classes_show_the_second() -> None:
    p = np.stack([1 - P[:, 1], P[:, 1]], axis=1)
    figure = roc((LABELS == 1).astype(int), p, ["no", "yes"])
    assert [trace.name.split(" ")[0] for trace in figure.data] == ["yes", "chance"]


def test_precision_recall__many_images_few_points() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 50_000)
    score = rng.beta(2, 2, 50_000) * 0.7 + 0.3 * labels
    figure = precision_recall(labels, np.stack([1 - score, score], axis=1), ["no", "yes"])
    trace = figure.data[0]
    assert len(trace.x) <= 200
    assert auc(trace.x, trace.y) == pytest.approx(average_precision_score(labels, score), abs=1e-3)


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


def test_roc__macro_mean_by_hand() -> None:
    """Nine classes ranked perfectly and one at random: tied scores make the diagonal."""
    labels = np.arange(10).repeat(4)
    p = np.eye(10)[labels]
    p[:, 9] = 0.5
    macro = roc(labels, p, [str(index) for index in range(10)]).data[0]
    np.testing.assert_allclose(macro.y, 0.9 + 0.1 * np.asarray(macro.x))
    assert macro.name == "macro mean (AUC 0.950)"


def test_reliability__by_hand() -> None:
    top = np.array([0.55, 0.6, 0.95, 0.95])
    p = np.stack([top, 1 - top], axis=1)
    n, confidence, accuracy, error = reliability(np.array([0, 1, 0, 0]), p)
    assert n.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]  # 0.6 is in (0.5, 0.6]
    assert confidence[5] == pytest.approx(0.575)
    assert accuracy[5] == 0.5
    assert accuracy[9] == 1.0
    assert error == pytest.approx(0.5 * 0.075 + 0.5 * 0.05)


def test_wilson__as_published() -> None:
    low, high = wilson(np.array([0.5, 0.0, np.nan]), np.array([10, 10, 0]))
    np.testing.assert_allclose(low[:2], [0.2366, 0.0], atol=1e-4)
    np.testing.assert_allclose(high[:2], [0.7634, 0.2775], atol=1e-4)
    assert np.isnan([low[2], high[2]]).all()


def test_calibration__points_bars_and_error() -> None:
    figure = calibration(LABELS, P, NAMES)
    n, confidence, accuracy, error = reliability(LABELS, P)
    _, points, bars = figure.data
    np.testing.assert_allclose(points.x, confidence[n > 0])
    np.testing.assert_allclose(points.y, accuracy[n > 0])
    low, high = wilson(accuracy, n)
    np.testing.assert_allclose(np.asarray(points.y) + points.error_y.array, high[n > 0])
    np.testing.assert_allclose(np.asarray(points.y) - points.error_y.arrayminus, low[n > 0])
    assert list(bars.y) == n.tolist()
    assert f"Expected calibration error {error:.3f}" in figure.layout.title.subtitle.text
