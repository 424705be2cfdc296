"""The pages in a real browser: opened from a file, without a network, by mouse and by keyboard."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import CLASSES, EVIL
from PIL import Image
from playwright.sync_api import Page
from scenes import discs, scene_of

import dvme

Open = Callable[..., Page]
N = 120
PCA = dvme.PageOptions(methods=["pca"])


def _map(page: Page, number: int = 0) -> Any:
    """The overlay canvas of a map that is shown."""
    page.wait_for_selector(".explorer[data-ready=yes]")
    stage = page.locator(".map:visible .stage").nth(number)
    stage.scroll_into_view_if_needed()
    return stage.locator("canvas").nth(1)


def _places(page: Page, images: Sequence[int], number: int = 0) -> list[tuple[float, float]]:
    """Where images lie on the screen."""
    canvas = _map(page, number)
    box = canvas.bounding_box()
    assert box is not None
    places = page.evaluate(
        "([images, k]) => { const m = explorer.maps.filter(m => !m.panel.hidden)[k]; "
        "return images.map(i => [m.x(i) / m.ratio, m.y(i) / m.ratio]); }",
        [list(images), number],
    )
    return [(box["x"] + x, box["y"] + y) for x, y in places]


def _place(page: Page, image: int, number: int = 0) -> tuple[float, float]:
    return _places(page, [image], number)[0]


def _drag(page: Page, corners: Sequence[tuple[float, float]]) -> None:
    """Draw a lasso through corners on the screen."""
    page.mouse.move(*corners[0])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def _frame(page: Page, number: int = 0) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a map on the screen, a little inside."""
    box = _map(page, number).bounding_box()
    assert box is not None
    return box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 2, box["y"] + box["height"] - 2


def _lasso(page: Page, number: int = 0) -> None:
    """Draw around the whole map."""
    left, top, right, bottom = _frame(page, number)
    _drag(page, [(left, top), (right, top), (right, bottom), (left, bottom), (left, (top + bottom) / 2)])


def _colourings(page: Page, names: Sequence[str]) -> set[str]:
    """What the first map looks like when coloured by each of these columns."""
    found = set()
    for name in names:
        page.locator("[data-control=color]").select_option(label=name)
        found.add(_map(page).evaluate("c => c.previousSibling.toDataURL()"))
    return found


def _selected(page: Page) -> list[int]:
    return page.evaluate("explorer.chosen()")


