"""Embeddings that other tools made, into a cache: matched by name, checked to the last value before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.own.trained_on import PROVENANCE
from dvme.data.columns import check_names
from dvme.data.hashing import hash_file, hash_files
from dvme.data.spelling import check_spelling
from dvme.errors import DataError, OptionError, parameter
from dvme.runtime import Progress, Runtime
from dvme.text import counted, first_few
from dvme.upkeep.columns import canonical_splits, check_order, fill_columns
from dvme.upkeep.extractor import Lengths, check_alike, check_same, lengths_of, reference_of
from dvme.upkeep.formats import read_elsewhere
from dvme.upkeep.formats.bundle import DTYPES, BackboneHeader, EmbeddedRows, text_array
from dvme.upkeep.formats.elsewhere import Elsewhere, check_ids
from dvme.upkeep.imported import ImportReport, check_backbones, kept_remark, origin, store_embeddings
from dvme.upkeep.naming import NEW, check_distinct, real_path, rows_by_name
from dvme_cache import EmbeddingCache, Embeddings, RowState
from dvme_cache.identity import CONTENT_ID_BYTES

Hash = Callable[[Path], bytes | OSError]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to take from the file, and under which name to keep it, as `import_embeddings` has it."""

    backbone: str
    features: str | None
    ids: str | None
    table: Path | None
    dtype: str | None
    images: Path | None
    class_order: Sequence[str] | None
    made_by: str | None
    like: str | None

    def __post_init__(self) -> None:
        """Refuse what cannot be stored."""
        if self.dtype is not None and self.dtype not in DTYPES:
            raise OptionError(f"dtype {self.dtype!r} is not known; choose one of {', '.join(DTYPES)}")
        check_names([self.backbone], source=parameter("backbone"), what="backbones")
        if self.made_by is not None and self.like is not None:
            both = parameter("made_by") + " and " + parameter("like")
            raise OptionError(both + " both say what made the embeddings; pass one of them")
        if self.made_by is not None and not self.made_by.strip():
            step = "say what made the embeddings, such as 'UNI v1, 224 px'"
            raise OptionError(parameter("made_by") + " is empty; " + step)
        if self.images is not None and not self.images.is_dir():
            step = "name the one in which the ids are paths"
            raise DataError(parameter("images", self.images) + " is not a folder; " + step)


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

    In a cache that is there, every id must name an image, unless it has embeddings of the same words, to which more may
    be added. A new cache gets a row for every id.

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
    has_some = store is not None and request.backbone in store.backbones
    is_growing = has_some and not replace and _is_by_word(request)
    hint = "; more of one extractor come by " + parameter("like", cache) if has_some else ""
    hash_one: Hash = remembered(hash_file)  # each image is read once
    named = _rows(store, found.ids, source, request.images, hash_one, may_be_new=is_growing, hint=hint)
    if request.images is not None and (store is None or is_growing):
        columns["path"] = _paths(store, named, found.ids, request.images)
    check_order(store, columns, request.class_order)
    digests = _digests(store, named, found.ids, request.images, hash_one, source, progress)
    backbone, embedded, lengths = _checked(path, found, request, notes, progress)
    if store is not None and not replace:
        check_backbones(store, [backbone], path)
        if is_growing:
            check_alike(lengths, store.embeddings(backbone.name), str(path), store.location)
            check_same(store.embeddings(backbone.name), named, found.ids, embedded.blocks, source)
    with EmbeddingCache.writing(cache) as target:
        n_before = target.n_rows
        if store is not None:  # under the lock: another process may have pruned some meanwhile
            _rows(target, found.ids, source, request.images, hash_one, may_be_new=is_growing)
        rows = target.samples.add(digests, found.ids)
        n_kept = fill_columns(target, rows, columns, n_before, request.class_order)
        outcome = store_embeddings(target, backbone, embedded, rows, replace=replace, progress=progress)
        n_new = target.n_rows - n_before
    remarks = [*found.remarks, *odd, *([kept_remark(n_kept)] if n_kept else [])]
    if found.dtype != backbone.dtype:
        remarks.append(f"the features are {found.dtype} in the file and stored as {backbone.dtype}")
    if _is_by_word(request):
        remarks.append(_word(request))
    if is_growing and n_new and request.images is None:
        new = first_few(name for name, row in zip(found.ids, named.tolist(), strict=True) if row == NEW)
        remarks.append(f"{counted(n_new, 'image')} that the cache did not know, by name only, such as {new}")
    if store is None and request.images is None:
        remarks.append("the images of this cache are known by name only; no image file was looked at")
    return ImportReport(os.fspath(cache), str(path), False, len(rows), n_new, [outcome], remarks)


def _rows(
    store: EmbeddingCache | None,
    ids: Sequence[str],
    source: str,
    images: Path | None,
    hash_one: Hash,
    *,
    may_be_new: bool,
    hint: str = "",
) -> NDArray[np.int64]:
    """(N,) the row of each image; -1 for a new one, as all are where there is no cache."""
    if store is None:
        return np.full(len(ids), NEW, dtype=np.int64)
    return rows_by_name(
        store, ids, source=source, image_root=images, may_be_new=may_be_new, hint=hint, hash_one=hash_one
    )


def _is_by_word(request: Request) -> bool:
    """Whether the user says what made the embeddings."""
    return request.made_by is not None or request.like is not None


def _word(request: Request) -> str:
    """What is taken on trust."""
    if request.like is not None:
        theirs = f"the fingerprint is that of {request.backbone} in {request.like}"
        return f"{theirs}: that both are of one extractor is your word"
    return (
        f"that {request.made_by!r} made these is your word: dims, type and L2-normalisation are all that is checked "
        "when more come under the same words"
    )


