"""`dvme viz`: embedding maps of a cache, to explore, in one self-contained HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.evaluation.study import named_backbones
from dvme.heads.network_head import FittedNetwork
from dvme.heads.saving import SavedHead, load_head
from dvme.mapping.kept import Kept, default_folder, key_of
from dvme.mapping.maps import MIN_ROWS, EmbeddingMap, Source, make_maps
from dvme.mapping.projection import METHODS
from dvme.mapping.quality import MapQuality
from dvme.page.explorer import METHOD_NAMES, Points, explorer_data, explorer_html
from dvme.page.page import Page, Section, text, write_page
from dvme.prediction.sources import check_fits
from dvme.report.embedding import map_figures
from dvme.report.points import points_of
from dvme.report.static import check_figures, save_figures
from dvme.runtime import Progress, silent
from dvme.wording import counted
from dvme_cache import EmbeddingCache

NEW = "new to the head"


@dataclass(frozen=True)
class VizReport:
    """What `dvme viz` drew."""

    cache: str
    html: str
    methods: tuple[str, ...]
    n_points: int
    n_left_out: int
    n_without_thumbnail: int
    """All of them without thumbnails."""
    maps: dict[str, dict[str, MapQuality]]
    """Method to embedding to the quality of its map."""
    figures: list[str]
    """Files of `figures`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def viz(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    *,
    out: str | Path,
    backbones: Sequence[str] | None = None,
    head: str | Path | None = None,
    methods: Sequence[str] = ("tsne",),
    seed: int = 0,
    with_thumbnails: bool = True,
    is_anonymous: bool = False,
    figures: str | Path | None = None,
    figure_kind: str = "svg",
    progress: Progress = silent,
) -> VizReport:
    """Draw every backbone's embeddings in the plane, side by side, and write one HTML file to explore them.

    The maps begin alike and are turned onto each other, so that an image can be followed from one to the next. A map
    is computed once for the same rows and parameters, and kept in the user's cache folder.

    Args:
        cache: path of a cache.
        out: the HTML file; replaced whole.
        backbones: names; None: all in the cache.
        head: a saved `dvme` or `dvme-tokens`; the layer that its first fold reads the class from is mapped as well.
        methods: of `tsne`, `umap` and `pca`; the page shows one at a time.
        seed: of the maps.
        with_thumbnails: whether the images may be seen.
        is_anonymous: names of images become digests, groups numbers, further columns are left out.
        figures: a folder for the maps as still figures.
        figure_kind: of these: `svg`, `png` or `pdf`.
        progress: told (stage, done, total).

    Raises:
        OptionError, DataError, CacheError: each says what is wrong and what to do.
    """
    check_page(out)
    if figures is not None:
        check_figures(figures, figure_kind)
    wanted = check_methods(methods)
    store = EmbeddingCache.open(cache)
    names = named_backbones(store, backbones)
    saved = None if head is None else _fusion(head, store)
    rows = store.complete_rows(list(dict.fromkeys([*names, *(saved.backbones if saved else ())])))
    if len(rows) < MIN_ROWS:
        raise DataError(f"{store.location} has {len(rows)} rows with all of these embeddings; a map needs {MIN_ROWS}")
    kept = Kept(default_folder())
    use = None if saved is None else _use(saved, store.samples.ids[rows])
    columns = store.columns(["label", "group"])
    sources = [embedding_source(store, name, rows) for name in names]
    sources += [] if saved is None else [fused_source(saved, store, rows)]
    maps = [
        each
        for method in wanted
        for each in make_maps(
            sources,
            method=method,
            labels=columns["label"][rows],
            groups=columns["group"][rows],
            is_asked=None if use is None else use == NEW,
            is_known=None if use is None else use != NEW,
            seed=seed,
            kept=kept,
            progress=progress,
        )
    ]
    points = points_of(
        store,
        rows,
        {} if use is None else {"used by the head": use},
        is_anonymous=is_anonymous,
        with_thumbnails=with_thumbnails,
        kept=kept,
        progress=progress,
    )
    n_left_out = int((~store.samples.is_pruned).sum()) - len(rows)
    title = "dvme: embedding maps" if is_anonymous else f"{store.name}: embedding maps"
    write_page(_page(title, points, maps, n_left_out, has_head=saved is not None), Path(out))
    drawn = {} if figures is None else map_figures(maps, columns["label"][rows])
    files = [] if figures is None else save_figures(drawn, figures, kind=figure_kind)
    return VizReport(
        cache=os.fspath(cache),
        html=os.fspath(out),
        methods=wanted,
        n_points=len(rows),
        n_left_out=n_left_out,
        n_without_thumbnail=len(rows) if points.thumbnails is None else len(points.thumbnails.missing),
        maps={m: {each.name: each.quality for each in maps if each.method == m} for m in wanted},
        figures=[os.fspath(file) for file in files],
    )