def test_first_screen__answers_the_question_and_the_page_is_whole(report: Path, opened: Open) -> None:
    page = opened(report)
    assert page.locator(".card h3").all_inner_texts() == ["Which backbone?", "Is fusion worth it?", "How many labels?"]
    verdict = page.locator(".verdict").bounding_box()
    cards = page.locator(".cards").bounding_box()
    assert verdict is not None
    assert cards is not None
    assert cards["y"] + cards["height"] < 900
    assert page.locator("nav a").all_inner_texts() == page.locator("section h2").all_inner_texts()
    assert {"labels", "differences", "maps", "fusion", "errors", "reliability", "images", "data", "provenance"} == set(
        page.locator("section").evaluate_all("all => all.map(each => each.id)")
    )
    _map(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_narrow_page__never_scrolls_sideways(report: Path, opened: Open) -> None:
    page = opened(report, width=400)
    _map(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_report__draws_every_figure_and_takes_no_name_for_markup(report: Path, opened: Open) -> None:
    page = opened(report)
    plots = page.locator(".plot:visible")
    assert plots.count() >= 10
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator(".main-svg").first.wait_for()
    page.mouse.move(*_place(page, 9))
    _lasso(page)
    assert _selected(page) == list(range(N))
    assert page.evaluate("window.broken") is None
    assert EVIL in page.locator(".swatches").inner_text() or "<script>window" in page.locator(".swatches").inner_text()
    page.locator(".selected tbody tr").first.wait_for()
    assert EVIL in page.locator(".selected").inner_text()
    assert f"two {EVIL}" in page.locator(".map:visible h3").nth(1).inner_text()


def test_hover__shows_the_thumbnail_and_what_is_known_and_colours_do(
    report: Path, opened: Open, tmp_path: Path
) -> None:
    page = opened(report)
    page.mouse.move(*_place(page, 7))
    tip = page.locator(".tooltip")
    tip.wait_for()
    hovered = page.evaluate("explorer.hovered")
    assert tip.locator("strong").inner_text() == page.evaluate("explorer.ids[explorer.hovered]")
    assert {"label", "prediction", "confidence", "group"} <= set(tip.locator("dt").all_inner_texts())
    assert CLASSES[hovered % 3] in tip.locator("dd").all_inner_texts()
    assert "blob:" in tip.locator(".thumbnail").evaluate("each => each.style.backgroundImage")
    shown = tip.locator(".thumbnail").bounding_box()
    assert shown is not None
    tip.locator(".thumbnail").screenshot(path=tmp_path / "thumbnail.png")
    with Image.open(tmp_path / "thumbnail.png") as picture:
        low, high = picture.convert("L").getextrema()
    assert high - low > 20  # noise, not an empty square
    names = page.locator("[data-control=color] option").all_inner_texts()
    assert names[0] == "label"
    predicted = ["prediction", "error", "confidence", "test or fold"]
    assert {*predicted, "group", f"site {EVIL}", "age"} <= set(names)
    assert len(_colourings(page, ["label", *predicted])) == 5
    page.locator("[data-control=color]").select_option(label="error")
    assert page.locator(".swatches button").count() == 2


def test_theme__dark_is_readable_and_print_is_light(report: Path, opened: Open) -> None:
    page = opened(report)
    page.locator("[data-control=theme]").click()
    back, ink, soft = (
        page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name)
        for name in ("--back", "--ink", "--soft")
    )
    assert _contrast(back, ink) > 7
    assert _contrast(back, soft) > 4.5
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot .xtick text").first.wait_for()
    tick = page.locator(".plot .xtick text").first.evaluate("each => getComputedStyle(each).fill")
    shade = [int(value) for value in tick.removeprefix("rgb(").removesuffix(")").split(",")]
    assert min(shade) > 180
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(p => !p.offsetParent || p.querySelector('.main-svg'))"
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".bar").is_hidden()
    pdf = page.pdf()
    assert len(pdf) > 20_000


def test_lasso__selects_in_all_maps_and_lists_them(maps: Path, opened: Open) -> None:
    page = opened(maps)
    _lasso(page)
    assert _selected(page) == list(range(N))
    page.locator("[data-control=clear]").click()
    assert _selected(page) == []
    page.mouse.click(*_place(page, 11, 1))
    chosen = _selected(page)
    assert len(chosen) == 1
    page.locator(".selected tbody tr").wait_for()
    assert page.locator(".selected tbody td").nth(1).inner_text() == page.evaluate("i => explorer.ids[i]", chosen[0])
    states = page.evaluate("Array.from(explorer.states)")
    assert [states[i] for i in chosen] == [3]
    assert states.count(1) == N - 1
    page.keyboard.down("Shift")
    other = (chosen[0] + 60) % N
    page.mouse.click(*_place(page, other, 0))
    page.keyboard.up("Shift")
    assert len(_selected(page)) == 2


