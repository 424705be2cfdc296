"""What is refused before a run changes a cache: orders of classes, names and folders that would cost something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data import Samples
from dvme.data.findings import are_findings, tells_findings
from dvme.data.hashing import Identified
from dvme.data.masks.cell import check_kinds
from dvme.data.order import checked_order
from dvme.data.samples import MASK, STANDARD, unlisted_line
from dvme.data.spelling import check_spelling
from dvme.errors import DataError, parameter
from dvme_cache import EmbeddingCache


@dataclass(frozen=True)
class Held:
    """What a cache knows of its images before a run, read once."""

    location: str
    """Of the cache."""
    contents: list[bytes]
    """N content ids."""
    columns: Mapping[str, NDArray[Any]]
    """Path, label, split and group, and what else was asked for, to (N,) values."""
    class_order: tuple[str, ...]
    """The user's, () without one."""

    @classmethod
    def by(cls, cache: EmbeddingCache, further: Iterable[str] = ()) -> Self:
        """By a cache now, which may lack the further columns."""
        columns = cache.columns(("path", *STANDARD, *further))
        return cls(cache.location, cache.samples.content_ids, columns, cache.class_order)


def order_of(cache: str | Path, samples: Samples, class_order: Sequence[str] | None) -> tuple[str, ...]:
    """The order of classes of a run: the one that is given, else the cache's; checked before any file is read.

    Of findings, those that these images are asked about, else those of the cache.

    Raises:
        OptionError, DataError: if it is none, or lacks a label of these images.
    """
    if class_order is not None:
        return checked_order(class_order, samples.labels)
    if samples.findings or not EmbeddingCache.exists(cache):
        return samples.findings
    store = EmbeddingCache.open(cache)
    if not store.class_order:
        return ()
    kinds = [tells_findings(labels) for labels in (samples.labels, store.column("label").tolist())]
    if any(kinds):
        return store.class_order if all(kinds) else ()
    return checked_order(store.class_order, samples.labels, source=f"the class order of {cache}")


def check_order(held: Held, found: Identified, class_order: Sequence[str] | None) -> None:
    """Refuse an order that lacks a label which the cache would hold: of these files, or of a row that keeps its own.

    None stands for the cache's order; of findings it gets those that it lacks.

    Raises:
        DataError: naming the labels; or if some would be findings, and others classes.
    """
    labels = [*found.samples.labels, *_kept(held, found, ["label"])["label"]]
    if class_order is not None:
        checked_order(class_order, labels)
    elif not are_findings(labels) and not tells_findings(held.columns["label"].tolist()):
        checked_order(held.class_order, labels, source=f"the class order of {held.location}")


def check_listed(samples: Samples) -> None:
    """Refuse to delete embeddings of images that could not be listed, and so would not be made anew.

    Raises:
        DataError: naming the folders.
    """
    if samples.unlisted:
        step = parameter("replace", True) + " would lose their embeddings, nothing was done"
        raise DataError(f"{unlisted_line(samples.unlisted)}; " + step)


def check_names(held: Held, found: Identified) -> list[str]:
    """Refuse labels and groups that are a number which the rest of the cache writes in another way.

    Returns:
        What is odd about names beside those in the cache, a line each.

    Raises:
        DataError: naming both spellings.
    """
    samples = found.samples
    told = {"label": samples.labels, "group": samples.groups}
    told = {name: values for name, values in told.items() if name in samples.given}
    lines = check_spelling(told, f"these images and {held.location}", _kept(held, found, [*told]))
    return [line for line in lines if line not in samples.remarks]


def check_masks(held: Held, found: Identified) -> None:
    """Refuse masks of other classes than those that stay in the cache.

    Raises:
        DataError: naming both.
    """
    told = found.samples.kept.get(MASK)
    if told is not None:
        check_kinds([*told, *_kept(held, found, [MASK])[MASK]], f"these images and {held.location}")


def _kept(held: Held, found: Identified, names: Sequence[str]) -> dict[str, list[str]]:
    """The values of some columns that the cache keeps when these files are indexed."""
    listed, replaced = set(found.digests), set(found.samples.real_paths)
    is_listed = np.array([content in listed for content in held.contents], dtype=bool)
    stays = ~is_listed & np.array([path not in replaced for path in held.columns["path"].tolist()], dtype=bool)
    told = found.samples.given | found.samples.kept.keys()
    return {name: held.columns[name][stays if name in told else stays | is_listed].tolist() for name in names}
