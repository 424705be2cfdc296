"""`dvme cache import`: an export, or embeddings that another tool made, into a cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dvme.arguments import public
from dvme.errors import DataError, OptionError, parameter
from dvme.places import check_new_cache, kind_of
from dvme.runtime import Progress, automatic
from dvme.upkeep.adopting import Request, adopt
from dvme.upkeep.formats import is_bundle
from dvme.upkeep.imported import ImportReport
from dvme.upkeep.restoring import restore
from dvme_cache import check_unlocked

__all__ = ["ImportReport", "import_embeddings"]


@public
def import_embeddings(  # noqa: PLR0913 - the command's options, one to one
    file: str | Path,
    cache: str | Path,
    *,
    backbone: str | None = None,
    features: str | None = None,
    ids: str | None = None,
    table: str | Path | None = None,
    dtype: str | None = None,
    images: str | Path | None = None,
    made_by: str | None = None,
    like: str | Path | None = None,
    class_order: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
    replace: bool = False,
    progress: Progress = automatic,
) -> ImportReport:
    """Import what `export` wrote, exactly as it was, or embeddings made elsewhere, under a name of yours.

    The file is read to its end and checked before the cache is touched. What the cache has already is reused, so
    an import that was interrupted goes on where it stopped.

    Args:
        file: an export of dvme, or .npz, .npy, .h5, .hdf5, .parquet, .csv or .tsv with features and ids.
        cache: the cache's location; created if it is not there.
        backbone: the name under which embeddings made elsewhere are kept.
        features: array or column of features; by default the only one that fits.
        ids: array or column of ids; by default the only one that fits.
        table: a table with the ids of an .npy's rows, in their order.
        dtype: stored type, `float32` or `float16`; by default as in the file, else float32.
        images: the folder in which the ids are paths; a new cache then knows its images by content.
        made_by: what made the embeddings, in words of yours: others of the same words may be added, and predicted.
        like: a cache whose embeddings of this backbone were made in the same way: theirs is the fingerprint.
        class_order: all labels, the lowest first; () takes the cache's order away, None keeps it, and lets that of an
            export into a cache without labels.
        notes: further provenance, kept as it is.
        replace: delete what the cache holds of these backbones first.
        progress: told (stage, rows done, rows in all).

    Raises:
        DataError, OptionError, FingerprintMismatchError, NotACacheError, CacheLockedError: each says in one line
            what is wrong and what to do; the cache is as it was.

    Example:
        >>> report = dvme.cache.import_embeddings("vectors.npz", "theirs.zarr", backbone="theirs")
        >>> report.n_rows
        6
    """
    path = Path(file)
    if kind_of(path) == "cache":
        raise OptionError(f"{path} is a cache: the file of embeddings comes first; swap them: {cache} {path}")
    check_new_cache(cache)
    check_unlocked(cache)
    if not path.is_file():
        raise DataError(f"{path} is not a file; name an export of dvme, or a file of features and ids")
    if is_bundle(path):
        given = [
            (parameter("backbone"), backbone),
            (parameter("features"), features),
            (parameter("ids"), ids),
            (parameter("table"), table),
            (parameter("dtype"), dtype),
            (parameter("images"), images),
            (parameter("made_by"), made_by),
            (parameter("like"), like),
        ]
        for name, value in given:
            if value is not None:
                raise OptionError(f"{path} is an export of dvme and comes back as it was, " + name + " is not possible")
        return restore(path, cache, class_order=class_order, notes=notes, replace=replace, progress=progress)
    if backbone is None:
        message = f"{path} is not an export of dvme; name what made its embeddings with "
        raise OptionError(message + parameter("backbone"))
    request = Request(
        backbone=backbone,
        features=features,
        ids=ids,
        table=None if table is None else Path(table),
        dtype=dtype,
        images=None if images is None else Path(images),
        class_order=class_order,
        made_by=made_by,
        like=None if like is None else os.fspath(like),
    )
    return adopt(path, cache, request, notes=notes, replace=replace, progress=progress)
