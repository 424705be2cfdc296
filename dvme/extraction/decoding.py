"""Reading, decoding and cropping for the model, in threads and in bounded memory.

Files are always read ahead. Decoding runs ahead as well where the model runs on another device; on the
CPU it takes turns with the model, whose own threads wait for each other and so lose more than one core
when decoding takes one away (measured in ARCHITECTURE.md, Speed).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode
from dvme.data.decoded import Decoded, Told
from dvme.data.encoded import Encoded
from dvme.data.listing import why
from dvme.data.reading import Reading
from dvme.data.sources import read_image
from dvme.errors import ImageError
from dvme.runtime import Runtime

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Work:
    """One image to embed."""

    row: int
    """Its cache row."""
    path: Path
    """Its address."""
    digest: bytes
    """The content it must still have."""


@dataclass(frozen=True)
class Way:
    """From an image to a backbone's pixels."""

    reading: Reading
    preprocess: Preprocess

    @classmethod
    def of(cls, spec: BackboneSpec) -> Way:
        """A backbone's."""
        return cls(spec.reading, spec.preprocess)


@dataclass(frozen=True)
class Unread:
    """A file that could not be read just now. Its row stays pending, for the next run may fare better."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Consecutive images, decoded and cropped in one way: pixels of those that could be, a reason for the others."""

    rows: list[int]
    """(B,) all rows, in the order of the work."""
    pixels: NDArray[np.uint8]
    """(P, H, W, C) of the rows that have pixels, in their order."""
    has_pixels: NDArray[np.bool_]
    """(B,) which those are."""
    failed: dict[int, str]
    """Row to why it has none, for a reason that will hold."""
    unread: dict[int, str]
    """Row to why its file cannot be read just now."""
    told: dict[int, tuple[Told, ...]]
    """Of the rows whose range of grey there is something to say about, by any way of reading them."""


Content = NDArray[np.uint8] | str | Unread
"""(H, W, C) pixels, or why there are none."""


@dataclass(frozen=True)
class _Decoded:
    contents: list[Content]
    """One for each way."""
    told: tuple[Told, ...] = ()


def decoded_batches(
    work: Iterable[Sequence[Work]],
    ways: Collection[Way],
    runtime: Runtime,
    *,
    is_decoding_ahead: bool,
) -> Generator[dict[Way, Batch]]:
    """Yield the images of each batch of work, in order; never more than a few batches are held.

    An image is read once, and decoded once for each reading, however many ways there are to crop it.

    Args:
        work: what to decode, batch by batch.
        ways: how to read and crop.
        runtime: its workers are threads for reading, and as many for decoding (Pillow releases the interpreter's lock).
        is_decoding_ahead: whether to decode while the caller is busy with the batch before.
    """
    todo = iter(work)
    readers = ThreadPoolExecutor(runtime.n_workers, thread_name_prefix="read")
    decoders = ThreadPoolExecutor(runtime.n_workers, thread_name_prefix="decode")
    each_way = list(dict.fromkeys(ways))
    pending: deque[list[tuple[Work, Future[Encoded | Unread | _Decoded]]]] = deque()

    def decoded_of(content: Encoded | Unread | _Decoded) -> _Decoded:
        if isinstance(content, _Decoded):
            return content
        if isinstance(content, Unread):
            return _Decoded([content] * len(each_way))
        return _decode(content, each_way, runtime.max_pixels)

    def prepare(item: Work) -> Encoded | Unread | _Decoded:
        return decoded_of(_read(item)) if is_decoding_ahead else _read(item)

    try:
        while True:
            for batch in islice(todo, 1 + BATCHES_AHEAD - len(pending)):
                pending.append([(item, readers.submit(prepare, item)) for item in batch])
            if not pending:
                return
            ready = pending.popleft()
            decoded = list(decoders.map(decoded_of, [future.result() for _, future in ready]))
            rows = [item.row for item, _ in ready]
            told = {row: each.told for row, each in zip(rows, decoded, strict=True) if each.told}
            yield {
                way: _batch(rows, [each.contents[i] for each in decoded], told, way.preprocess)
                for i, way in enumerate(each_way)
            }
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        decoders.shutdown(wait=True, cancel_futures=True)


def _batch(rows: list[int], results: list[Content], told: dict[int, tuple[Told, ...]], crop: Preprocess) -> Batch:
    images = [result for result in results if isinstance(result, np.ndarray)]
    named = list(zip(rows, results, strict=True))
    return Batch(
        rows=rows,
        pixels=np.stack(images) if images else np.empty((0, crop.crop, crop.crop, crop.channels), np.uint8),
        has_pixels=np.array([isinstance(result, np.ndarray) for result in results], dtype=bool),
        failed={row: result for row, result in named if isinstance(result, str)},
        unread={row: result.reason for row, result in named if isinstance(result, Unread)},
        told=told,
    )


def _read(item: Work) -> Encoded | Unread:
    """The image's bytes, or why they cannot be used."""
    try:
        image = read_image(item.path)
    except OSError as error:
        return Unread(f"cannot be read: {why(error)}; run again once it can")
    return image if image.content_id == item.digest else Unread("changed after it was listed; run again")


def _decode(image: Encoded, ways: Sequence[Way], max_pixels: int | None) -> _Decoded:
    """For each way: the pixels (H, W, C), or one line that says why there are none."""
    found: dict[Reading, Decoded | str] = {}
    for reading in dict.fromkeys(way.reading for way in ways):
        try:
            found[reading] = decode(image, max_pixels, reading)
        except ImageError as error:
            found[reading] = str(error)
    read = [found[way.reading] for way in ways]
    contents: list[Content] = [
        each if isinstance(each, str) else _crop(each.image, way.preprocess)
        for each, way in zip(read, ways, strict=True)
    ]
    told = [each.outliers for each in found.values() if isinstance(each, Decoded) and each.outliers]
    return _Decoded(contents, tuple(told))


def _crop(image: Image, preprocess: Preprocess) -> NDArray[np.uint8] | str:
    try:
        return crop_image(image, preprocess)
    except ImageError as error:
        return str(error)
