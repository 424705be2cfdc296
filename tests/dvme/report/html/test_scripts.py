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

from dvme.report.html.explorer import Measured, Points, explorer_data
from dvme.report.html.page import EXPLORER
from dvme.report.html.template import asset

HERE = Path(__file__).parent
NODE, TSC = shutil.which("node"), shutil.which("tsc")
WITHOUT_BROWSER = ("points.js", "columns.js", "thumbnails.js", "map.js")
"""Those that only define; explorer.js starts as it is read."""


def told(expression: str, given: Any = None) -> Any:
    """What an expression is in node, where the scripts were read; `given` is what it goes by."""
    if NODE is None:
        pytest.skip("no node on this machine: apt-get install nodejs")
    scripts = "\n".join(asset(name) for name in WITHOUT_BROWSER)
    code = f"{scripts}\nconst given = {json.dumps(given)};\nconsole.log(JSON.stringify({expression}));"
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


def test_enclosed__takes_what_lies_in_the_lasso_and_is_shown() -> None:
    rng = np.random.default_rng(0)
    points, turns = rng.uniform(-1, 1, (400, 2)), np.arange(10) * np.pi / 5
    star = np.stack([np.sin(turns), np.cos(turns)], axis=1) * np.where(np.arange(10) % 2, 0.35, 0.95)[:, None]
    hidden = rng.random(400) < 0.2
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
