"""Backbones and columns of a cache by name: those that a study was asked for, or all that it can have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dvme.backbones.description.dense import is_dense
from dvme.backbones.loading.kept import kept_names
from dvme.data.samples import MASK, STANDARD
from dvme.data.tables import find_column
from dvme.errors import DataError, OptionError, parameter
from dvme.study.design.views import is_view
from dvme.text import CHOICES, first_few
from dvme_cache import EmbeddingCache


def kept_column(store: EmbeddingCache, name: str) -> str:
    """The column of a cache that is asked for; capitals and blanks are no difference.

    Raises:
        DataError: if there is none, naming those that there are.
    """
    others = [column for column in store.tables.columns if column not in {*STANDARD, MASK, "path"}]
    found = find_column(others, name, Path(store.location))
    if found is None:
        held = f"it has: {first_few(others, CHOICES)}" if others else "it has none beside label, split and group"
        step = f"; dvme cache label {store.location} MANIFEST adds columns with "
        raise DataError(f"{store.location} has no column {name!r}; {held}{step}" + parameter("keep", [name]))
    return found


def dense_backbones(store: EmbeddingCache, backbones: Sequence[str] | None) -> list[str]:
    """The backbones with dense features that were asked for, by default all of the cache.

    Raises:
        OptionError: if there are none, or one that is asked for gives one vector an image.
    """
    there = [name for name in store.backbones if is_dense(name)]
    names = list(dict.fromkeys(kept_names(store, backbones))) if backbones else there
    pooled = next((name for name in names if not is_dense(name)), None)
    step = "; dvme extract with " + parameter("dense", True) + " makes them"
    if pooled is not None:
        others = f": name {first_few(there, CHOICES)}" if there else ""
        raise OptionError(f"{pooled} gives one vector an image, and a segmentation takes dense features{others}" + step)
    for name in names:
        _check_whole(store, name)
    if not names:
        raise OptionError(f"{store.location} has no dense features, of which a segmentation is made" + step)
    return names


def _check_whole(store: EmbeddingCache, name: str) -> None:
    """Refuse maps of a part of the image: masks are of all of it.

    Raises:
        OptionError: if the image was cropped.
    """
    if name not in store.backbones:
        return
    seen = store.embeddings(name).fingerprint.fields
    if (seen.get("preprocess.mode"), seen.get("preprocess.resize")) != ("squash", seen.get("preprocess.crop")):
        raise OptionError(
            f"{name} sees a part of each image, and masks are of all of it; extract it without mode and resize in its "
            "name, or leave it out of " + parameter("backbones")
        )


def named_backbones(store: EmbeddingCache, backbones: Sequence[str] | None, *, may_be_dense: bool = False) -> list[str]:
    """The backbones that were asked for, by default all of the cache with one vector an image.

    Views of images are no backbones beside them, and dense features no embeddings.

    Args:
        store: the cache.
        backbones: names; None: all.
        may_be_dense: whether dense features may be asked for, and are what there is where there is nothing else.

    Raises:
        OptionError: if there are none, or one that is asked for has dense features that may not be.
    """
    every = [name for name in store.backbones if not is_view(name)]
    pooled = [name for name in every if not is_dense(name)]
    names = (
        list(dict.fromkeys(kept_names(store, backbones))) if backbones else pooled or (every if may_be_dense else [])
    )
    dense = next((name for name in names if is_dense(name)), None)
    if dense is not None and not may_be_dense:
        other = f"name others, such as {first_few(pooled)}" if pooled else "extract a backbone without dense"
        raise OptionError(f"{dense} has dense features, this takes one vector an image; {other}")
    if not names:
        held = f"has views of images or dense features only: {first_few(store.backbones)}"
        held = held if store.backbones else "has no embeddings yet"
        step = "; run dvme extract first"
        if any(map(is_dense, store.backbones)):
            step = "; masks take " + parameter("heads", ["segment-linear"]) + ", and labels take embeddings, which "
            step += "dvme extract makes without " + parameter("dense")
        raise OptionError(f"{store.location} {held}" + step)
    return names
