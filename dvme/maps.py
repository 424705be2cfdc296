"""`dvme viz`: embedding maps of a cache in one self-contained HTML file."""

from __future__ import annotations

import html
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.errors import DataError, OptionError
from dvme.runtime import Progress, silent
from dvme_cache import EmbeddingCache, RowState

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METHODS = ("tsne", "umap", "pca")
NEIGHBOURS = 15
MIN_ROWS = 5
MAPS_PER_ROW = 3
UNLABELLED = "(no label)"

# Okabe and Ito 2008: distinct under the common colour-vision deficiencies.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down")


@dataclass(frozen=True)
class EmbeddingMap:
    """One backbone's embeddings in the plane."""

    backbone: str
    positions: NDArray[Any]
    """(N, 2) float32."""
    trustworthiness: float
    """Share of map neighbours that are neighbours in the embedding, 0 to 1 (Venna and Kaski 2001)."""
    neighbour_agreement: float
    """Share of the nearest neighbours in the *embedding* that carry a point's own label; nan without labels."""


@dataclass(frozen=True)
class VizReport:
    """What `dvme viz` drew."""

    cache: str
    html: str
    method: str
    n_points: int
    n_left_out: int
    maps: dict[str, dict[str, float]]
    """Backbone to the quality of its map."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return dict(vars(self))


def viz(
    cache: str | Path,
    *,
    out: str | Path,
    backbones: Sequence[str] | None = None,
    method: str = "tsne",
    seed: int = 0,
    progress: Progress = silent,
) -> VizReport:
    """Draw every backbone's embeddings in the plane, side by side, and write one HTML file.

    Args:
        cache: path of a cache.
        out: the HTML file; replaced whole.
        backbones: names; None: all in the cache.
        method: `tsne`, `umap` or `pca`.
        seed: of the map.
        progress: told (stage, done, total).

    Raises:
        OptionError, DataError, CacheError: each says what is wrong and what to do.
    """
    if method not in METHODS:
        raise OptionError(f"unknown map {method!r}; choose one of {', '.join(METHODS)}")
    if Path(out).is_dir():
        raise OptionError(f"{out} is a folder; name the HTML file to write, such as {Path(out) / 'maps.html'}")
    store = EmbeddingCache.open(cache)
    names = list(dict.fromkeys(backbones)) if backbones else store.backbones
    if not names:
        raise OptionError(f"{store.location} has no embeddings yet; run dvme extract first")
    states = np.stack([store.embeddings(name).states() for name in names])
    rows = np.flatnonzero((states == RowState.DONE).all(axis=0))
    if len(rows) < MIN_ROWS:
        raise DataError(f"{store.location} has {len(rows)} rows with all of these embeddings; a map needs {MIN_ROWS}")
    labels = store.column("label")[rows]
    maps = []
    for done, name in enumerate(names):
        progress("maps", done, len(names))
        maps.append(embedding_map(name, store.embeddings(name).read(rows), labels, method=method, seed=seed))
    progress("maps", len(names), len(names))
    ids = np.array(store.samples.paths, dtype=object)[rows]
    figure = map_figure(maps, labels, ids, title=f"{store.name}: {method} of {len(rows):,} images")
    _write_html(figure, Path(out), title=f"dvme · {store.name}")
    quality = {
        item.backbone: {"trustworthiness": item.trustworthiness, "neighbour_agreement": item.neighbour_agreement}
        for item in maps
    }
    return VizReport(os.fspath(cache), os.fspath(out), method, len(rows), store.n_rows - len(rows), quality)


def embedding_map(
    backbone: str, features: NDArray[Any], labels: NDArray[Any], *, method: str, seed: int
) -> EmbeddingMap:
    """Place (N, D) features in the plane and measure how far the placement can be trusted.

    The features are L2-normalised first, so that Euclidean neighbours are cosine neighbours, as for kNN.
    """
    from sklearn.manifold import trustworthiness

    from dvme.heads.knn import normalised, search

    unit = normalised(features)
    if not np.ptp(unit, axis=0).any():
        raise DataError(f"all {len(unit)} {backbone} embeddings are equal; there is nothing to map")
    positions = _project(unit, method, seed)
    k = min(NEIGHBOURS, (len(unit) - 1) // 2)
    _, found = search(unit, unit, k + 1)
    others = np.array([[n for n in near if n != row][:k] for row, near in enumerate(found.tolist())])
    is_labelled = labels != MISSING
    same = (labels[others] == labels[:, None])[is_labelled]
    return EmbeddingMap(
        backbone=backbone,
        positions=positions.astype(np.float32),
        trustworthiness=float(trustworthiness(unit, positions, n_neighbors=k)),
        neighbour_agreement=float(same.mean()) if len(same) else float("nan"),
    )


def map_figure(maps: Sequence[EmbeddingMap], labels: NDArray[Any], ids: NDArray[Any], *, title: str) -> Figure:
    """One panel per map, one trace per class and panel; a click in the legend toggles a class everywhere."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    n_rows, n_columns = math.ceil(len(maps) / MAPS_PER_ROW), min(len(maps), MAPS_PER_ROW)
    titles = [_subtitle(item) for item in maps]
    figure = make_subplots(rows=n_rows, cols=n_columns, subplot_titles=titles, vertical_spacing=0.22 / n_rows)
    task = Task.from_labels(labels)
    classes = [*task.classes, *([MISSING] if task.n_unlabelled else [])]
    safe_ids = np.array([html.escape(identity) for identity in ids.tolist()], dtype=object)
    for panel, item in enumerate(maps):
        for index, name in enumerate(classes):
            members = np.flatnonzero(labels == name)
            shown = html.escape(name or UNLABELLED)
            figure.add_trace(
                graph_objects.Scattergl(
                    x=item.positions[members, 0],
                    y=item.positions[members, 1],
                    mode="markers",
                    name=f"{shown} ({len(members):,})",
                    legendgroup=shown,
                    showlegend=panel == 0,
                    marker={
                        "size": 6,
                        "opacity": 0.75,
                        "color": "#999999" if name == MISSING else PALETTE[index % len(PALETTE)],
                        "symbol": SYMBOLS[index % len(SYMBOLS)],
                    },
                    text=safe_ids[members],
                    hovertemplate=f"%{{text}}<br>{shown}<extra>{html.escape(item.backbone)}</extra>",
                ),
                row=panel // MAPS_PER_ROW + 1,
                col=panel % MAPS_PER_ROW + 1,
            )
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "showline": True, "mirror": True}
    figure.update_xaxes(**hidden, linecolor="#cccccc")
    figure.update_yaxes(**hidden, linecolor="#cccccc")
    figure.update_layout(
        title={"text": html.escape(title), "x": 0.01},
        template="plotly_white",
        height=180 + 390 * n_rows,
        legend={"orientation": "h", "y": -0.06 / n_rows, "title": {"text": "label  "}},
        margin={"l": 20, "r": 20, "t": 110, "b": 60},
        hoverlabel={"font": {"size": 13}},
    )
    return figure


