"""Reading, decoding and cropping ahead of the model, in threads and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

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
class Batch:
    """Consecutive images, decoded: pixels of those that could be, a reason for the others."""

    rows: list[int]
    """(B,) all rows, in the order of the work."""
    pixels: NDArray[np.uint8]
    """(B - failed, H, W, 3) of the rows that are not in `reasons`, in their order."""
    reasons: dict[int, str]
    """Why a row could not be decoded."""


def decoded_batches(work: Iterable[Work], preprocess: Preprocess, batch_size: int, workers: int) -> Generator[Batch]:
    """Decode in threads (Pillow releases the interpreter's lock), never more than a few batches ahead."""
    todo = iter(work)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[tuple[Work, Future[NDArray[np.uint8] | str]]] = deque()
    try:
        while True:
            room = batch_size * (1 + BATCHES_AHEAD) - len(pending)
            pending.extend((item, pool.submit(_decode, item, preprocess)) for item in islice(todo, room))
            if not pending:
                return
            ready = [pending.popleft() for _ in range(min(batch_size, len(pending)))]
            yield _batch([(item.row, future.result()) for item, future in ready], preprocess.crop)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(results: list[tuple[int, NDArray[np.uint8] | str]], crop: int) -> Batch:
    images: list[NDArray[Any]] = [result for _, result in results if not isinstance(result, str)]
    return Batch(
        rows=[row for row, _ in results],
        pixels=np.stack(images) if images else np.empty((0, crop, crop, 3), np.uint8),
        reasons={row: result for row, result in results if isinstance(result, str)},
    )


def _decode(item: Work, preprocess: Preprocess) -> NDArray[np.uint8] | str:
    """The cropped pixels, or one line that says why there are none."""
    try:
        data = item.path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if content_id(data) != item.digest:
        return "its content changed after it was listed; extract again"
    try:
        return crop_image(decode_image(data), preprocess)
    except ImageError as error:
        return str(error)
