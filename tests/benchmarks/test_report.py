"""How soon a page is there and how soon it answers, in a headless browser without a graphics card.

Run by `make bench`. The report is of `.demo/elpv-all` where a finished sweep lies there (examples/how_many_labels.md);
without it only the drawn points are measured, `DVME_PAGE_POINTS` of them beside plotly's scattergl.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
from chromium import started
from playwright.sync_api import Browser, Error

import dvme
from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html.explorer import Column, Measured, Points, explorer_data, explorer_html
from dvme.report.html.many_points import explored
from dvme.report.html.page import Page, Section, write_page

pytestmark = pytest.mark.bench
RUN = Path(__file__).parents[2] / ".demo" / "elpv-all"
REPEATS = 7
MOST_BYTES = 12_000_000
FIRST_PAINT, LASSO, SELECTION, LARGE_SELECTION = 2000.0, 100.0, 500.0, 1000.0
"""Milliseconds."""
N_LARGE = int(os.environ.get("DVME_PAGE_POINTS", "1000000"))
LARGE_REPEATS = 3
MOST_LARGE_BYTES = 40_000_000
PLOTLY_LIMIT = 60_000.0
"""Milliseconds after which plotly is not waited for."""

ANSWER = """async repeats => {
  const map = explorer.maps[0], {width, height} = map.overlay, found = [];
  for (let k = 0; k < repeats; k++) {
    const ring = Array.from({length: 200}, (_, i) => [width / 2 + (0.2 + 0.03 * k) * width * Math.cos(i * 0.0314),
      height / 2 + (0.2 + 0.03 * k) * height * Math.sin(i * 0.0314)]);
    const began = performance.now();
    explorer.select(map.enclosed(ring));
    await new Promise(done => requestAnimationFrame(() => {
      const painted = new MessageChannel();
      painted.port1.onmessage = done;
      painted.port2.postMessage(0);
    }));
    found.push([performance.now() - began, explorer.selected.size]);
    await new Promise(done => setTimeout(done, 300));
  }
  return found;
}"""


PLOTLY_ANSWER = """async repeats => {
  const plot = document.querySelector(".js-plotly-plot"), n = plot.data[0].x.length, found = [];
  for (let k = 0; k < repeats; k++) {
    const some = Array.from({length: n}, (_, i) => i).filter(i => i % 3 === k);
    const began = performance.now();
    await Plotly.restyle(plot, {selectedpoints: [some, some]}, [0, 1]);
    await new Promise(done => requestAnimationFrame(() => {
      const painted = new MessageChannel();
      painted.port1.onmessage = done;
      painted.port2.postMessage(0);
    }));
    found.push(performance.now() - began);
  }
  return found;
}"""
"""A selection that is there already, shown in two maps."""


def _measured(browser: Browser, path: Path, repeats: int = REPEATS) -> SimpleNamespace:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".explorer[data-ready=yes]")
    ready = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.locator(".maps").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    answers = page.evaluate(ANSWER, repeats)
    context.close()
    answer, most = median(time for time, _ in answers), max(n for _, n in answers)
    return SimpleNamespace(paint=paint, ready=ready, answer=answer, most=most)


@pytest.mark.skipif(not (RUN / "summary.json").exists(), reason="no finished sweep of all photographs in .demo")
def test_report__of_the_photographs(tmp_path: Path) -> None:
    result = dvme.write_report(RUN, out=tmp_path / "r.html")
    n_bytes = (tmp_path / "r.html").stat().st_size
    with started() as browser:
        found = _measured(browser, tmp_path / "r.html")
    n_maps = len(result.maps["tsne"])
    print(f"\nreport of {result.n_points:,} images, {n_maps} maps: {n_bytes / 1e6:.1f} MB", end="")
    print(f", first paint {found.paint:.0f} ms, lasso of up to {found.most:,}: {found.answer:.0f} ms (median)")
    assert result.n_without_thumbnail == 0
    assert n_bytes <= MOST_BYTES
    assert found.paint < FIRST_PAINT
    assert found.answer < LASSO


def test_maps__of_fifty_thousand_points(tmp_path: Path) -> None:
    n, rng = 50_000, np.random.default_rng(0)
    quality = MapQuality(0.9, 0.5, 0.1, 0.7, 15, n)
    maps = [
        EmbeddingMap(name, "tsne", rng.normal(size=(n, 2)).astype(np.float32), quality, is_kept=False) for name in "ab"
    ]
    labels = np.array([f"class {i % 5}" for i in range(n)], dtype=object)
    points = Points(
        [f"{i:06d}.png" for i in range(n)], {"label": labels, "age": Measured(rng.normal(size=n), [""] * n)}, None
    )
    section = Section("maps", "Maps", explorer_html(points, maps))
    page = Page("maps", sections=[section], explorer=explorer_data(points, maps))
    write_page(page, tmp_path / "m.html")
    with started() as browser:
        found = _measured(browser, tmp_path / "m.html")
    print(f"\n{n:,} points, 2 maps: {(tmp_path / 'm.html').stat().st_size / 1e6:.1f} MB", end="")
    print(f", first paint {found.paint:.0f} ms, lasso of up to {found.most:,}: {found.answer:.0f} ms (median)")
    assert found.answer < SELECTION


def _large() -> tuple[Points, list[EmbeddingMap]]:
    """What a report knows of an archive's images, and two maps of 40 clusters."""
    n, rng = N_LARGE, np.random.default_rng(0)
    codes = rng.integers(0, 5, n)
    clusters = codes * 8 + rng.integers(0, 8, n)
    quality = MapQuality(0.9, 0.5, 0.1, 0.7, 15, n)
    maps = []
    for name in "ab":
        centres, spreads = rng.normal(size=(40, 2)) * 4, rng.uniform(0.2, 1.2, 40)
        places = centres[clusters] + rng.normal(size=(n, 2)) * spreads[clusters][:, None]
        maps.append(EmbeddingMap(name, "tsne", places.astype(np.float32), quality, is_kept=False))
    classes = np.array([f"class {code}" for code in range(5)], dtype=object)
    predicted = np.where(rng.random(n) < 0.8, codes, rng.integers(0, 5, n))
    confidence, age = rng.beta(5, 2, n), rng.integers(18, 95, n).astype(float)
    columns: dict[str, Column] = {
        "label": classes[codes],
        "prediction": classes[predicted],
        "error": np.where(codes == predicted, "right", "wrong").astype(object),
        "confidence": Measured(confidence, [f"{value:.3f}" for value in confidence]),
        "group": np.array([f"patient {i // 20:06d}" for i in range(n)], dtype=object),
        "age": Measured(age, [f"{value:.0f}" for value in age]),
    }
    names = [f"site {i % 7}/patient_{i // 20:06d}/image_{i % 20:04d}.png" for i in range(n)]
    return Points(names, columns, None), maps


