"""The maps to explore: their data for the page, and their place in it."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dvme.data.order import class_order
from dvme.maps.maps import EmbeddingMap
from dvme.report.html.template import filled
from dvme.report.html.thumbnails import Thumbnails

PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
"""Texts that are measures; not 007, 1_0 or 1e5, which are more likely names."""
MOST_NUMBERED = 12
"""Different numbers up to which a column is one of grades, each with a colour of its own."""
METHOD_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}


@dataclass(frozen=True)
class Measured:
    """A column of numbers."""

    values: NDArray[Any]
    """(N,) nan for none; they only colour the points."""
    texts: Sequence[str]
    """N, as they are shown, listed and downloaded: a number's digits are never touched."""


Column = NDArray[Any] | Measured
"""(N,) texts, "" for none, or numbers."""


@dataclass(frozen=True)
class Points:
    """What is known of the images that the maps show."""

    ids: Sequence[str]
    """N names, as the user knows them."""
    columns: Mapping[str, Column]
    """By name. The first colours the points."""
    thumbnails: Thumbnails | None
    class_order: Sequence[str] = ()
    """Of the columns that hold classes and nothing else; () where no order is given."""
    tokens: Mapping[str, Thumbnails] = field(default_factory=dict)
    """Their tokens as colours, by backbone."""


def explorer_data(points: Points, maps: Sequence[EmbeddingMap]) -> dict[str, Any]:
    """Everything that the page's script needs, as JSON."""
    return {
        "ids": list(points.ids),
        "maps": [
            {"name": each.name, "method": METHOD_NAMES[each.method], "places": _packed(each.positions, "<f4")}
            for each in maps
        ],
        "columns": [_column(name, values, points.class_order) for name, values in points.columns.items()],
        "thumbnails": None if points.thumbnails is None else points.thumbnails.to_json(),
        "tokens": [{"name": name, **own.to_json()} for name, own in points.tokens.items()],
    }


def explorer_html(
    points: Points, maps: Sequence[EmbeddingMap], notes: Sequence[str] = (), *, is_packed: bool = False
) -> Markup:
    """The maps' panels and controls; the script draws into them. Notes stand above.

    Args:
        points: the images.
        maps: their places.
        notes: what is to be said of the maps.
        is_packed: whether the data are packed (`dvme.report.html.many_points`), and read after the first paint.
    """
    named = [(each.name, METHOD_NAMES[each.method], _quality(each)) for each in maps]
    return filled(
        "explorer",
        notes=notes,
        columns=list(points.columns),
        methods=list(dict.fromkeys(method for _, method, _ in named)),
        maps=named,
        has_pictures=points.thumbnails is not None,
        n_packed=len(points.ids) if is_packed else 0,
    )


def short_ids(paths: Sequence[str]) -> list[str]:
    """Paths without the folder that they have in common: shorter, and no word of the machine they lie on."""
    parts = [re.split(r"[/\\]", path) for path in paths]
    shared = 0
    for names in zip(*(each[:-1] for each in parts), strict=False):  # until the shortest path ends
        if len(set(names)) > 1:
            break
        shared += 1
    return ["/".join(each[shared:]) for each in parts]


def measured_or_named(values: NDArray[Any]) -> Column:
    """A column of texts as numbers, where it has numbers only and more than a few different ones."""
    texts = [str(value) for value in values]
    present = set(texts) - {""}
    if len(present) <= MOST_NUMBERED or not all(PLAIN_NUMBER.fullmatch(text) for text in present):
        return values
    return Measured(np.array([float(text) if text else np.nan for text in texts]), texts)


def coded(values: NDArray[Any], order: Sequence[str] = ()) -> tuple[list[str], NDArray[np.int64]]:
    """Categories in their order, the missing one last, and (N,) the position in them of each value."""
    texts = [str(value) for value in values]
    present = sorted(set(texts) - {""})
    distinct = sorted(present, key=class_order(present, order)) + ([""] if "" in texts else [])
    place = {value: code for code, value in enumerate(distinct)}
    return distinct, np.array([place[text] for text in texts], dtype=np.int64)


def _quality(each: EmbeddingMap) -> str:
    quality = each.quality
    parts = [f"trustworthiness {quality.trustworthiness:.2f}", f"preservation {quality.preservation:.2f}"]
    if not math.isnan(quality.silhouette):
        parts.append(f"silhouette {quality.silhouette:.2f}")
    if not math.isnan(quality.knn_accuracy):
        parts.append(f"kNN {quality.knn_accuracy:.0%}")
    if quality.n_laid_out is not None:
        parts.append(f"{quality.n_laid_out:,} of {len(each.positions):,} laid out")
    return " · ".join(parts)


def _column(name: str, values: Column, order: Sequence[str]) -> dict[str, Any]:
    """Numbers with their texts, texts as categories with their codes."""
    if isinstance(values, Measured):
        return {"name": name, "numbers": _packed(values.values, "<f4"), "texts": list(values.texts)}
    distinct, codes = coded(values, order)
    return {"name": name, "values": distinct, "codes": _packed(codes, "<u4")}


def _packed(values: NDArray[Any], dtype: str) -> str:
    """Its bytes as text."""
    return base64.b64encode(values.astype(dtype).tobytes()).decode("ascii")
