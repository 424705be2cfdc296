"""Which test images a segmentation is looked at by: the best, the median and the worst by Dice, as small PNG files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data.masks import Masks
from dvme.files import new_folder, whole
from dvme.json_values import as_json
from dvme.segmentation.ceiling import ceiling
from dvme.study.scoring import image_scores

PICTURES = "pictures"
"""The folder of a run: a folder for each method, by the key of its job of the largest size and the first draw."""
EDGE = 256
"""Pixels of a picture's longer side at most."""
EACH = 3
"""Images of a kind at most, so that a method has nine pictures at most, and 8 kB of each class in each."""
KINDS = ("best", "median", "worst")
DESCRIPTION = "pictures.json"
TORN = (OSError, ValueError, KeyError, TypeError, SyntaxError)
"""What a damaged folder may raise; Pillow's PNG reader raises the last one."""


@dataclass(frozen=True)
class Picture:
    """What a method takes the pixels of one test image for."""

    kind: str
    """Of KINDS."""
    content: str
    """Content id of the image, 32 hexadecimal digits."""
    dice: float
    """Mean over the classes, at the mask's own resolution."""
    ceiling: float
    """What the method's grid could reach of it at best: the mask itself, down to the grid and up again."""
    png: bytes
    """L planes of 1 bit, one below the other, at most EDGE pixels wide and high each."""
    n_classes: int

    @classmethod
    def of(cls, kind: str, content: str, scores: tuple[float, float], planes: NDArray[np.bool_]) -> Self:
        """The picture of (L, H, W) planes, and their Dice with its ceiling."""
        small, buffer = reduced(planes), io.BytesIO()
        flat = small.reshape(-1, small.shape[2]).astype(np.uint8) * 255
        Image.fromarray(flat).convert("1", dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        return cls(kind, content, *scores, buffer.getvalue(), len(planes))

    @property
    def planes(self) -> NDArray[np.bool_]:
        """(L, h, w), see `reduced`."""
        flat = np.asarray(Image.open(io.BytesIO(self.png)), dtype=bool)
        return flat.reshape(self.n_classes, -1, flat.shape[1])


@dataclass(frozen=True)
class Pictures:
    """Of one method."""

    shape: tuple[int, int]
    """Rows and columns of its grid."""
    images: tuple[Picture, ...]
    """By kind, the best first of each but the worst, of which the worst is first."""


class PictureStore:
    """The pictures of a run's methods; without a folder none are kept."""

    def __init__(self, run: Path | None) -> None:
        """Take the run's folder."""
        self.folder = None if run is None else run / PICTURES

    def has(self, key: str) -> bool:
        """Whether a job's pictures are there, whole."""
        return self.read(key) is not None

    def write(self, key: str, pictures: Pictures) -> None:
        """Keep a job's pictures, whole or not at all."""
        if self.folder is None:
            return
        with new_folder(self.folder / key, force=True) as aside:
            listed = []
            for place, each in enumerate(pictures.images, start=1):
                file = f"{place}-{each.kind}.png"
                (aside / file).write_bytes(each.png)
                about = {"kind": each.kind, "content": each.content, "dice": each.dice, "ceiling": each.ceiling}
                listed.append({"file": file, **about, "n_classes": each.n_classes})
            described = {"shape": list(pictures.shape), "images": listed}
            (aside / DESCRIPTION).write_text(as_json(described, indent=1) + "\n", encoding="utf-8")

    def read(self, key: str) -> Pictures | None:
        """A job's pictures; None where they are gone or damaged."""
        if self.folder is None:
            return None
        folder = whole(self.folder / key)
        try:
            described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            n_rows, n_columns = described["shape"]
            images = tuple(_read(folder, each) for each in described["images"])
        except TORN:
            return None
        return Pictures((n_rows, n_columns), images)


def pictures_of(
    planes_of: Callable[[int], NDArray[np.bool_]],
    counts: NDArray[np.int64],
    positions: NDArray[np.int64],
    shape: tuple[int, int],
    masks: Masks,
    ids: NDArray[np.uint8],
) -> Pictures:
    """The pictures of a fitted method.

    Args:
        planes_of: (L, H, W) what it takes the image at a position for.
        counts: (n, L, 3) its pixels of the test images, see `overlaps`.
        positions: (n,) of these images.
        shape: rows and columns of its grid.
        masks: of all images.
        ids: (N, 16) of all images.
    """
    scores, images = image_scores(counts, "dice"), []
    for kind, place in chosen(counts):
        position = int(positions[place])
        reached = ceiling(masks.read(position), shape, is_exclusive=masks.is_exclusive)
        both = float(scores[place]), float(image_scores(reached[None], "dice")[0])
        images.append(Picture.of(kind, ids[position].tobytes().hex(), both, planes_of(position)))
    return Pictures(shape, tuple(images))


def chosen(counts: NDArray[np.int64]) -> list[tuple[str, int]]:
    """Which images are shown, and as what: EACH of the best, the median and the worst, fewer where there are fewer.

    Images without a known pixel, and those where mask and prediction are both empty, have nothing to be seen.

    Args:
        counts: (n, L, 3).

    Returns:
        (kind, place) by kind; no image twice.
    """
    scores = image_scores(counts, "dice")
    is_seen = ~np.isnan(scores) & (counts[:, :, 1:] > 0).any(axis=(1, 2))
    seen = np.flatnonzero(is_seen)
    ranked = seen[np.argsort(-scores[seen], kind="stable")].tolist()
    each = min(EACH, max(1, len(ranked) // len(KINDS)))
    middle = (len(ranked) - each + 1) // 2
    places = {"best": ranked[:each], "worst": ranked[::-1][:each], "median": ranked[middle : middle + each]}
    found: dict[int, str] = {}
    for kind, own in places.items():
        for place in own:
            found.setdefault(place, kind)
    return [(kind, place) for kind in KINDS for place in places[kind] if found[place] == kind]


def reduced(planes: NDArray[Any], edge: int = EDGE) -> NDArray[Any]:
    """(L, h, w) of (L, H, W): the pixel in the middle of each, at most `edge` wide and high."""
    n_rows, n_columns = planes.shape[1:]
    most = max(n_rows, n_columns)
    if most <= edge:
        return planes
    own = [
        np.minimum(((np.arange(n) + 0.5) * size / n).astype(np.int64), size - 1)
        for size in (n_rows, n_columns)
        for n in [max(1, round(size * edge / most))]
    ]
    small: NDArray[Any] = planes[:, own[0][:, None], own[1]]
    return small


def _read(folder: Path, described: dict[str, Any]) -> Picture:
    png = (folder / described["file"]).read_bytes()
    score, most = (float("nan") if each is None else float(each) for each in (described["dice"], described["ceiling"]))
    own = Picture(described["kind"], described["content"], score, most, png, int(described["n_classes"]))
    if own.kind not in KINDS or not own.planes.size:
        raise ValueError(own.kind)
    return own
