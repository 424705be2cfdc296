"""A report of a small study, and the system's own browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import started
from pictures import write_study
from playwright.sync_api import Browser, Page

import dvme


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache `c.zarr` and a finished run `run` of it."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def report(study: Path) -> Path:
    """Its page, with maps by two methods."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(study / "kept"))
        dvme.write_report(study / "run", out=study / "report.html", options=dvme.PageOptions(methods=["pca", "tsne"]))
    return study / "report.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    with started() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[object]:
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
