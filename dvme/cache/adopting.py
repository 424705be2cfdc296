"""Embeddings that other tools made, into a cache: matched by name, checked to the last value before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.cache.columns import canonical_splits, check_names, check_order, fill_columns
from dvme.cache.imported import ImportReport, check_backbones, kept_remark, origin, store_embeddings
from dvme.cache.naming import check_distinct, rows_by_name
from dvme.data.listing import file_bytes
from dvme.data.spelling import check_spelling
from dvme.errors import DataError, OptionError
from dvme.exchange import BackboneHeader, Elsewhere, EmbeddedRows, read_elsewhere
from dvme.exchange.bundle import DTYPES, text_array
from dvme.exchange.elsewhere import check_ids
from dvme.runtime import Progress, Runtime
from dvme.wording import counted, first_few
from dvme_cache import EmbeddingCache, RowState, content_id
from dvme_cache.identity import CONTENT_ID_BYTES

READ_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to take from the file, and under which name to keep it."""

    backbone: str
    features: str | None = None
    """Array or column of features."""
    ids: str | None = None
    """Array or column of ids."""
    table: Path | None = None
    """A table of the ids."""
    dtype: str | None = None
    """Stored type; as in the file by default, float32 where the file has neither float32 nor float16."""
    images: Path | None = None
    """The folder in which the ids are paths."""
    class_order: Sequence[str] | None = None
    """All labels, the lowest first; () takes the cache's order away, None keeps it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be stored."""
        if self.dtype is not None and self.dtype not in DTYPES:
            raise OptionError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_names([self.backbone], source="--backbone", what="backbones")
        if self.images is not None and not self.images.is_dir():
            raise DataError(f"--images {self.images} is not a folder; name the one in which the ids are paths")


def imported_id(name: str) -> bytes:
    """A stand-in identity for an image of which nothing but its name is known."""
    return hashlib.blake2b(name.encode(), digest_size=CONTENT_ID_BYTES, person=b"dvme-imported").digest()


def adopt(
    path: Path,
    cache: str | Path,
    request: Request,
    *,
    notes: Mapping[str, str] | None,
    replace: bool,
    progress: Progress,
) -> ImportReport:
    """Store embeddings made elsewhere as those of one backbone.

    In a cache that is there, every id must name an image; a new cache gets a row for every id.

    Raises:
        DataError, FingerprintMismatchError: before the cache is touched.
    """
    found = read_elsewhere(path, features=request.features, ids=request.ids, table=request.table)
    source = str(path if request.table is None else request.table)
    check_distinct(found.ids, found.ids, source=source)
    columns = dict(found.columns)
    if "split" in columns:
        columns["split"] = text_array(canonical_splits(columns["split"].tolist(), source=source))
    odd = check_spelling(columns, source)
    store = EmbeddingCache.open(cache) if EmbeddingCache.exists(cache) else None
    if store is None and request.images is not None:
        columns["path"] = text_array([os.path.realpath(request.images / name) for name in found.ids])
    check_order(store, columns, request.class_order)
    digests = _digests(store, found.ids, request.images, source, progress)
    backbone, embedded = _checked(path, found, request, notes, progress)
    if store is not None and not replace:
        check_backbones(store, [backbone], path)
    with EmbeddingCache.writing(cache) as target:
        n_before = target.n_rows
        if store is not None:  # under the lock: another process may have pruned some meanwhile
            rows_by_name(target, found.ids, source=source, image_root=request.images)
        rows = target.samples.add(digests, found.ids)
        n_kept = fill_columns(target, rows, columns, n_before, request.class_order)
        outcome = store_embeddings(target, backbone, embedded, rows, replace=replace, progress=progress)
        n_new = target.n_rows - n_before
    remarks = [*found.remarks, *odd, *([kept_remark(n_kept)] if n_kept else [])]
    if found.dtype != backbone.dtype:
        remarks.append(f"the features are {found.dtype} in the file and stored as {backbone.dtype}")
    if store is None and request.images is None:
        remarks.append("the images of this cache are known by name only; no image file was looked at")
    return ImportReport(os.fspath(cache), str(path), False, len(rows), n_new, [outcome], remarks)


