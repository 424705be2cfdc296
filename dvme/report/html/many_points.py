"""The maps of a page with their data, which are packed above 60,000 images; what does not fit is left out and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dvme.maps.maps import EmbeddingMap
from dvme.report.html.explorer import METHOD_NAMES, Column, Measured, Points, coded, explorer_data, explorer_html
from dvme.report.html.packing import LAST_CODE, packed_array, packed_texts, quantised, smallest_codes
from dvme.report.html.thumbnails import EDGES
from dvme.text import counted, some_of

MOST_PLAIN = EDGES[-1][0]
"""Images of a page whose data are plain JSON."""
MOST_FILE = "40 MB"
MOST_PACKED = 32_000_000
"""Bytes of packed data; with plotly.js and the figures of a report a file stays below MOST_FILE."""
MOST_TEXTS = 65_536
"""Different texts of a column of numbers up to which it is kept digit by digit."""
NAMES = "names of images"


@dataclass(frozen=True)
class _Packed:
    """A part of the data that a page may do without."""

    name: str
    """As the page calls it."""
    data: dict[str, Any]
    is_rounded: bool = False

    @property
    def n_bytes(self) -> int:
        return _n_bytes(self.data)


def explored(
    points: Points, maps: Sequence[EmbeddingMap], notes: Sequence[str] = ()
) -> tuple[Markup, Mapping[str, Any]]:
    """The panels of the maps, and the data that the page's script needs.

    Args:
        points: the images.
        maps: their places.
        notes: what is to be said above the maps. Of many images is said what is binned, rounded and left out.
    """
    if len(points.ids) <= MOST_PLAIN:
        return explorer_html(points, maps, notes), explorer_data(points, maps)
    names = _Packed(NAMES, packed_texts(points.ids))
    columns = [_packed_column(name, values, points.class_order) for name, values in points.columns.items()]
    places = [_packed_map(each) for each in maps]
    gone = _too_large(names, columns[1:], taken=_n_bytes([places, *(each.data for each in columns[:1])]))
    left = [each for each in columns if each not in gone]
    data = {
        "n": len(points.ids),
        "ids": None if names in gone else names.data,
        "maps": places,
        "columns": [each.data for each in left],
        "thumbnails": None,
        "tokens": [],
    }
    shown = replace(points, columns={each.name: points.columns[each.name] for each in left}, thumbnails=None)
    said = [*notes, _binned(len(points.ids)), *_rounded(left), *_left_out(gone, names), *_many_maps(places)]
    return explorer_html(shown, maps, said, is_packed=True), data


def _packed_map(each: EmbeddingMap) -> dict[str, Any]:
    axes = [quantised(values) for values in each.positions.T]
    return {
        "name": each.name,
        "method": METHOD_NAMES[each.method],
        "axes": [{"low": axis.low, "step": axis.step, "codes": packed_array(axis.codes)} for axis in axes],
    }


def _packed_column(name: str, values: Column, order: Sequence[str]) -> _Packed:
    if isinstance(values, Measured):
        return _packed_numbers(name, values)
    distinct, codes = coded(values, order)
    packed = {"codes": packed_array(smallest_codes(codes, len(distinct))), "values": packed_texts(distinct)}
    return _Packed(name, {"name": name, **packed})


def _packed_numbers(name: str, column: Measured) -> _Packed:
    """Few texts with the number that each stands for, where texts say all numbers; else the numbers, rounded."""
    texts, is_known = np.array(column.texts, dtype=object), np.isfinite(column.values)
    place = {text: code for code, text in enumerate(dict.fromkeys(column.texts))}
    if len(place) > MOST_TEXTS or ((texts != "") != is_known).any():
        found = quantised(column.values)
        grid = {"low": found.low, "step": found.step, "codes": packed_array(found.codes)}
        return _Packed(name, {"name": name, "grid": grid}, is_rounded=True)
    codes = np.array([place[text] for text in column.texts], dtype=np.int64)
    numbers = _means(column.values, codes, len(place))
    packed = {"codes": packed_array(smallest_codes(codes, len(place))), "texts": packed_texts(list(place))}
    return _Packed(name, {"name": name, "numbers": packed_array(numbers.astype(np.float32)), **packed})


def _means(values: NDArray[Any], codes: NDArray[Any], n: int) -> NDArray[np.float64]:
    """(n,) the mean of the values of each code."""
    means: NDArray[np.float64] = np.bincount(codes, values, n) / np.bincount(codes, minlength=n)
    return means


def _too_large(names: _Packed, columns: Sequence[_Packed], *, taken: int) -> list[_Packed]:
    """What does not fit beside what is taken already: the names if they alone do not, then the largest columns."""
    gone = [names] if taken + names.n_bytes > MOST_PACKED else []
    room = MOST_PACKED - taken - sum(each.n_bytes for each in (names, *columns) if each not in gone)
    for each in sorted(columns, key=lambda column: column.n_bytes, reverse=True):
        if room < 0:
            gone.append(each)
            room += each.n_bytes
    return gone


def _n_bytes(data: Any) -> int:
    """Of the texts in it; the rest is small."""
    if isinstance(data, Mapping):
        return sum(map(_n_bytes, data.values()))
    if isinstance(data, list):
        return sum(map(_n_bytes, data))
    return len(data) if isinstance(data, str) else 0


def _binned(n: int) -> str:
    return (
        f"{n:,} images are drawn in squares of 2 pixels. A square has the colour of one of its images, taken by "
        "chance; it is the stronger the more it holds, or the larger the selected part of them. Where few images are "
        "in sight each is drawn by itself. Lasso, counts, search and download go by every image; places are rounded "
        f"to 1/{LAST_CODE:,} of a map's width and height."
    )


def _rounded(columns: Sequence[_Packed]) -> list[str]:
    names = [each.name for each in columns if each.is_rounded]
    return [f"Rounded to 1/{LAST_CODE:,} of their range: {some_of(names)}."] if names else []


def _left_out(gone: Sequence[_Packed], names: _Packed) -> list[str]:
    """What the page does without, and where it is."""
    if not gone:
        return []
    sizes = [f"{each.name} ({each.n_bytes / 1e6:.0f} MB)" for each in gone]
    said = f"Left out, so that the page stays below {MOST_FILE}: {some_of(sizes)}."
    where = "dvme cache export writes names and columns of a cache as a table."
    if names not in gone:
        return [f"{said} {where}"]
    called = (
        "An image is called by its position on this page, from 0: in the cache's order, unless the page is anonymous."
    )
    return [f"{said} {called} {where}"]


def _many_maps(places: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to do where maps alone are too large, for none of them is left out."""
    n_bytes = _n_bytes(list(places))
    if n_bytes <= MOST_PACKED:
        return []
    said = f"{counted(len(places), 'map')} alone take {n_bytes / 1e6:.0f} MB, so that the page exceeds {MOST_FILE}"
    return [f"{said}: choose fewer backbones or methods."]
