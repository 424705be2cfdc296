from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.report import embedding_maps

NAN = float("nan")


@dataclass(frozen=True)
class Quality:
    trustworthiness: float = 0.97
    preservation: float = 0.4
    silhouette: float = NAN
    knn_accuracy: float = 0.8
    n_laid_out: int | None = None


@dataclass(frozen=True)
class PageMaps:
    name: str
    positions: NDArray[np.float64]
    method: str = "tsne"
    quality: Quality = field(default_factory=Quality)


LABELS = np.array(["cat", "dog", "cat", ""])
PLACES = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0], [4.0, 3.0]])


def test_embedding_maps__a_trace_for_each_class_and_panel() -> None:
    figure = embedding_maps([PageMaps("one", PLACES), PageMaps("two", -PLACES)], LABELS, ids=["w", "x", "<y>", "z"])
    assert [trace.name for trace in figure.data[:3]] == ["cat (2)", "dog (1)", "(no label) (1)"]
    cat, dog = figure.data[:2]
    assert list(cat.x) == [0.0, 2.0]
    assert list(cat.y) == [0.0, 1.0]
    assert list(cat.hovertext) == ["w<br>cat", "&lt;y&gt;<br>cat"]
    assert cat.marker.color != dog.marker.color
    assert cat.marker.symbol != dog.marker.symbol
    assert [trace.showlegend for trace in figure.data] == [True] * 3 + [False] * 3
    assert cat.legendgroup == figure.data[3].legendgroup
    assert list(figure.data[3].x) == [0.0, -2.0]
    assert figure.layout.title.text == "tsne maps of 4 images"


def test_embedding_maps__equal_aspect_and_square_panels() -> None:
    layout = embedding_maps([PageMaps("one", PLACES)], LABELS).layout
    assert layout.yaxis.scaleanchor == "x"
    across, up = layout.xaxis.range, layout.yaxis.range
    assert across[1] - across[0] == pytest.approx(up[1] - up[0])
    assert across[0] < 0
    assert across[1] > 4


def test_embedding_maps__quality_in_the_panel_title() -> None:
    text = embedding_maps([PageMaps("<b>" + "x" * 300, PLACES)], LABELS).layout.annotations[0].text
    assert text.startswith("<b>&lt;b&gt;xxx")
    assert "trust 0.97 · preserved 40%" in text
    assert "kNN 80%" in text
    assert "silhouette" not in text
    assert "x" * 41 not in text


def test_embedding_maps__says_below_the_name_that_images_were_placed() -> None:
    placed = PageMaps("one", PLACES, quality=Quality(n_laid_out=3))
    text = embedding_maps([placed], LABELS).layout.annotations[0].text
    assert "3 of 4 laid out, the others placed" in text
    assert "laid out" not in embedding_maps([PageMaps("one", PLACES)], LABELS).layout.annotations[0].text


def test_embedding_maps__at_most_three_in_a_row() -> None:
    maps = [PageMaps(str(index), PLACES) for index in range(4)]
    assert embedding_maps(maps, LABELS).layout.yaxis4.domain[1] < embedding_maps(maps, LABELS).layout.yaxis.domain[0]
    single = embedding_maps(maps, LABELS, per_row=1).layout
    assert single.yaxis2.domain[1] < single.yaxis.domain[0]
    assert list(single.xaxis.domain) == [0.0, 1.0]


@pytest.mark.parametrize(("n", "kind"), [(5_000, "scatter"), (5_001, "scattergl")])
def test_embedding_maps__many_points_on_the_graphics_card(n: int, kind: str) -> None:
    assert embedding_maps([PageMaps("one", np.zeros((n, 2)))], ["a"] * n).data[0].type == kind


def test_embedding_maps__200_classes_differ_while_they_can() -> None:
    figure = embedding_maps([PageMaps("one", np.zeros((200, 2)))], [f"{index:03d}" for index in range(200)])
    looks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
    assert len(looks) == 200
    assert len(set(looks)) == 64


def test_embedding_maps__positions_that_are_not_finite() -> None:
    layout = embedding_maps([PageMaps("one", np.full((2, 2), np.nan))], ["a", "b"]).layout
    assert np.isfinite(layout.xaxis.range).all()


def test_embedding_maps__refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="no map"):
        embedding_maps([], LABELS)
    with pytest.raises(DataError, match="for 3 labels"):
        embedding_maps([PageMaps("one", PLACES)], LABELS[:3])
    with pytest.raises(DataError, match="1 ids for 4"):
        embedding_maps([PageMaps("one", PLACES)], LABELS, ids=["a"])
