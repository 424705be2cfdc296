"""`dvme viz`: embedding maps of a cache, to explore, in one self-contained HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.errors import DataError, OptionError, parameter
from dvme.files import check_destination
from dvme.heads.fusion.network_head import FittedNetwork
from dvme.heads.saved_head import SavedHead
from dvme.heads.saving import load_head
from dvme.maps.maps import MIN_ROWS
from dvme.maps.projection import check_installed
from dvme.maps.quality import MapQuality
from dvme.places import open_cache
from dvme.prediction.sources import check_fits
from dvme.report.figures.embedding import map_figures
from dvme.report.figures.static import save_figures
from dvme.report.html.explorer import METHOD_NAMES
from dvme.report.html.many_points import explored
from dvme.report.html.page import Page, Section, write_page
from dvme.report.html.template import soft
from dvme.report.options import SUFFIXES, PageOptions
from dvme.report.page_maps import TAUGHT, PageMaps, colours, draw, embedding_source, fused_source
from dvme.report.result import quality_records
from dvme.runtime import Progress, automatic
from dvme.shown.result import Shown, some_lines
from dvme.study.design.named import named_backbones
from dvme.study.run_file import RUN
from dvme.text import counted
from dvme_cache import EmbeddingCache

NEW = "new to the head"


@dataclass(frozen=True, repr=False)
class VizReport(Shown):
    """What `dvme viz` drew; `to_frame()` has a row for each map, see `MapQuality`."""

    cache: str
    html: str
    methods: tuple[str, ...]
    n_points: int
    n_left_out: int
    n_without_thumbnail: int
    """All of them without thumbnails."""
    notices: list[str]
    """Why images are not shown, and what is approximate."""
    maps: dict[str, dict[str, MapQuality]]
    """Method to embedding to the quality of its map."""
    figures: list[str]
    """Files of `figures`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        return [f"{self.html} shows {counted(self.n_points, 'image')} of {self.cache}", *some_lines(self.notices)]

    def _records(self) -> list[dict[str, Any]]:
        return quality_records(self.maps)


@public
def viz(
    cache: str | Path,
    *,
    out: str | Path,
    backbones: Sequence[str] | None = None,
    head: str | Path | None = None,
    options: PageOptions | None = None,
    force: bool = False,
    progress: Progress = automatic,
) -> VizReport:
    """Draw every backbone's embeddings in the plane, side by side, and write one HTML file to explore them.

    The maps begin alike and are turned onto each other, so that an image can be followed from one to the next. A map
    is computed once for the same rows and parameters, and kept in the user's cache folder. Of more than 50,000 images
    t-SNE and UMAP lay out a sample and place the others beside it; the page and `notices` say so.

    Args:
        cache: path of a cache.
        out: the HTML file, in a folder that is there.
        backbones: names; None: all in the cache with one vector an image, or else all with dense features. Of dense
            features the mean over an image's tokens is mapped, and what hovers shows the tokens as colours.
        head: a saved `dvme` or `dvme-tokens`; the layer that its first fold reads the class from is mapped as well.
        options: what the page shows; None: the defaults.
        force: replace a file that is there.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        OptionError, DataError, CacheError: each says what is wrong and what to do.
        MissingPackageError: if the package of a method is not installed.

    Example:
        >>> drawn = dvme.viz("my.zarr", out="maps.html", options={"methods": "pca"})
        >>> drawn.n_points
        40
    """
    place = check_destination(out, SUFFIXES, force=force)
    shown = options or PageOptions()
    if (Path(cache) / RUN).is_file():
        raise OptionError(f"{cache} is a run; dvme report {cache} --out report.html draws it, dvme viz takes its cache")
    check_installed(shown.methods)
    store = open_cache(cache)
    names = named_backbones(store, backbones, may_be_dense=True)
    saved = None if head is None else _fusion(head, store)
    rows = store.complete_rows(list(dict.fromkeys([*names, *(saved.backbones if saved else ())])))
    if len(rows) < MIN_ROWS:
        raise DataError(f"{store.location} has {len(rows)} rows with all of these embeddings; a map needs {MIN_ROWS}")
    sources = [embedding_source(store, name, rows) for name in names]
    if saved is None:
        drawn = draw(store, rows, sources, {}, shown, progress=progress)
    else:
        use = _use(saved, store.samples.ids[rows])
        sources.append(fused_source(saved, store, rows))
        drawn = draw(store, rows, sources, {"used by the head": use}, shown, is_new=use == NEW, progress=progress)
    n_left_out = int((~store.samples.is_pruned).sum()) - len(rows)
    title = "dvme: embedding maps" if shown.anonymous else f"{store.name}: embedding maps"
    missing = drawn.missing(shown)
    notices = [*drawn.notes, *drawn.approximate, *([missing] if missing else [])]
    notes = [*([TAUGHT] if saved is not None else []), *notices]
    write_page(_page(title, drawn, n_left_out, notes), place)
    files: list[Path] = []
    if shown.figures is not None:
        figures = map_figures(drawn.maps, colours(store.column("label")[rows], shown.finding), store.class_order)
        files = save_figures(figures, shown.figures, kind=shown.figure_kind)
    return VizReport(
        cache=os.fspath(cache),
        html=os.fspath(out),
        methods=tuple(shown.methods),
        n_points=len(rows),
        n_left_out=n_left_out,
        n_without_thumbnail=drawn.n_without_thumbnail,
        notices=notices,
        maps=drawn.qualities,
        figures=[os.fspath(file) for file in files],
    )


def _fusion(head: str | Path, store: EmbeddingCache) -> SavedHead:
    saved = load_head(head)
    if not isinstance(saved.folds[0].head, FittedNetwork) or len(saved.backbones) < 2:
        message = f"{head} is {saved.name} of {counted(len(saved.backbones), 'backbone')}; "
        raise OptionError(message + parameter("head") + " takes a dvme")
    check_fits(saved, store)
    return saved


def _use(saved: SavedHead, ids: NDArray[np.uint8]) -> NDArray[Any]:
    """(N,) what the first fold's head did with each image."""
    sides = {"trained on": saved.folds[0].train_ids, "chosen on": saved.folds[0].validation_ids}
    side = {row.tobytes(): name for name, some in sides.items() for row in some}
    return np.array([side.get(row.tobytes(), NEW) for row in ids], dtype=object)


def _page(title: str, drawn: PageMaps, n_left_out: int, notes: Sequence[str]) -> Page:
    points, maps = drawn.points, drawn.maps
    left_out = f"; {n_left_out:,} without an embedding left out" if n_left_out else ""
    methods = " and ".join(dict.fromkeys(METHOD_NAMES[each.method] for each in maps))
    head = Markup("<h1>{}</h1>").format(title) + soft(f"{methods} of {len(points.ids):,} images{left_out}")
    body, data = explored(points, maps, notes)
    return Page(title, head=head, sections=[Section("maps", "Maps", body)], explorer=data)
