"""Reading, decoding and cropping for the model, in threads and in bounded memory.

Files are always read ahead. Decoding runs ahead as well where the model runs on another device; on the
CPU it takes turns with the model, whose own threads wait for each other and so lose more than one core
when decoding takes one away (measured in ARCHITECTURE.md, Speed).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.preprocess import crop_image
from dvme.backbones.spec import Preprocess
from dvme.data import decode_image
from dvme.errors import ImageError
from dvme_cache import content_id

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Work:
    """One image to embed."""

    row: int
    """Its cache row."""
    path: Path
    """Where it lies."""
    digest: bytes
    """The content it must still have."""


@dataclass(frozen=True)
class Unread:
    """A file that could not be read just now. Its row stays pending, for the next run may fare better."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Consecutive images, decoded: pixels of those that could be, a reason for the others."""

    rows: list[int]
    """(B,) all rows, in the order of the work."""
    pixels: NDArray[np.uint8]
    """(B - failed, H, W, 3) of the rows that are not in `reasons`, in their order."""
    reasons: dict[int, str | Unread]
    """Why a row has no pixels: a reason that will hold, or one of the moment."""


Content = NDArray[np.uint8] | str | Unread
"""(H, W, 3) pixels, or why there are none."""


def decoded_batches(
    work: Iterable[Sequence[Work]], preprocess: Preprocess, *, workers: int, is_decoding_ahead: bool
) -> Generator[Batch]:
    """Yield the images of each batch of work, in order; never more than a few batches are held.

    Args:
        work: what to decode, batch by batch.
        preprocess: how to crop.
        workers: threads for reading, and as many for decoding (Pillow releases the interpreter's lock).
        is_decoding_ahead: whether to decode while the caller is busy with the batch before.
    """
    todo = iter(work)
    readers = ThreadPoolExecutor(workers, thread_name_prefix="read")
    decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[list[tuple[Work, Future[bytes | Content]]]] = deque()

    def decode(content: bytes | Content) -> Content:
        return _decode(content, preprocess) if isinstance(content, bytes) else content

    def prepare(item: Work) -> bytes | Content:
        return decode(_read(item)) if is_decoding_ahead else _read(item)

    try:
        while True:
            for batch in islice(todo, 1 + BATCHES_AHEAD - len(pending)):
                pending.append([(item, readers.submit(prepare, item)) for item in batch])
            if not pending:
                return
            ready = pending.popleft()
            decoded = decoders.map(decode, [future.result() for _, future in ready])
            yield _batch([item.row for item, _ in ready], list(decoded), preprocess.crop)
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        decoders.shutdown(wait=True, cancel_futures=True)


def _batch(rows: list[int], results: list[Content], crop: int) -> Batch:
    images = [result for result in results if isinstance(result, np.ndarray)]
    return Batch(
        rows=rows,
        pixels=np.stack(images) if images else np.empty((0, crop, crop, 3), np.uint8),
        reasons={row: result for row, result in zip(rows, results, strict=True) if not isinstance(result, np.ndarray)},
    )


def _read(item: Work) -> bytes | Unread:
    """The file's bytes, or why they cannot be used."""
    try:
        data = item.path.read_bytes()
    except OSError as error:
        return Unread(f"cannot be read: {error.strerror or error}; run again once it can")
    return data if content_id(data) == item.digest else Unread("changed after it was listed; run again")


def _decode(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8] | str:
    """The cropped pixels (H, W, 3), or one line that says why there are none."""
    try:
        return crop_image(decode_image(data), preprocess)
    except ImageError as error:
        return str(error)
