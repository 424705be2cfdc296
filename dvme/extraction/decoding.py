"""From an address to pixels that are cropped for each backbone: what is read, decoded once and cut in several ways."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.backbones.description.view import PLAIN, View
from dvme.backbones.model.augment import view_image
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode
from dvme.data.decoded import Decoded, Told
from dvme.data.encoded import Encoded
from dvme.data.listing import why
from dvme.data.reading import Reading
from dvme.data.sources import read_image
from dvme.data.spool import Spool
from dvme.errors import ImageError

T = TypeVar("T")
CHANGED = "changed after it was listed; run again"


@dataclass(frozen=True)
class Work:
    """One image to embed."""

    row: int
    """Its cache row."""
    path: Path
    """Its address."""
    digest: bytes
    """The content it must still have."""
    spool: Spool | None = None
    """Where its bytes may be, which were read to identify it."""


@dataclass(frozen=True)
class Way:
    """From an image to a backbone's pixels."""

    reading: Reading
    preprocess: Preprocess
    view: View = PLAIN

    @classmethod
    def of(cls, spec: BackboneSpec) -> Way:
        """A backbone's."""
        return cls(spec.reading, spec.preprocess, spec.view)


@dataclass(frozen=True)
class Unread:
    """A file that could not be read just now. Its row stays pending, for the next run may fare better."""

    reason: str


Content = NDArray[np.uint8] | str | Unread
"""(H, W, C) pixels, or why there are none."""


@dataclass(frozen=True)
class Prepared:
    """One image, decoded and cropped in several ways."""

    contents: list[Content]
    """One for each way."""
    told: tuple[Told, ...] = ()
    """What there is to say about its range of grey, by any way of reading it."""


@dataclass(frozen=True)
class Decoder:
    """Reads images, and decodes each once for every reading, however many ways there are to crop it."""

    ways: Sequence[Way]
    max_pixels: int | None

    def read(self, item: Work) -> Encoded | Unread:
        """The bytes of an image, which still is what it was, or why they cannot be used."""
        return _read(item)

    def decode(self, content: Encoded | Unread) -> Prepared:
        """What was read, in all ways."""
        if isinstance(content, Unread):
            return Prepared([content] * len(self.ways))
        return _decode(content, self.ways, self.max_pixels)

    def read_and_decode(self, item: Work) -> Prepared:
        """Both in one go, where decoding runs ahead as well."""
        return self.decode(self.read(item))


class Supply(Generic[T]):
    """Portions of work, handed out in order to whoever asks next, and begun ahead of that."""

    def __init__(
        self, portions: Iterable[Sequence[Work]], begin: Callable[[Work], T], pool: Executor, n_ahead: int
    ) -> None:
        """Begin the first portions.

        Args:
            portions: images that are decoded together.
            begin: reads an image, and perhaps decodes it; runs in the pool.
            pool: of threads.
            n_ahead: portions that are begun before they are asked for.
        """
        self._todo = iter(portions)
        self._begin, self._pool, self._n_ahead = begin, pool, n_ahead
        self._begun: deque[list[tuple[int, Future[T]]]] = deque()
        self._lock = threading.Lock()
        self._fill()

    def take(self) -> list[tuple[int, Future[T]]] | None:
        """The next portion: rows, and what comes of each; None after the last one."""
        with self._lock:
            portion = self._begun.popleft() if self._begun else None
            self._fill()
        return portion

    @property
    def is_empty(self) -> bool:
        """Whether all has been taken."""
        return not self._begun

    def _fill(self) -> None:
        while len(self._begun) < self._n_ahead and (portion := next(self._todo, None)) is not None:
            self._begun.append([(item.row, self._pool.submit(self._begin, item)) for item in portion])


def _read(item: Work) -> Encoded | Unread:
    """The image's bytes, or why they cannot be used."""
    if item.spool is not None and (kept := item.spool.take(item.digest)) is not None:
        return kept
    try:
        image = read_image(item.path)
    except OSError as error:
        return Unread(f"cannot be read: {why(error)}; run again once it can")
    return image if image.content_id == item.digest else Unread(CHANGED)


def _decode(image: Encoded, ways: Sequence[Way], max_pixels: int | None) -> Prepared:
    """For each way: the pixels (H, W, C), or one line that says why there are none."""
    found: dict[Reading, Decoded | str] = {}
    for reading in dict.fromkeys(way.reading for way in ways):
        try:
            found[reading] = decode(image, max_pixels, reading)
        except ImageError as error:
            found[reading] = str(error)
    read = [found[way.reading] for way in ways]
    identity = b"" if all(way.view.is_plain for way in ways) else image.content_id
    contents: list[Content] = [
        each if isinstance(each, str) else _crop(each.image, way, identity)
        for each, way in zip(read, ways, strict=True)
    ]
    told = [each.outliers for each in found.values() if isinstance(each, Decoded) and each.outliers]
    return Prepared(contents, tuple(told))


def _crop(image: Image, way: Way, identity: bytes) -> NDArray[np.uint8] | str:
    try:
        if way.view.is_plain:
            return crop_image(image, way.preprocess)
        return view_image(image, way.preprocess, way.view, identity)
    except ImageError as error:
        return str(error)
