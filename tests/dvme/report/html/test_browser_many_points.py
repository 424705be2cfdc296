"""A page of many points in a real browser: the lasso counts as scikit-image does, and squares are those of numpy."""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import EVIL
from playwright.sync_api import Browser, Page
from skimage.measure import points_in_poly

import dvme
from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html import many_points
from dvme.report.html.explorer import Measured, Points
from dvme.report.html.many_points import explored
from dvme.report.html.packing import quantised
from dvme.report.html.page import Page as PageFile
from dvme.report.html.page import Section, write_page

Open = Callable[..., Page]
N = 24_000
"""More than are drawn one by one."""
NARROW = 700
"""CSS pixels of a page whose two maps are small, and quick to compare."""
CLASSES = np.array(["few", "many", "most", ""], dtype=object)
CODES = np.random.default_rng(0).choice(4, N, p=[0.1, 0.3, 0.55, 0.05])
SCORES = np.random.default_rng(1).uniform(size=N)


def _places(seed: int) -> Any:
    """(N, 2) a cloud for each class, as the page rounds them."""
    rng = np.random.default_rng(seed)
    places = (rng.normal(size=(4, 2)) * 2)[CODES] + rng.normal(size=(N, 2))
    axes = [quantised(axis) for axis in places.T.astype(np.float32)]
    return np.stack([axis.low + axis.step * axis.codes for axis in axes], axis=1)


