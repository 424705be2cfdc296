"""The scripts of a page outside of a browser: their types, and their arithmetic beside peers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import points_in_poly

from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html import many_points
from dvme.report.html.explorer import Measured, Points, explorer_data
from dvme.report.html.page import EXPLORER
from dvme.report.html.template import asset

HERE = Path(__file__).parent
NODE, TSC = shutil.which("node"), shutil.which("tsc")
WITHOUT_BROWSER = tuple(name for name in EXPLORER if name != "explorer.js")
"""Those that only define; explorer.js starts as it is read."""


def told(expression: str, given: Any = None) -> Any:
    """What an expression is in node, where the scripts were read, or its promise; `given` is what it goes by."""
    if NODE is None:
        pytest.skip("no node on this machine: apt-get install nodejs")
    scripts = "\n".join(asset(name) for name in WITHOUT_BROWSER)
    said = f"Promise.resolve({expression}).then(found => console.log(JSON.stringify(found)));"
    code = f"{scripts}\nconst given = {json.dumps(given)};\n{said}"
    done = subprocess.run([NODE, "-"], input=code, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_scripts__have_the_types_that_they_say() -> None:
    """By an installed compiler of TypeScript; none is fetched."""
    assert all(asset(name).startswith("// @ts-check\n") for name in ("page.js", *EXPLORER))
    named = [Path(each).name for each in json.loads((HERE / "tsconfig.json").read_text())["files"]]
    assert set(named) == {"page.d.ts", "page.js", *EXPLORER}
    if TSC is None:
        pytest.skip("no tsc on this machine: npm install --global typescript")
    done = subprocess.run([TSC, "--project", str(HERE)], check=False, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_columns__come_back_as_they_were_packed() -> None:
    labels = np.array(["10%", "", "9%", "10%"], dtype=object)
    ages = Measured(np.array([1.5, np.nan, 3.0, -2.0]), ["1.50", "", "3", "-2"])
    data = explorer_data(Points([*"abcd"], {"label": labels, "age": ages}, None), [])
    found = told(
        "given.map(columnOf).map(c => ({kind: c.constructor.name, texts: [0, 1, 2, 3].map(i => c.text(i)), "
        "counts: c.counts && [...c.counts], range: [c.low, c.high]}))",
        data["columns"],
    )
    assert [each["kind"] for each in found] == ["Category", "Numbers"]
    assert found[0]["texts"] == labels.tolist()
    assert found[0]["counts"] == [1, 2, 1]
    assert (found[1]["texts"], found[1]["range"]) == (ages.texts, [-2, 3])


def test_unpacked__is_what_was_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_points, "MOST_PLAIN", 3)
    labels = np.array(["10%", "", "9%", "10%"], dtype=object)
    ages = Measured(np.array([1.5, np.nan, 3.0, -2.0]), ["1.50", "", "3", "-2"])
    doses = Measured(np.array([1.25, np.nan, 3.0, -2.0]), [""] * 4)
    places = np.array([[0.5, 2], [-1, 3], [4, 7.5], [0.25, 0]], dtype=np.float32)
    quality = MapQuality(0.9, 0.5, 0.1, 0.7, 1, 4)
    drawn = EmbeddingMap("m", "pca", places, quality, is_kept=False)
    _, data = many_points.explored(Points([*"abcä"], {"label": labels, "age": ages, "dose": doses}, None), [drawn])
    found = told(
        "unpacked(given).then(data => ({ids: data.ids, places: [...data.maps[0].places], columns: data.columns"
        ".map(columnOf).map(c => ({kind: c.constructor.name, texts: [0, 1, 2, 3].map(i => c.text(i)), "
        "counts: c.counts && [...c.counts], range: [c.low, c.high]}))}))",
        data,
    )
    assert found["ids"] == [*"abcä"]
    np.testing.assert_allclose(np.reshape(found["places"], (4, 2)), places, atol=7.5 / 65_534)
    label, age, dose = found["columns"]
    assert (label["kind"], age["kind"], dose["kind"]) == ("Category", "CodedNumbers", "CodedNumbers")
    assert (label["texts"], label["counts"]) == (labels.tolist(), [1, 2, 1])
    assert (age["texts"], age["range"]) == (ages.texts, [-2, 3])
    assert dose["texts"] == ["1.25", "", "3", "-2"]
    assert dose["range"] == pytest.approx([-2, 3])
    ids = told("unpacked(given).then(data => data.ids)", {**data, "ids": None})
    assert ids == ["0", "1", "2", "3"]


def test_coded_numbers__have_the_colours_of_plain_ones() -> None:
    values = [0.5, None, 3.0, -2.0, 0.5]
    fill = "(c => { const colors = new Uint8Array(20); c.fill(colors, new Uint8Array(5)); return [...colors]; })"
    plain, coded = told(
        f"[new Numbers({{numbers: Float32Array.from(given, v => v ?? NaN)}}), new CodedNumbers({{codes: "
        f"Uint8Array.of(0, 1, 2, 3, 0), table: Float32Array.of(0.5, NaN, 3, -2), texts: null}})].map({fill})",
        values,
    )
    assert plain == coded


BINNED = (
    "(painter => { const {binned} = BinnedPoints.prototype, places = given.places.flat(); "
    "const found = binned.call(painter, places, given.view, 4, 50, 40); "
    "return {inSight: found.inSight, counts: [...found.counts], chosen: [...found.chosen], drawn: [...found.drawn]}; })"
    "({n: given.states.length, states: given.states, lots: given.states.map((_, i) => lotOf(i))})"
)


def test_binned__counts_what_is_in_each_square() -> None:
    """4 x 4 pixels to a square; the counts are those of numpy, the image drawn is one of the square, chosen first."""
    rng = np.random.default_rng(0)
    places, states = rng.normal(size=(5_000, 2)), rng.choice(4, 5_000, p=[0.1, 0.5, 0.3, 0.1])
    view = {"scale": 40.0, "x": 90.0, "y": 70.0}
    found = told(BINNED, {"places": places.tolist(), "states": states.tolist(), "view": view})
    x, y = (places * 40 + [90, 70]).T / 4
    edges = (np.arange(41), np.arange(51))
    for name, some in (("counts", states > 0), ("chosen", states == 3)):
        expected, _, _ = np.histogram2d(y[some], x[some], edges)
        np.testing.assert_array_equal(np.reshape(found[name], (40, 50)), expected)
    assert found["inSight"] == sum(found["counts"]) < (states > 0).sum()
    square = np.floor(y).astype(int) * 50 + np.floor(x).astype(int)
    inside = (x >= 0) & (x < 50) & (y >= 0) & (y < 40) & (states > 0)
    for place in np.flatnonzero(found["counts"]):
        here = np.flatnonzero(inside & (square == place))
        drawn = found["drawn"][place]
        assert drawn in here
        assert states[drawn] == states[here].max()


def test_binned__draws_by_chance_whom_the_order_does_not_favour() -> None:
    """Of 2,000 squares with 20 images each, the first, middle and last are drawn about equally often."""
    found = np.array(told("Array.from({length: 40000}, (_, i) => lotOf(i))")).reshape(-1, 20)
    drawn = np.bincount(found.argmax(axis=1), minlength=20)
    assert ((drawn - 100) ** 2 / 100).sum() < 43.8  # chi-square of 19 degrees of freedom, 0.1%
    assert 0 <= found.min() < found.max() < 2**30


def test_selected__is_a_set_in_order() -> None:
    """Beside Python's own set, through the same random steps."""
    rng = np.random.default_rng(0)
    steps = [(bool(add), int(i)) for add, i in zip(rng.random(300) < 0.6, rng.integers(0, 40, 300), strict=True)]
    own, seen = set[int](), list[Any]()
    for is_added, i in steps:
        was = i in own
        (own.add if is_added else own.discard)(i)
        seen.append([was, len(own), sorted(own)])
    found = told(
        "(s => given.map(([isAdded, i]) => { const was = isAdded ? s.has(i) : s.delete(i); if (isAdded) s.add(i); "
        "return [was, s.size, s.list()]; }).concat([(s.clear(), [s.size, s.list()])]))(new Selected(40))",
        steps,
    )
    assert found == [*seen, [0, []]]


