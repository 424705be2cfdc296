"""Pages of a small study, and the system's own browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import started
from once import made_once
from playwright.sync_api import Browser, Page

import dvme


@pytest.fixture(scope="session")
def report(small_study: Path, run_folder: Path) -> Path:
    """The report of the small study, for what a report alone has: plotly.js makes it slow to open."""

    def make(folder: Path) -> None:
        dvme.write_report(small_study / "run", out=folder / "report.html", options=dvme.PageOptions(methods=["pca"]))

    return made_once(run_folder / "small-page", make) / "report.html"


@pytest.fixture(scope="session")
def maps(small_study: Path, run_folder: Path) -> Path:
    """The maps of the small study: two embeddings by two methods, with thumbnails and without a figure."""

    def make(folder: Path) -> None:
        options = dvme.PageOptions(methods=["pca", "tsne"])
        dvme.viz(small_study / "c.zarr", out=folder / "maps.html", options=options)

    return made_once(run_folder / "small-maps", make) / "maps.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    with started() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page from its file, without any network; at the end nothing may have gone wrong in it."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])

    def open_(path: Path, *, width: int = 1280) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda each: faults.append(each.url) if each.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_
    context.close()
    assert faults == []