def check_page(out: str | Path) -> None:
    """Refuse a place where no page can be.

    Raises:
        OptionError: if it is a folder.
    """
    if Path(out).is_dir():
        raise OptionError(f"{out} is a folder; name the HTML file to write, such as {Path(out) / 'maps.html'}")


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods, each once.

    Raises:
        OptionError: naming those that there are.
    """
    unknown = [each for each in methods if each not in METHODS]
    if unknown or not methods:
        raise OptionError(f"unknown map {(unknown or [''])[0]!r}; choose one of {', '.join(METHODS)}")
    return tuple(dict.fromkeys(methods))


def embedding_source(store: EmbeddingCache, name: str, rows: NDArray[Any]) -> Source:
    """A backbone's embeddings of some rows, to be mapped."""
    table = store.embeddings(name)
    digest = key_of("embedding", table.fingerprint.digest, store.samples.ids[rows].tobytes().hex())
    return Source(name, digest, lambda: table.read(rows))


def fused_source(saved: SavedHead, store: EmbeddingCache, rows: NDArray[Any]) -> Source:
    """The layer that a fusion's first fold reads the class from, of some rows.

    Every fold has a space of its own, so one of them is shown. It knows the labels of what it was fitted on: these
    images lie apart by class because they were taught to.
    """
    network = saved.folds[0].head
    assert isinstance(network, FittedNetwork)
    arrays = network.arrays()
    parts = [saved.name, *(each.digest for each in saved.fingerprints), store.samples.ids[rows].tobytes().hex()]
    digest = key_of("fused", *parts, *(key_of(name, arrays[name].tobytes().hex()) for name in sorted(arrays)))

    def load() -> NDArray[Any]:
        return network.hidden(store.read_aligned(saved.backbones, rows))

    return Source(f"{saved.name}, first fold", digest, load)


def _fusion(head: str | Path, store: EmbeddingCache) -> SavedHead:
    saved = load_head(head)
    if not isinstance(saved.folds[0].head, FittedNetwork) or len(saved.backbones) < 2:
        raise OptionError(f"{head} is {saved.name} of {counted(len(saved.backbones), 'backbone')}; --head takes a dvme")
    check_fits(saved, store)
    return saved


def _use(saved: SavedHead, ids: NDArray[np.uint8]) -> NDArray[Any]:
    """(N,) what the first fold's head did with each image."""
    sides = {"trained on": saved.folds[0].train_ids, "chosen on": saved.folds[0].validation_ids}
    side = {row.tobytes(): name for name, some in sides.items() for row in some}
    return np.array([side.get(row.tobytes(), NEW) for row in ids], dtype=object)


def _page(title: str, points: Points, maps: Sequence[EmbeddingMap], n_left_out: int, *, has_head: bool) -> Page:
    left_out = f"; {n_left_out:,} without an embedding left out" if n_left_out else ""
    methods = " and ".join(dict.fromkeys(METHOD_NAMES[each.method] for each in maps))
    head = f'<h1>{text(title)}</h1><p class="soft">{methods} of {len(points.ids):,} images{left_out}</p>'
    if has_head:
        head += (
            "<p>The fused embedding was trained with the labels of the images that its head was fitted on: they lie "
            "apart by class because they were taught to. Numbers by label are of images new to the head.</p>"
        )
    body = explorer_html(points, maps)
    return Page(title, head, [Section("maps", "Maps", body)], explorer_data(points, maps))
