"""The data of the maps: packed as the script unpacks it."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html.explorer import Measured, Points, explorer_data, explorer_html, measured_or_named, short_ids

NAN = float("nan")


def _map(name: str, method: str = "pca", accuracy: float = 0.5) -> EmbeddingMap:
    positions = np.array([[1.5, -2.0], [0.25, 3.0], [7.0, 8.0]], dtype=np.float32)
    return EmbeddingMap(name, method, positions, MapQuality(0.9, 0.5, NAN, accuracy, 1, 3), is_kept=False)


def _points() -> Points:
    columns = {
        "label": np.array(["10%", "", "9%"], dtype=object),
        "age": Measured(np.array([1.5, np.nan, 3.0]), ["1.50", "", "3"]),
    }
    return Points(["a", "b", "c"], columns, None)


def test_explorer_data__comes_back() -> None:
    data = explorer_data(_points(), [_map("one"), _map("two", "tsne")])
    assert (data["ids"], data["thumbnails"]) == (["a", "b", "c"], None)
    assert [(each["name"], each["method"]) for each in data["maps"]] == [("one", "PCA"), ("two", "t-SNE")]
    places = np.frombuffer(base64.b64decode(data["maps"][0]["places"]), "<f4").reshape(3, 2)
    np.testing.assert_array_equal(places, _map("one").positions)
    label, age = data["columns"]
    assert label["values"] == ["9%", "10%", ""]  # by their numbers, nothing last
    assert np.frombuffer(base64.b64decode(label["codes"]), "<u4").tolist() == [1, 2, 0]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(age["numbers"]), "<f4"), [1.5, np.nan, 3.0])
    assert age["texts"] == ["1.50", "", "3"]


def test_explorer_data__classes_in_the_users_order() -> None:
    columns = {"label": np.array(["mild", "none", ""], object), "split": np.array(["test", "val", "test"], object)}
    data = explorer_data(Points(["1", "2", "3"], columns, None, ("none", "mild", "severe")), [])
    assert [each["values"] for each in data["columns"]] == [["none", "mild", ""], ["test", "val"]]


def test_explorer_html__names_what_is_measured_and_no_more() -> None:
    shown = explorer_html(_points(), [_map("<i>one</i>", accuracy=NAN), _map("two")])
    assert "&lt;i&gt;one&lt;/i&gt; · PCA" in shown
    assert "trustworthiness 0.90 · preservation 0.50</p>" in shown
    assert "trustworthiness 0.90 · preservation 0.50 · kNN 50%</p>" in shown
    assert "not evidence" in shown
    assert 'data-control="method"' not in shown
    assert 'data-control="method"' in explorer_html(_points(), [_map("one"), _map("one", "umap")])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/home/x/a/1.png", "/home/x/b/2.png"], ["a/1.png", "b/2.png"]),
        (["/home/x/1.png", "/home/x/2.png"], ["1.png", "2.png"]),
        (["/home/x/ab/1.png", "/home/x/ac/1.png"], ["ab/1.png", "ac/1.png"]),  # folders, not letters, are shared
        (["/home/x/1.png", "/home/x/deep/2.png"], ["1.png", "deep/2.png"]),
        (["1.png"], ["1.png"]),
        ([r"C:\x\Smith\1.png", r"C:\x\Jones\1.png"], ["Smith/1.png", "Jones/1.png"]),
        (["s3://bucket/a/1.png", "s3://bucket/b/1.png"], ["a/1.png", "b/1.png"]),
        ([], []),
    ],
)
def test_short_ids__without_the_shared_folder(paths: list[str], expected: list[str]) -> None:
    assert short_ids(paths) == expected


def test_measured_or_named__grades_are_names_ages_are_numbers() -> None:
    grades = np.array(["1", "2", "3"] * 10, dtype=object)
    assert measured_or_named(grades) is grades
    ages = np.array([str(age) for age in range(20, 40)] + [""], dtype=object)
    measured = measured_or_named(ages)
    assert isinstance(measured, Measured)
    np.testing.assert_array_equal(measured.values, [*range(20, 40), np.nan])
    assert measured.texts == ages.tolist()
    for name in ("007", "1_0", "1e5", "inf", "nan", "0x1"):
        named = np.array([*ages, name], dtype=object)
        assert measured_or_named(named) is named
    names = np.array([f"site {number}" for number in range(20)], dtype=object)
    assert measured_or_named(names) is names