PLACES = [_places(2), _places(3)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two maps of N images, as if these were more than a page holds plainly."""
    quality = MapQuality(0.9, 0.5, 0.1, 0.7, 15, N)
    maps = [
        EmbeddingMap(name, "umap", places.astype(np.float32), quality, is_kept=False)
        for name, places in zip("ab", PLACES, strict=True)
    ]
    score = Measured(SCORES, [f"{value:.3f}" for value in SCORES])
    names = [f"site {i % 3}/{i:05d}.png" for i in range(N)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_points, "MOST_PLAIN", N - 1)
        body, data = explored(Points(names, {"label": CLASSES[CODES], "score": score}, None), maps)
    out = tmp_path_factory.mktemp("many") / "many.html"
    write_page(PageFile("maps", sections=[Section("maps", "Maps", body)], explorer=data), out)
    return out


def _ready(page: Page) -> None:
    page.wait_for_selector(".explorer[data-ready=yes]")
    page.locator(".maps").scroll_into_view_if_needed()


def _drag(page: Page, corners: list[tuple[float, float]], number: int = 0) -> Any:
    """Draw a lasso through corners, as shares of the map; its corners in device pixels, as the page has taken them."""
    page.evaluate(
        "k => { const m = explorer.maps[k]; m.enclosed = taken => { window.lasso = taken; "
        "return MapView.prototype.enclosed.call(m, taken); }; }",
        number,
    )
    box = page.locator(".map .stage").nth(number).bounding_box()
    assert box is not None
    on_screen = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*on_screen[0])
    page.mouse.down()
    for x, y in on_screen[1:]:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    return np.array(page.evaluate("window.lasso"))


def _chosen(page: Page) -> list[int]:
    found: list[int] = json.loads(page.evaluate("JSON.stringify(explorer.chosen())"))
    return found


def _on_screen(page: Page, number: int = 0) -> Any:
    """(N, 2) device pixels of the images in a map."""
    view = page.evaluate("k => explorer.maps[k].view", number)
    return PLACES[number] * [view["scale"], -view["scale"]] + [view["x"], view["y"]]


INK = """k => { const c = explorer.maps[k].points, {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  const opacity = Array.from({length: c.width * c.height}, (_, i) => String.fromCharCode(data[4 * i + 3]));
  return [c.width, c.height, btoa(opacity.join(""))]; }"""


def _ink(page: Page, number: int = 0) -> Any:
    """(height, width) how opaque each pixel of a map is."""
    width, height, opacity = page.evaluate(INK, number)
    return np.frombuffer(base64.b64decode(opacity), np.uint8).reshape(height, width).astype(float)


def test_page__says_what_is_drawn_and_is_never_too_wide(many: Path, opened: Open) -> None:
    assert "Reading 24,000 images" in many.read_text()
    for width in (1280, 400):
        page = opened(many, width=width)
        _ready(page)
        assert page.locator("[data-reading]").count() == 0
        assert "24,000 images are drawn in squares of 2 pixels" in page.locator(".note").all_inner_texts()[0]
        assert page.locator(".explorer").get_attribute("data-painter") == "BinnedPoints"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".swatches button").all_inner_texts() == [
            f"{name or '(none)'} ({count:,})" for name, count in sorted(Counter(CLASSES[CODES]).items(), key=_last)
        ]


def _last(entry: tuple[str, int]) -> tuple[bool, str]:
    return entry[0] == "", entry[0]


def test_lasso__counts_as_scikit_image_does(many: Path, opened: Open) -> None:
    page = opened(many, width=NARROW)
    _ready(page)
    for number, corners in enumerate(
        [[(0.2, 0.3), (0.9, 0.1), (0.7, 0.8), (0.5, 0.4)], [(0.1, 0.1), (0.9, 0.5), (0.1, 0.9)]]
    ):
        lasso = _drag(page, corners, number)
        inside = points_in_poly(_on_screen(page, number), lasso)
        assert 1_000 < inside.sum() < N - 1_000
        assert _chosen(page) == np.flatnonzero(inside).tolist()
        counts = sorted(Counter(CLASSES[CODES[inside]]).items(), key=lambda entry: -entry[1])
        shares = ", ".join(f"{name or '(none)'} {round(100 * count / inside.sum())}%" for name, count in counts)
        assert page.locator("[data-count]").inner_text() == f"{inside.sum():,} selected: {shares}"
    page.locator(".swatches button").first.click()  # what is hidden is not taken
    lasso = _drag(page, [(0.1, 0.1), (0.9, 0.5), (0.1, 0.9)])
    inside = points_in_poly(_on_screen(page), lasso)
    assert _chosen(page) == np.flatnonzero(inside & (CODES != 0)).tolist()


def test_squares__are_where_images_are_and_stronger_the_more_is_selected(many: Path, opened: Open) -> None:
    page = opened(many, width=NARROW)
    _ready(page)
    ink = _ink(page)
    edges = [np.arange(0, length + 3, 2) for length in ink.shape]
    x, y = _on_screen(page).T
    counts, _, _ = np.histogram2d(y, x, edges)
    np.testing.assert_array_equal(ink > 0, _spread(counts > 0, ink.shape))
    most, one = counts.max(), 255 * 0.4
    expected = one + 255 * 0.6 * np.log(np.maximum(counts, 1)) / np.log(most)
    np.testing.assert_allclose(ink[ink > 0], _spread(expected, ink.shape)[ink > 0], atol=1)
    lasso = _drag(page, [(0.1, 0.1), (0.9, 0.5), (0.1, 0.9)], 1)
    inside = points_in_poly(_on_screen(page, 1), lasso)
    chosen, _, _ = np.histogram2d(y[inside], x[inside], edges)
    expected = np.where(chosen > 0, one + 255 * 0.6 * chosen / np.maximum(counts, 1), 46 * (counts > 0))
    np.testing.assert_allclose(_ink(page), _spread(expected, ink.shape), atol=1)  # in the other map


def _spread(squares: Any, shape: tuple[int, ...]) -> Any:
    """Pixels of squares of 2."""
    return np.repeat(np.repeat(squares, 2, axis=0), 2, axis=1)[: shape[0], : shape[1]]


def test_zoom__few_in_sight_are_drawn_one_by_one(many: Path, opened: Open) -> None:
    page = opened(many, width=NARROW)
    _ready(page)
    page.evaluate("for (let k = 0; k < 12; k++) explorer.maps[0].zoom(1.4)")
    ink = _ink(page)
    x, y = _on_screen(page).T
    n = ((x > 0) & (x < ink.shape[1]) & (y > 0) & (y < ink.shape[0])).sum()
    assert 5 < n < 2_000
    assert 15 < (ink > 0).sum() / n < 200  # pixels of a shape; a square has 4


def test_keyboard__walks_selects_and_leaves(many: Path, opened: Open) -> None:
    page = opened(many)
    _ready(page)
    page.locator(".map .stage canvas").nth(1).focus()
    page.keyboard.press("ArrowRight")
    first = page.evaluate("explorer.hovered")
    middle = np.array(page.evaluate("[explorer.maps[0].overlay.width / 2, explorer.maps[0].overlay.height / 2]"))
    assert first == np.linalg.norm(_on_screen(page) - middle, axis=1).argmin()
    page.keyboard.press("ArrowRight")
    second = page.evaluate("explorer.hovered")
    assert _on_screen(page)[second][0] > _on_screen(page)[first][0]
    said = f"site {second % 3}/{second:05d}.png, label {CLASSES[CODES[second]]}, score {SCORES[second]:.3f}"
    assert page.locator("[data-announce]").inner_text() == said.replace(", label ,", ",")
    page.keyboard.press("Enter")
    assert _chosen(page) == [second]
    page.keyboard.press("Escape")
    assert _chosen(page) == []


def test_colour_search_and_download__go_by_every_image(many: Path, opened: Open, tmp_path: Path) -> None:
    page = opened(many)
    _ready(page)
    before = page.evaluate("explorer.maps[0].points.toDataURL()")
    page.locator("[data-control=color]").select_option(label="score")
    assert page.evaluate("explorer.maps[0].points.toDataURL()") != before
    page.locator("[data-control=query]").fill("/0012")
    page.keyboard.press("Enter")
    assert _chosen(page) == list(range(120, 130))
    with page.expect_download() as waiting:
        page.locator("[data-control=download]").click()
    waiting.value.save_as(tmp_path / "selected.csv")
    with (tmp_path / "selected.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"id": f"site {i % 3}/{i:05d}.png", "label": CLASSES[CODES[i]], "score": f"{SCORES[i]:.3f}"}
        for i in range(120, 130)
    ]


def test_old_browser__is_told(many: Path, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(many.as_uri())
    page.get_by_text("This browser cannot show the maps: DecompressionStream is not defined").wait_for()
    context.close()


def test_viz__of_many_images_takes_no_name_for_markup(
    small_study: Path, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_points, "MOST_PLAIN", 100)
    dvme.viz(
        small_study / "c.zarr", out=tmp_path / "m.html", options=dvme.PageOptions(methods=["pca"], thumbnails=False)
    )
    page = opened(tmp_path / "m.html")
    _ready(page)
    page.evaluate("explorer.select([3, 8])")
    page.locator(".selected tbody tr").first.wait_for()
    assert EVIL in page.locator(".selected").inner_text()
    assert page.evaluate("window.broken") is None