def test_columns__of_many_classes_no_two_look_alike() -> None:
    names = [f"class {number}" for number in range(64)]
    data = explorer_data(Points(names, {"label": np.array(names, dtype=object)}, None), [])
    looks = told("(c => c.values.map((_, code) => [c.hex(code), c.symbol(code)]))(columnOf(given))", data["columns"][0])
    assert len({tuple(look) for look in looks}) == 64


def test_on_scale__is_linear_between_its_colours() -> None:
    shares = np.linspace(-0.1, 1.1, 49)
    scale, found = told("[SCALE, given.map(onScale)]", shares.tolist())
    stops = np.array([[int(each[k : k + 2], 16) for k in (1, 3, 5)] for each in scale])
    places = np.linspace(0, 1, len(stops))
    expected = np.stack([np.interp(shares, places, channel) for channel in stops.T], axis=1)
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize("is_simple", [True, False])
def test_enclosed__takes_what_lies_in_the_lasso_and_is_shown(is_simple: bool) -> None:
    rng = np.random.default_rng(0)
    points, turns = rng.uniform(-1, 1, (400, 2)), np.arange(10) * np.pi / 5
    star = np.stack([np.sin(turns), np.cos(turns)], axis=1) * np.where(np.arange(10) % 2, 0.35, 0.95)[:, None]
    hidden = rng.random(400) < 0.2
    star = star if is_simple else rng.uniform(-1, 1, (60, 2))
    found = told(
        "MapView.prototype.enclosed.call({explorer: {n: given.points.length, states: given.states}, "
        "x: i => given.points[i][0], y: i => given.points[i][1]}, given.star)",
        {"points": points.tolist(), "star": star.tolist(), "states": np.where(hidden, 0, 2).tolist()},
    )
    assert found == np.flatnonzero(points_in_poly(points, star) & ~hidden).tolist()


def test_nearest__is_the_nearest_that_is_shown() -> None:
    rng = np.random.default_rng(1)
    points, hidden = rng.uniform(0, 100, (200, 2)), rng.random(200) < 0.3
    places = rng.uniform(0, 100, (20, 2))
    found = told(
        "given.places.map(([x, y]) => MapView.prototype.nearest.call({explorer: {n: 200, states: given.states}, "
        "x: i => given.points[i][0], y: i => given.points[i][1]}, x, y))",
        {"points": points.tolist(), "places": places.tolist(), "states": np.where(hidden, 0, 2).tolist()},
    )
    distances = np.linalg.norm(places[:, None] - points[None], axis=2) + np.where(hidden, np.inf, 0.0)
    assert found == distances.argmin(axis=1).tolist()