def _subtitle(item: EmbeddingMap) -> str:
    quality = f"trustworthiness {item.trustworthiness:.2f}"
    if not np.isnan(item.neighbour_agreement):
        quality += f" · same-label neighbours {item.neighbour_agreement:.0%}"
    return f"<b>{html.escape(item.backbone)}</b><br><span style='font-size:12px'>{quality}</span>"


def _project(unit: NDArray[Any], method: str, seed: int) -> NDArray[Any]:
    """(N, 2) positions of (N, D) unit rows."""
    from sklearn.decomposition import PCA

    components = min(50, *unit.shape)
    reduced = PCA(components, random_state=seed).fit_transform(unit.astype(np.float64))
    if method == "pca":
        return np.asarray(reduced[:, :2])
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(unit) - 1) / 3.0)
        return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced))
    with warnings.catch_warnings(action="ignore"):  # that TensorFlow is absent, and that a seed turns threads off
        import umap

        neighbours = min(NEIGHBOURS, len(unit) - 1)
        return np.asarray(umap.UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(reduced))


def _write_html(figure: Figure, out: Path, *, title: str) -> None:
    """One file that opens without a network, written aside and renamed."""
    plot = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    page = _PAGE.format(title=html.escape(title), plot=plot)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.partial")
    try:
        aside.write_text(page, encoding="utf-8")
        aside.replace(out)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1600px; padding: 12px; color: #222; }}
p {{ color: #555; margin: 4px 20px 20px; max-width: 75ch; }}
.maps {{ overflow-x: auto; }}
.maps > div {{ min-width: 960px; }}
</style></head><body>
<div class="maps">{plot}</div>
<p>Distances and cluster sizes in a map are not evidence: two dimensions cannot hold the embedding.
Trustworthiness is the share of map neighbours that are real ones; same-label neighbours are counted in the
original embedding, not in the map. Click a class in the legend to hide it, double-click to show it alone.</p>
</body></html>
"""