def test_lasso__takes_what_is_inside_it_and_with_shift_adds(maps: Path, opened: Open) -> None:
    """A triangle whose bounding box is the whole map."""
    page = opened(maps)
    left, top, right, bottom = _frame(page)
    corners = [(left, top), (right, top), (left, bottom)]

    # How far each image is inside the long side, which alone has images on both sides of it.
    width, height = right - left, bottom - top
    depths = [
        (width * height - (x - left) * height - (y - top) * width) / math.hypot(width, height)
        for x, y in _places(page, range(N))
    ]
    inside, outside = ([i for i in range(N) if sign * depths[i] > 2] for sign in (1, -1))  # by two pixels
    near = N - len(inside) - len(outside)  # too near to the line to say
    assert min(len(inside), len(outside)) > N / 6
    assert near < N / 20
    _drag(page, corners)
    taken = _selected(page)
    assert set(inside) <= set(taken)
    assert not set(outside) & set(taken)
    others = outside[:3]
    page.evaluate("some => explorer.select(some)", others)
    page.keyboard.down("Shift")
    _drag(page, corners)
    page.keyboard.up("Shift")
    assert _selected(page) == sorted([*others, *taken])
    _drag(page, corners)
    assert _selected(page) == taken  # without it the selection is a new one


def test_selection__is_seen_in_every_map(maps: Path, opened: Open) -> None:
    """The pixels of both maps change, not only the one that was drawn in."""
    page = opened(maps)
    before = [_map(page, k).evaluate("c => c.previousSibling.toDataURL()") for k in (0, 1)]
    page.mouse.click(*_place(page, 5, 0))
    after = [_map(page, k).evaluate("c => c.previousSibling.toDataURL()") for k in (0, 1)]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_download__is_the_selection_as_csv_without_a_formula(maps: Path, opened: Open, tmp_path: Path) -> None:
    page = opened(maps)
    page.evaluate("explorer.select([3, 8])")
    with page.expect_download() as waiting:
        page.locator("[data-control=download]").click()
    waiting.value.save_as(tmp_path / "selected.csv")
    with (tmp_path / "selected.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [page.evaluate("i => explorer.ids[i]", i) for i in (3, 8)]
    assert [row["label"] for row in rows] == [CLASSES[0], CLASSES[2]]
    assert rows[0][f"site {EVIL}"] == f"{EVIL} 1"
    assert [row["age"] for row in rows] == ["23", "28"]
    cells = ["=1+1", "\n=2", "+cmd", "@SUM(A1)", "-x", "-3.5", "plain"]
    page.evaluate(
        "cells => { explorer.ids.splice(0, cells.length, ...cells); explorer.select(cells.map((_, i) => i)); }", cells
    )
    with page.expect_download() as waiting:
        page.locator("[data-control=download]").click()
    waiting.value.save_as(tmp_path / "formulas.csv")
    with (tmp_path / "formulas.csv").open(newline="", encoding="utf-8") as file:
        found = [row["id"] for row in csv.DictReader(file)]
    assert found == ["'=1+1", "'\n=2", "'+cmd", "'@SUM(A1)", "'-x", "-3.5", "plain"]


def test_colour__changes_with_the_column(maps: Path, opened: Open) -> None:
    page = opened(maps)
    choice = page.locator("[data-control=color]")
    names = choice.locator("option").all_inner_texts()
    assert names[0] == "label"
    assert {"group", f"site {EVIL}", "age"} <= set(names)
    assert len(_colourings(page, names)) == len(names)
    choice.select_option(label=f"site {EVIL}")
    assert page.locator(".swatches button").count() == 2


def test_legend__hides_and_isolates(maps: Path, opened: Open) -> None:
    page = opened(maps)
    entries = page.locator(".swatches button")
    entries.nth(1).click()
    states = page.evaluate("Array.from(explorer.states)")
    assert [state == 0 for state in states] == [i % 3 == 1 for i in range(N)]
    entries.nth(1).click()
    entries.nth(2).dblclick()
    states = page.evaluate("Array.from(explorer.states)")
    assert [state != 0 for state in states] == [i % 3 == 2 for i in range(N)]
    _lasso(page)
    assert _selected(page) == list(range(2, N, 3))  # what is hidden is not selected


def test_search__finds_ids_and_copy_puts_them_on_the_clipboard(maps: Path, opened: Open) -> None:
    page = opened(maps)
    page.locator("[data-control=query]").fill("/17.png")
    page.keyboard.press("Enter")
    assert _selected(page) == [17]
    page.locator("[data-control=query]").fill("nothing like it")
    page.keyboard.press("Enter")
    assert "no id contains" in page.locator("[data-count]").inner_text()
    page.evaluate("explorer.select([3, 8])")
    page.locator("[data-control=copy]").click()
    page.wait_for_function("document.querySelector('[data-count]').textContent.includes('copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(
        page.evaluate("[3, 8].map(i => explorer.ids[i])")
    )


def test_count__follows_colour_and_what_is_hidden(maps: Path, opened: Open) -> None:
    page = opened(maps)
    page.evaluate("explorer.select([0, 1, 2, 3])")
    assert "50%" in page.locator("[data-count]").inner_text()  # two of the first class
    page.locator("[data-control=color]").select_option(label=f"site {EVIL}")
    assert EVIL in page.locator("[data-count]").inner_text()
    page.locator(".swatches button").first.click()
    assert "(2 of them hidden)" in page.locator("[data-count]").inner_text()


def test_zoom__stays_when_the_window_changes(maps: Path, opened: Open) -> None:
    page = opened(maps)
    _map(page)
    page.locator("[data-control=closer]").click()
    page.locator("[data-control=closer]").click()
    share = "explorer.maps[0].view.scale / explorer.maps[0].points.width"
    before = page.evaluate(share)
    width = page.evaluate("explorer.maps[0].points.width")
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_function("width => explorer.maps[0].points.width !== width", arg=width)
    assert page.evaluate(share) == pytest.approx(before, rel=0.02)
    page.locator("[data-control=method]").select_option(label="t-SNE")
    page.locator("[data-control=method]").select_option(label="PCA")
    assert page.evaluate(share) == pytest.approx(before, rel=0.02)
    page.locator("[data-control=farther]").click()
    page.locator("[data-control=reset]").click()
    assert page.evaluate(share) < before / 1.5


def test_touch__a_tapped_map_takes_the_lasso_and_two_fingers_zoom(maps: Path, opened: Open) -> None:
    page = opened(maps)
    canvas = _map(page)
    assert canvas.evaluate("c => getComputedStyle(c).touchAction") == "pan-y"
    canvas.focus()
    assert canvas.evaluate("c => getComputedStyle(c).touchAction") == "none"
    before = page.evaluate("explorer.maps[0].view.scale")
    canvas.evaluate("""(canvas) => {
      const frame = canvas.getBoundingClientRect(), send = (type, id, x) => canvas.dispatchEvent(new PointerEvent(type,
        {pointerId: id, pointerType: "touch", button: type === "pointermove" ? -1 : 0, bubbles: true,
         clientX: frame.left + x, clientY: frame.top + 100}));
      canvas.setPointerCapture = () => {};
      send("pointerdown", 1, 100); send("pointerdown", 2, 140); send("pointermove", 2, 180);
      send("pointerup", 2, 180); send("pointerup", 1, 100);
    }""")
    assert page.evaluate("explorer.maps[0].view.scale") == pytest.approx(2 * before, rel=0.01)


def test_method__switches_the_maps(maps: Path, opened: Open) -> None:
    page = opened(maps)
    assert [name.rpartition(" · ")[2] for name in page.locator(".map:visible h3").all_inner_texts()] == ["PCA"] * 2
    page.locator("[data-control=method]").select_option(label="t-SNE")
    assert [name.rpartition(" · ")[2] for name in page.locator(".map:visible h3").all_inner_texts()] == ["t-SNE"] * 2
    page.mouse.click(*_place(page, 4))
    assert len(_selected(page)) == 1


def test_keyboard__walks_selects_leaves_and_stays_in_sight(maps: Path, opened: Open) -> None:
    page = opened(maps)
    _map(page).focus()
    page.keyboard.press("ArrowRight")
    first = page.evaluate("explorer.hovered")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("explorer.hovered")
    assert first >= 0
    assert page.evaluate("([i, j]) => explorer.maps[0].x(j) > explorer.maps[0].x(i)", [first, second])
    page.keyboard.press("Enter")
    assert _selected(page) == [second]
    assert page.evaluate("i => explorer.ids[i]", second) in page.locator("[data-announce]").inner_text()
    page.keyboard.press("Escape")
    assert _selected(page) == []
    scale = page.evaluate("explorer.maps[0].view.scale")
    page.keyboard.press("+")
    assert page.evaluate("explorer.maps[0].view.scale") > scale
    page.keyboard.press("0")
    assert page.evaluate("explorer.maps[0].view.scale") == pytest.approx(scale)
    page.evaluate("explorer.hover(-1)")  # and from the middle again
    for _ in range(6):
        page.keyboard.press("+")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    place = "(m => [m.x(explorer.hovered), m.y(explorer.hovered), m.points.width, m.points.height])(explorer.maps[0])"
    x, y, width, height = page.evaluate(place)
    assert 0 <= x <= width
    assert 0 <= y <= height


def test_without_webgl__maps_are_drawn_all_the_same(maps: Path, opened: Open, browser: Any) -> None:
    page = opened(maps)
    _map(page)
    assert page.locator(".explorer").get_attribute("data-painter") == "GLPoints"
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    plain = context.new_page()
    plain.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = "
        "function (kind, ...rest) { return kind === 'webgl2' ? null : get.call(this, kind, ...rest); }"
    )
    plain.goto(maps.as_uri())
    flat = _map(plain)
    assert plain.locator(".explorer").get_attribute("data-painter") == "FlatPoints"
    inked = (
        "c => c.previousSibling.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data.filter((value, i) => i % 4 == 3 && value > 0).length"
    )
    ours, theirs = _map(page).evaluate(inked), flat.evaluate(inked)
    context.close()
    assert theirs == pytest.approx(ours, rel=0.25)