def _by_plotly(browser: Browser, points: Points, maps: list[EmbeddingMap], out: Path) -> str:
    """The same points by scattergl, and what became of them."""
    from plotly.graph_objects import Scattergl
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(maps))
    codes = np.unique(np.asarray(points.columns["label"]).astype(str), return_inverse=True)[1].astype(np.uint8)
    for column, each in enumerate(maps, start=1):
        x, y = each.positions.T
        marks = {"color": codes, "size": 2, "colorscale": "Viridis"}
        figure.add_trace(Scattergl(x=x, y=y, mode="markers", marker=marks), row=1, col=column)
    figure.write_html(out, include_plotlyjs=True)
    said = f"plotly's scattergl of the places and one column: {out.stat().st_size / 1e6:.1f} MB"
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PLOTLY_LIMIT)
    try:
        page.goto(out.as_uri())
        page.wait_for_selector(".js-plotly-plot .gl-container canvas")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        page.evaluate(
            "ms => Promise.race([new Promise(done => requestAnimationFrame(() => setTimeout(done))), "
            "new Promise((_, fail) => setTimeout(() => fail(new Error('no frame')), ms))])",
            PLOTLY_LIMIT,
        )
        ready = page.evaluate("performance.now()")
        answer = median(page.evaluate(PLOTLY_ANSWER, LARGE_REPEATS))
    except Error as error:
        return f"{said}, no answer: {str(error).splitlines()[0]}"
    finally:
        page.close()
    return f"{said}, first paint {paint:.0f} ms, drawn after {ready:.0f} ms, selection shown after {answer:.0f} ms"


def test_maps__of_a_million_points(tmp_path: Path) -> None:
    """Three openings and three lassos in each, beside plotly in the same browser."""
    points, maps = _large()
    body, data = explored(points, maps)
    write_page(Page("maps", sections=[Section("maps", "Maps", body)], explorer=data), tmp_path / "m.html")
    n_bytes = (tmp_path / "m.html").stat().st_size
    with started() as browser:
        found = [_measured(browser, tmp_path / "m.html", LARGE_REPEATS) for _ in range(LARGE_REPEATS)]
        paint, ready, answer = (median(getattr(each, name) for each in found) for name in ("paint", "ready", "answer"))
        print(
            f"\n{N_LARGE:,} points, 2 maps, 6 columns and names: {n_bytes / 1e6:.1f} MB, first paint {paint:.0f} ms",
            end="",
        )
        print(f", maps after {ready:.0f} ms, lasso of up to {found[0].most:,}: {answer:.0f} ms")
        print(_by_plotly(browser, points, maps, tmp_path / "p.html"))
    assert n_bytes < MOST_LARGE_BYTES
    assert paint < FIRST_PAINT
    assert answer < LARGE_SELECTION
