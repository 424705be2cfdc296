"""How soon a page is there and how soon it answers, in a headless browser without a graphics card.

Run by `make bench`. The report is of `.demo/elpv-all` where a finished sweep lies there (examples/how_many_labels.md);
without it only the drawn points are measured.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
from chromium import started
from playwright.sync_api import Browser

import dvme
from dvme.maps.maps import EmbeddingMap
from dvme.maps.quality import MapQuality
from dvme.report.html.explorer import Measured, Points, explorer_data, explorer_html
from dvme.report.html.page import Page, Section, write_page

pytestmark = pytest.mark.bench
RUN = Path(__file__).parents[2] / ".demo" / "elpv-all"
REPEATS = 7
MOST_BYTES = 12_000_000
FIRST_PAINT, LASSO, SELECTION = 2000.0, 100.0, 500.0
"""Milliseconds."""

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


def _measured(browser: Browser, path: Path) -> SimpleNamespace:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".explorer[data-ready=yes]")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.locator(".maps").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    answers = page.evaluate(ANSWER, REPEATS)
    context.close()
    return SimpleNamespace(paint=paint, answer=median(time for time, _ in answers), most=max(n for _, n in answers))


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
