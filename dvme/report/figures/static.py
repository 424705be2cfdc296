"""Figures as files for print: SVG, PDF or PNG."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.errors import OptionError
from dvme.extras import require
from dvme.files import check_folder, written_aside

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KINDS = ("svg", "png", "pdf")
WIDTH = 900
"""Pixels, where a figure has no width of its own."""
PNG_SCALE = 2
"""Dots for each pixel."""
NO_BROWSER = (
    "figures need a browser to draw them, and none works here; install chromium or Chrome (apt install chromium)"
)


def save_figures(figures: Mapping[str, Figure], folder: str | Path, *, kind: str = "svg") -> list[Path]:
    """Write figures to `NAME.KIND` in a folder, which is made; files of that name are replaced, all or none.

    What only a click in the legend would show is left out. The background is see-through, and text has the colours of
    the figure's template, mostly dark ones.

    Args:
        figures: by name, which names the file.
        folder: may be new.
        kind: `svg`, `png` or `pdf`.

    Returns:
        The files, in the order of the figures.

    Raises:
        OptionError: if the kind is unknown, a name is no name of a file, kaleido or a browser is missing, or the
            folder is a file.
    """
    target = check_figures(folder, kind)
    strange = [name for name in figures if not name or Path(name).name != name]
    if strange:
        raise OptionError(f"{strange[0]!r} is not the name of a file; name figures without a folder")
    paths = [target / f"{name}.{kind}" for name in figures]
    if not paths:
        return paths
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        asides = [stack.enter_context(written_aside(path)) for path in paths]
        _draw([_printed(figure) for figure in figures.values()], asides, kind)
    return paths


def check_figures(folder: str | Path, kind: str) -> Path:
    """The folder, if figures of this kind can be written there.

    Raises:
        OptionError: if the kind is unknown, kaleido is missing, or the folder is a file.
        MissingPackageError: if plotly is missing.
    """
    if kind not in KINDS:
        raise OptionError(f"unknown kind of figure {kind!r}; choose one of {', '.join(KINDS)}")
    target = check_folder(folder, step="name a folder for the figures", force=True)
    try:
        import_module("kaleido")
    except ImportError as error:
        raise OptionError("figures need kaleido: pip install 'dvme[figures]'") from error
    require("plotly")
    return target


def _printed(figure: Figure) -> dict[str, Any]:
    """Without the traces that are hidden until the legend is clicked."""
    plain: dict[str, Any] = figure.to_dict()
    return plain | {"data": [trace for trace in plain["data"] if trace.get("visible", True) is True]}


def _draw(figures: list[dict[str, Any]], paths: list[Path], kind: str) -> None:
    """All of them in one browser: to start one takes seconds."""
    kaleido, errors = import_module("kaleido"), import_module("kaleido.errors")
    options = {"format": kind, "scale": PNG_SCALE if kind == "png" else 1}
    work = [
        {"fig": figure, "path": path, "opts": options | {"width": figure["layout"].get("width") or WIDTH}}
        for figure, path in zip(figures, paths, strict=True)
    ]
    try:
        # MathJax would be fetched from the network, and would read $ in a name as a formula.
        kaleido.write_fig_from_object_sync(work, kopts={"mathjax": False}, cancel_on_error=True)
    except (errors.BrowserClosedError, errors.BrowserFailedError, errors.ChromeNotFoundError) as error:
        raise OptionError(NO_BROWSER) from error
