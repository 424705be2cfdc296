"""Thumbnails of many images as a few sheets, each one picture; an image that is not there has none."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data import decode_image
from dvme.data.sources import is_there, read_image
from dvme.errors import ImageError
from dvme.maps.map_store import Kept, key_of
from dvme.runtime import Progress, Runtime, silent

PER_SHEET, ACROSS = 1024, 32
EDGES = ((4_000, 96), (15_000, 48), (60_000, 32))
"""(most images, pixels of an edge): the more images, the smaller they are shown; a page of still more has none."""
QUALITY, LARGE_QUALITY = 62, 80
LARGE_EDGE = 224
BACKGROUND = 128
REVISION = 2


@dataclass(frozen=True)
class Thumbnails:
    """N thumbnails, in the order of the images, 1,024 to a sheet."""

    n_images: int
    edge: int
    """Pixels."""
    sheets: list[bytes]
    """WebP."""
    missing: NDArray[np.int64]
    """Images whose file is gone, is another by now, or cannot be decoded."""

    def to_json(self) -> dict[str, Any]:
        """What the page needs."""
        return {
            "n": self.n_images,
            "edge": self.edge,
            "across": ACROSS,
            "per_sheet": PER_SHEET,
            "missing": self.missing.tolist(),
            "sheets": [as_url(sheet) for sheet in self.sheets],
        }


def thumbnails(
    paths: Sequence[str], ids: NDArray[np.uint8], *, kept: Kept, progress: Progress = silent
) -> Thumbnails | None:
    """Thumbnails of images, from their files or as they were kept; None where no file is to be had.

    An image is shown only while its file is there, and only as its content was embedded: thumbnails are made of files
    whose content has the id, and kept by these ids.

    Args:
        paths: N files.
        ids: (N, 16) content ids.
        kept: where sheets are looked for and put.
        progress: told (stage, done, total).
    """
    edge = next((pixels for most, pixels in EDGES if len(paths) <= most), None)
    if edge is None:
        return None
    sheets, missing = [], []
    for start in range(0, len(paths), PER_SHEET):
        some = slice(start, start + PER_SHEET)
        sheet, gone = _sheet(paths[some], ids[some], edge, kept)
        sheets.append(sheet)
        missing.append(gone + start)
        progress("thumbnails", min(start + PER_SHEET, len(paths)), len(paths))
    lost = np.concatenate(missing) if missing else np.array([], dtype=np.int64)
    return None if len(lost) == len(paths) else Thumbnails(len(paths), edge, sheets, lost)


def token_thumbnails(colours: NDArray[np.uint8]) -> Thumbnails:
    """Thumbnails of N grids of (N, r, c, 3) colours, each as a square of a pixel for each cell."""
    edge, sheets = max(colours.shape[1:3]), []
    for start in range(0, len(colours), PER_SHEET):
        some = colours[start : start + PER_SHEET]
        sheet = Image.new("RGB", (ACROSS * edge, -(-len(some) // ACROSS) * edge))
        for i, own in enumerate(some):
            tile = Image.fromarray(own).resize((edge, edge), Image.Resampling.NEAREST)
            sheet.paste(tile, (i % ACROSS * edge, i // ACROSS * edge))
        sheets.append(_encoded(sheet, LARGE_QUALITY))
    return Thumbnails(len(colours), edge, sheets, np.array([], dtype=np.int64))


def large_thumbnail(path: str, identity: bytes, edge: int = LARGE_EDGE) -> str | None:
    """A larger picture of one image as a URL, at most `edge` pixels wide and high; None where it is not to be had."""
    image = _small(path, identity, edge)
    return None if image is None else as_url(_encoded(image, LARGE_QUALITY))


def sharp_url(picture: Image.Image) -> str:
    """A drawn picture of few colours as a URL, to the pixel."""
    return as_url(_sharp(picture.convert("RGB")))


def as_url(content: bytes) -> str:
    """A WebP picture as a data URL."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}"


def _sheet(paths: Sequence[str], ids: NDArray[np.uint8], edge: int, kept: Kept) -> tuple[bytes, NDArray[np.int64]]:
    """One sheet, and which of its images are missing."""
    key = key_of("thumbnails", REVISION, edge, ids.tobytes().hex())
    found = kept.read(key)
    if found is not None and not len(found["missing"]) and all(map(is_there, paths)):
        return found["sheet"].tobytes(), found["missing"]
    with ThreadPoolExecutor(Runtime().n_workers) as pool:
        images = list(pool.map(partial(_small, edge=edge), paths, [row.tobytes() for row in ids]))
    missing = np.array([i for i, image in enumerate(images) if image is None], dtype=np.int64)
    mode = "L" if all(image is None or image.mode == "L" for image in images) else "RGB"
    rows = -(-len(paths) // ACROSS)
    background = BACKGROUND if mode == "L" else (BACKGROUND,) * 3
    sheet = Image.new(mode, (ACROSS * edge, rows * edge), background)
    for i, image in enumerate(images):
        if image is not None:
            left, top = (edge - image.width) // 2, (edge - image.height) // 2
            sheet.paste(image, (i % ACROSS * edge + left, i // ACROSS * edge + top))
    content = _encoded(sheet, QUALITY)
    kept.write(key, sheet=np.frombuffer(content, dtype=np.uint8), missing=missing)
    return content, missing


def _small(path: str, identity: bytes, edge: int) -> Image.Image | None:
    image = _read(path, identity)
    if image is not None:
        image.thumbnail((edge, edge))
    return image


def _read(path: str, identity: bytes) -> Image.Image | None:
    """The image of this content, if the file still holds it and it can be decoded."""
    try:
        image = read_image(path)
        return decode_image(image) if image.content_id == identity else None
    except (OSError, ValueError, ImageError):
        return None


def _sharp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=3)
    return buffer.getvalue()


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
