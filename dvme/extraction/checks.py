"""What is refused before a run changes a cache: orders of classes, names and folders that would cost something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dvme.data import Samples
from dvme.data.order import CLASS_ORDER, checked_order
from dvme.data.samples import unlisted_line
from dvme.data.spelling import check_spelling
from dvme.errors import DataError, parameter
from dvme_cache import EmbeddingCache


def order_of(cache: str | Path, samples: Samples, class_order: Sequence[str] | None) -> tuple[str, ...]:
    """The order of classes of a run: the one that is given, else the cache's; checked before any file is read.

    Raises:
        OptionError, DataError: if it is none, or lacks a label of these images.
    """
    if class_order is not None:
        return checked_order(class_order, samples.labels)
    kept = EmbeddingCache.open(cache).class_order if EmbeddingCache.exists(cache) else ()
    return checked_order(kept, samples.labels, source=f"the class order of {cache}")


def check_order(
    cache: EmbeddingCache, samples: Samples, digests: Sequence[bytes], class_order: Sequence[str] | None
) -> None:
    """Refuse an order that lacks a label which the cache would hold: of these files, or of a row that keeps its own.

    Args:
        cache: its tables are read.
        samples: the files.
        digests: their content ids.
        class_order: the new order; None: the cache's.

    Raises:
        DataError: naming the labels.
    """
    order = cache.class_order if class_order is None else class_order
    if not order:
        return
    stays = _keeps(cache, samples, digests, "label")
    source = f"the class order of {cache.location}" if class_order is None else CLASS_ORDER
    checked_order(order, [*samples.labels, *stays], source=source)


def check_listed(samples: Samples) -> None:
    """Refuse to delete embeddings of images that could not be listed, and so would not be made anew.

    Raises:
        DataError: naming the folders.
    """
    if samples.unlisted:
        step = parameter("replace", True) + " would lose their embeddings, nothing was done"
        raise DataError(f"{unlisted_line(samples.unlisted)}; " + step)


def check_names(cache: EmbeddingCache, samples: Samples, digests: Sequence[bytes]) -> list[str]:
    """Refuse labels and groups that are a number which the rest of the cache writes in another way.

    Args:
        cache: its tables are read.
        samples: the files.
        digests: their content ids.

    Returns:
        What is odd about names beside those in the cache, a line each.

    Raises:
        DataError: naming both spellings.
    """
    told = {"label": samples.labels, "group": samples.groups}
    told = {name: values for name, values in told.items() if name in samples.given}
    known = {name: _keeps(cache, samples, digests, name) for name in told}
    lines = check_spelling(told, f"these images and {cache.location}", known)
    return [line for line in lines if line not in samples.remarks]


def _keeps(cache: EmbeddingCache, samples: Samples, digests: Sequence[bytes], name: str) -> list[str]:
    """The values of a column that the cache keeps when these files are indexed."""
    listed, replaced = set(digests), set(samples.real_paths)
    is_told = name in samples.given
    kept = [
        not (is_told if content in listed else path in replaced)
        for content, path in zip(cache.samples.content_ids, cache.column("path").tolist(), strict=True)
    ]
    values: list[str] = cache.column(name)[np.array(kept, dtype=bool)].tolist()
    return values