def test_viz__page_needs_no_plotly(small_study: Path, opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "maps.html"
    result = dvme.viz(small_study / "c.zarr", out=out, options=replace(PCA, thumbnails=False))
    assert result.n_points == N
    assert out.stat().st_size < 200_000
    page = opened(out)
    page.mouse.move(*_place(page, 3))
    page.locator(".tooltip").wait_for()
    assert page.locator(".tooltip .thumbnail").count() == 0


def test_viz__tokens_hover_as_colours(tmp_path: Path, opened: Open) -> None:
    rng = np.random.default_rng(0)
    scene_of(tmp_path, {"a@dense=last": [rng.normal(size=(N, 4, 4, 3))]}, discs(N, 8))
    dvme.viz(tmp_path / "c.zarr", out=tmp_path / "m.html", options=PCA)
    page = opened(tmp_path / "m.html")
    page.mouse.move(
        *_place(
            page,
            page.evaluate(
                "[...Array(explorer.n).keys()].sort((i, j) => explorer.maps[0].y(i) - explorer.maps[0].y(j))[0]"
            ),
        )
    )
    figure = page.locator(".tooltip figure")
    figure.wait_for()
    assert figure.inner_text() == "tokens of a@dense=last"
    assert "blob:" in figure.locator(".thumbnail").evaluate("each => each.style.backgroundImage")


@pytest.mark.parametrize("n_classes", [200, 1])
def test_viz__two_hundred_classes_and_one(
    tmp_path: Path, opened: Open, write_embeddings: Callable[..., Path], n_classes: int
) -> None:
    features = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    labels = [f"class {image % n_classes}" for image in range(200)]
    cache = write_embeddings(tmp_path / "c.zarr", {"a": features}, label=labels)
    dvme.viz(cache, out=tmp_path / "m.html", options=PCA)
    page = opened(tmp_path / "m.html")
    _lasso(page)
    assert len(_selected(page)) == 200
    assert page.locator(".swatches button").count() == n_classes


def _contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb."""

    def luminance(color: str) -> float:
        parts = [int(color.strip()[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