def _paths(store: EmbeddingCache | None, named: NDArray[np.int64], ids: Sequence[str], images: Path) -> NDArray[Any]:
    """(N,) where images are: of new ones by their names, of the others as the cache knows it."""
    paths = text_array([real_path(name, images) for name in ids])
    return paths if store is None else np.where(named == NEW, paths, store.column("path")[named]).astype(object)


def _digests(
    store: EmbeddingCache | None,
    named: NDArray[np.int64],
    ids: Sequence[str],
    images: Path | None,
    hash_one: Hash,
    source: str,
    progress: Progress,
) -> list[bytes]:
    """What identifies each image: its row in a cache that is there, else its bytes, else its name."""
    known = [] if store is None else store.samples.content_ids
    new = [name for name, row in zip(ids, named.tolist(), strict=True) if row == NEW]
    made = [imported_id(name) for name in new] if images is None else _of_files(new, images, hash_one, progress)
    of_new = iter(made)
    digests = [next(of_new) if row == NEW else known[row] for row in named.tolist()]
    check_distinct(digests, ids, source=source)
    return digests


def _of_files(names: Sequence[str], images: Path, hash_one: Hash, progress: Progress) -> list[bytes]:
    """(N,) content ids; every file must be there."""
    paths = [Path(real_path(name, images)) for name in names]
    found = hash_files(paths, Runtime().n_workers, partial(progress, "hash"), hash_one)
    missing = [images / name for name, each in zip(names, found, strict=True) if isinstance(each, OSError)]
    if missing:
        count = counted(len(missing), "image")
        step = "mend the ids or " + parameter("images")
        raise DataError(f"{count} cannot be read below {images}: {first_few(missing)}; " + step)
    return [each for each in found if isinstance(each, bytes)]


def _checked(
    path: Path, found: Elsewhere, request: Request, notes: Mapping[str, str] | None, progress: Progress
) -> tuple[BackboneHeader, EmbeddedRows, Lengths]:
    """Read the features to their end; what they are, how they are going to be stored, and how long they are."""
    reference = None if request.like is None else reference_of(request.like, request.backbone)
    dtype = _dtype(path, found, request, reference)
    content, lengths = _check_features(path, found, dtype, lambda done: progress("check", done, len(found.ids)))
    fingerprint = {"imported": request.backbone, "content": content, "dim": found.dim, "dtype": dtype}
    word: dict[str, str] = {}
    if request.made_by is not None:  # what stands for an unknown extractor: words, and what can be measured
        word = {"made_by": request.made_by}
        fingerprint = word | {"dim": found.dim, "dtype": dtype, "l2_normalised": lengths.is_unit}
    elif reference is not None:
        check_alike(lengths, reference, str(path), str(request.like))
        fingerprint, word = dict(reference.fingerprint.fields), {"like": str(request.like)}
    provenance = {"imported": origin(path, notes, dtype=found.dtype, **word)}
    if reference is not None and PROVENANCE in reference.provenance:  # the same weights, which know the same images
        provenance[PROVENANCE] = reference.provenance[PROVENANCE]
    backbone = BackboneHeader(request.backbone, found.dim, dtype, fingerprint, provenance)
    embedded = EmbeddedRows(
        states=np.full(len(found.ids), RowState.DONE, dtype=np.uint8),
        reasons=text_array([""] * len(found.ids)),
        blocks=lambda: (_converted(block, dtype) for block in found.blocks()),
    )
    return backbone, embedded, lengths


def _dtype(path: Path, found: Elsewhere, request: Request, reference: Embeddings | None) -> str:
    """How the features are stored: as is asked, as those are that they are like, else as in the file.

    Raises:
        OptionError, DataError: if those that they are like have other dims, or are stored otherwise.
    """
    if reference is None:
        return request.dtype or (found.dtype if found.dtype in DTYPES else DTYPES[0])
    theirs = f"{reference.name} of {request.like}"
    if reference.dim != found.dim:
        raise DataError(f"{path} has {found.dim} dims, {theirs} has {reference.dim}: they are not of one extractor")
    if request.dtype not in (None, reference.dtype):
        message = f"{theirs} is stored as {reference.dtype}, not {request.dtype}; leave "
        raise OptionError(message + parameter("dtype") + " out")
    return reference.dtype


def _check_features(path: Path, found: Elsewhere, dtype: str, tell: Callable[[int], None]) -> tuple[str, Lengths]:
    """32 hexadecimal digits of the ids and the features as they are stored, and how long those are.

    Raises:
        DataError: if there are more or fewer features than ids, or values that cannot be stored.
    """
    content = hashlib.blake2b(json.dumps(found.ids).encode(), digest_size=CONTENT_ID_BYTES)
    not_finite: list[int] = []
    too_large: list[int] = []
    lengths: list[NDArray[np.float64]] = []
    done = 0
    for block in found.blocks():
        if block.shape[1:] != (found.dim,):
            raise DataError(f"{path} has features of {found.dim} dims and, from row {done + 1} on, of {block.shape[1]}")
        stored = _converted(block, dtype)
        content.update(stored.data)
        lengths.append(lengths_of(stored))
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
        step = "pass " + parameter("dtype", DTYPES[0]) if dtype != DTYPES[0] else "scale them down"
        raise DataError(
            f"{path} has {counted(len(too_large), 'row')} of features that overflow {dtype}: {names}; " + step
        )
    return content.hexdigest(), Lengths.of(np.concatenate(lengths))


def _converted(block: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(block, dtype=np.dtype(dtype).newbyteorder("<"))
