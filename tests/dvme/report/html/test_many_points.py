"""The data of many points: what is kept to the digit, what is rounded, and what is left out first."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html import many_points as module
from dvme.report.html.explorer import Column, Measured, Points, explorer_data, explorer_html
from dvme.report.html.many_points import explored

N = 500
RNG = np.random.default_rng(0)
PLACES = RNG.normal(size=(N, 2)).astype(np.float32) * [3, 40] + [7, -2]
LABELS = np.array([("10%", "", "9%")[i % 3] for i in range(N)], dtype=object)
SCORES = RNG.uniform(0, 1, N)
DOSES = RNG.normal(size=N)


def _texts(packed: Mapping[str, str]) -> list[str]:
    found: list[str] = json.loads(zlib.decompress(base64.b64decode(packed["deflated"])))
    return found


def _numbers(packed: Mapping[str, str]) -> Any:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["deflated"])), np.uint8)
    size = int(packed["type"][1])
    return planes.reshape(size, -1).T.copy().view(f"<{packed['type']}")[:, 0]


def _map() -> EmbeddingMap:
    return EmbeddingMap("a", "umap", PLACES.astype(np.float32), MapQuality(0.9, 0.5, 0.1, 0.7, 15, N), is_kept=False)


def _points() -> Points:
    columns: dict[str, Column] = {
        "label": LABELS,
        "score": Measured(SCORES, [f"{value:.2f}" for value in SCORES]),
        "dose": Measured(DOSES, [""] * N),
    }
    return Points([f"folder/{i:04d}.png" for i in range(N)], columns, None)


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if N images were many."""
    monkeypatch.setattr(module, "MOST_PLAIN", N - 1)


def test_explored__of_few_images_is_plain() -> None:
    body, data = explored(_points(), [_map()], ["said"])
    assert body == explorer_html(_points(), [_map()], ["said"])
    assert data == explorer_data(_points(), [_map()])
    assert "data-reading" not in body


@pytest.mark.usefixtures("_few")
def test_explored__comes_back() -> None:
    body, data = explored(_points(), [_map()], ["said"])
    assert data["n"] == N
    assert _texts(data["ids"]) == _points().ids
    (found,) = data["maps"]
    assert (found["name"], found["method"]) == ("a", "UMAP")
    for axis, values in zip(found["axes"], _map().positions.T, strict=True):
        assert np.abs(axis["low"] + axis["step"] * _numbers(axis["codes"]) - values).max() <= axis["step"] * 0.501
    label, score, dose = data["columns"]
    assert _texts(label["values"]) == ["9%", "10%", ""]
    assert [_texts(label["values"])[code] for code in _numbers(label["codes"])] == LABELS.tolist()
    texts, codes = _texts(score["texts"]), _numbers(score["codes"])
    assert [texts[code] for code in codes] == [f"{value:.2f}" for value in SCORES]
    assert np.abs(_numbers(score["numbers"])[codes] - SCORES).max() < 0.0101  # the mean of those that read the same
    grid = dose["grid"]
    assert np.abs(grid["low"] + grid["step"] * _numbers(grid["codes"]) - DOSES).max() <= grid["step"] * 0.501
    for words in ("said", "500 images are drawn in squares", "taken by chance", "range: dose.", "Reading 500 images"):
        assert words in body
    assert "score" not in body.partition("Rounded")[2].partition("</p>")[0]
    assert "Left out" not in body


@pytest.mark.usefixtures("_few")
def test_explored__rounds_what_has_too_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TEXTS", 20)
    _, data = explored(_points(), [_map()])
    assert ["grid" in each for each in data["columns"]] == [False, True, True]


@pytest.mark.usefixtures("_few")
def test_explored__means_of_a_text_are_of_its_values() -> None:
    values = np.array([1.0, 2.0, np.nan] * 100)
    column = Measured(values, ["low", "low", ""] * 100)
    points = Points(["x"] * 300, {"label": LABELS[:300], "c": column}, None)
    found = module._packed_column("c", points.columns["c"], ()).data
    assert _texts(found["texts"]) == ["low", ""]
    np.testing.assert_array_equal(_numbers(found["numbers"]), [1.5, np.nan])


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("kept", [["label"], ["label", "grade"], ["label", "grade", "dose"]])
@pytest.mark.parametrize("has_names", [True, False])
def test_explored__leaves_out_names_and_then_the_largest(
    monkeypatch: pytest.MonkeyPatch, kept: list[str], has_names: bool
) -> None:
    """There is just room for what is kept. The label, which colours the points, always is."""
    columns = {"label": LABELS, "dose": _points().columns["dose"], "grade": LABELS}
    rng = np.random.default_rng(0)
    names = [rng.bytes(30).hex() for _ in range(N)]
    points = Points(names, columns, None)
    _, whole = explored(points, [_map()])
    sizes = {each["name"]: module._n_bytes(each) for each in whole["columns"]}
    n_names = module._n_bytes(whole["ids"])
    assert sizes["grade"] < sizes["dose"] < sum(sizes.values()) < n_names
    room = module._n_bytes(whole["maps"]) + sum(sizes[name] for name in kept) + has_names * n_names
    monkeypatch.setattr(module, "MOST_PACKED", room)
    body, data = explored(points, [_map()])
    assert {each["name"] for each in data["columns"]} == set(kept)
    assert (data["ids"] is not None) == has_names
    said = body.partition("Left out")[2].partition("</p>")[0]
    assert {name for name in columns if f"{name} (" in said} == set(columns) - set(kept)
    assert ("names of images" in said) == ("called by its position" in said) == (not has_names)
    assert ("dvme cache export" in said) == (not has_names or len(kept) < 3)
    assert {name for name in columns if f"<option>{name}</option>" in body} == set(kept)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(("room", "is_said"), [(0, False), (-1, True)])
def test_explored__leaves_out_no_map_but_says_that_they_are_many(
    monkeypatch: pytest.MonkeyPatch, room: int, is_said: bool
) -> None:
    _, whole = explored(_points(), [_map(), _map()])
    monkeypatch.setattr(module, "MOST_PACKED", module._n_bytes(whole["maps"]) + room)
    body, data = explored(_points(), [_map(), _map()])
    assert data["maps"] == whole["maps"]
    assert ("2 maps alone take 0 MB" in body) == is_said