def _digests(
    store: EmbeddingCache | None, ids: Sequence[str], images: Path | None, source: str, progress: Progress
) -> list[bytes]:
    """What identifies each image: its row in a cache that is there, else its bytes, else its name."""
    if store is not None:
        known = store.samples.content_ids
        return [known[row] for row in rows_by_name(store, ids, source=source, image_root=images).tolist()]
    if images is None:
        return [imported_id(name) for name in ids]
    digests = _hash_files([images / name for name in ids], images, progress)
    check_distinct(digests, ids, source=source)
    return digests


def _hash_files(paths: Sequence[Path], images: Path, progress: Progress) -> list[bytes]:
    """(N,) content ids; every file must be there."""

    def digest(path: Path) -> bytes | None:
        try:
            return content_id(file_bytes(path))
        except (OSError, ValueError):
            return None

    found: list[bytes | None] = []
    with ThreadPoolExecutor(Runtime().n_workers) as pool:
        for start in range(0, len(paths), READ_AT_ONCE):
            found += pool.map(digest, paths[start : start + READ_AT_ONCE])
            progress("hash", len(found), len(paths))
    missing = [path for path, identity in zip(paths, found, strict=True) if identity is None]
    if missing:
        count = counted(len(missing), "image")
        raise DataError(f"{count} cannot be read below {images}: {first_few(missing)}; mend the ids or --images")
    return [identity for identity in found if identity is not None]


def _checked(
    path: Path, found: Elsewhere, request: Request, notes: Mapping[str, str] | None, progress: Progress
) -> tuple[BackboneHeader, EmbeddedRows]:
    """Read the features to their end; what they are, and how they are going to be stored."""
    dtype = request.dtype or (found.dtype if found.dtype in DTYPES else DTYPES[0])
    content = _check_features(path, found, dtype, lambda done: progress("check", done, len(found.ids)))
    fingerprint = {"imported": request.backbone, "content": content, "dim": found.dim, "dtype": dtype}
    provenance = {"imported": origin(path, notes, dtype=found.dtype)}
    backbone = BackboneHeader(request.backbone, found.dim, dtype, fingerprint, provenance)
    embedded = EmbeddedRows(
        states=np.full(len(found.ids), RowState.DONE, dtype=np.uint8),
        reasons=text_array([""] * len(found.ids)),
        blocks=lambda: (_converted(block, dtype) for block in found.blocks()),
    )
    return backbone, embedded


def _check_features(path: Path, found: Elsewhere, dtype: str, tell: Callable[[int], None]) -> str:
    """32 hexadecimal digits of the ids and the features as they are stored.

    Raises:
        DataError: if there are more or fewer features than ids, or values that cannot be stored.
    """
    content = hashlib.blake2b(json.dumps(found.ids).encode(), digest_size=CONTENT_ID_BYTES)
    not_finite: list[int] = []
    too_large: list[int] = []
    done = 0
    for block in found.blocks():
        if block.shape[1:] != (found.dim,):
            raise DataError(f"{path} has features of {found.dim} dims and, from row {done + 1} on, of {block.shape[1]}")
        stored = _converted(block, dtype)
        content.update(stored.data)
        is_finite = np.isfinite(block).all(axis=1)
        not_finite += (done + np.flatnonzero(~is_finite)).tolist()
        too_large += (done + np.flatnonzero(is_finite & ~np.isfinite(stored).all(axis=1))).tolist()
        done += len(block)
        tell(done)
    check_ids(found.ids, done, path)
    if not_finite:
        names = first_few(found.ids[row] for row in not_finite)
        message = f"{path} has {counted(len(not_finite), 'row')} of features that are NaN or infinite: {names}"
        raise DataError(f"{message}; leave these images out, or make their embeddings again")
    if too_large:
        names = first_few(found.ids[row] for row in too_large)
        step = "pass --dtype float32" if dtype != DTYPES[0] else "scale them down"
        raise DataError(
            f"{path} has {counted(len(too_large), 'row')} of features that overflow {dtype}: {names}; {step}"
        )
    return content.hexdigest()


def _converted(block: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(block, dtype=np.dtype(dtype).newbyteorder("<"))
