"""What lies at a place that a user named, so that swapped arguments are recognised before anything is read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from dvme.data.dicom.names import is_unclear
from dvme.data.images import SUFFIXES
from dvme.data.listing import is_dicom_file
from dvme.data.sources import container_suffixes, holds_images, source_of_folder
from dvme.data.tables import TABLE_SUFFIXES, is_packed_name, is_table_name
from dvme.environment import check_single_cache
from dvme.errors import DataError, OptionError, parameter
from dvme_cache import EmbeddingCache
from dvme_cache.files import is_url

Kind = Literal["", "cache", "run", "head", "heads", "images", "container", "manifest", "export", "file"]
"""`heads`: a folder with saved heads in it. "": nothing is there, or nothing that shows what it is."""
CALLED: dict[Kind, str] = {
    "cache": "a cache",
    "run": "a run of dvme sweep or probe",
    "head": "a saved head",
    "heads": "a folder of saved heads",
    "images": "a folder of images",
    "container": "a file of images",
    "manifest": "a table",
    "export": "a file of embeddings",
    "file": "a file",
}
EXPORTS = (".h5", ".hdf5", ".npz", ".npy")
OTHER_FILES = frozenset({
    *(".bin", ".ckpt", ".gz", ".html", ".json", ".pkl", ".pt", ".pth", ".py", ".safetensors", ".svg", ".tar"),
    *(".tgz", ".toml", ".txt", ".xlsx", ".xls", ".yaml", ".yml", ".zip"),
})  # fmt: skip
NOT_FOR_A_CACHE = SUFFIXES.keys() | {*TABLE_SUFFIXES, *EXPORTS, *container_suffixes()} | OTHER_FILES
ENTRIES_LOOKED_AT, FILES_LOOKED_INTO = 2000, 20


def kind_of(place: str | Path) -> Kind:
    """What a place holds, by its name and the names in it; a URL shows nothing."""
    path = Path(place)
    if is_url(place) or not os.path.exists(path):  # noqa: PTH110 - Path's own fails for what is no name
        return ""
    if path.is_file():
        return _kind_of_file(path)
    marks: dict[str, Kind] = {"zarr.json": "cache", "run.json": "run", "head.json": "head"}
    found = next((kind for name, kind in marks.items() if (path / name).is_file()), None)
    if found is not None:
        return found
    try:
        entries = list(islice(path.rglob("*"), ENTRIES_LOOKED_AT))
    except OSError:
        return ""
    if any(entry.name == "head.json" and entry.parent.parent == path for entry in entries):
        return "heads"
    return "images" if _are_images(entries) or source_of_folder(path) is not None else ""


def _are_images(entries: Sequence[Path]) -> bool:
    """Whether one is an image by its name, or one of the first whose names say nothing is a DICOM file."""
    unclear = islice((entry for entry in entries if is_unclear(entry.name) and entry.is_file()), FILES_LOOKED_INTO)
    return any(entry.suffix.lower() in SUFFIXES for entry in entries) or any(map(is_dicom_file, unclear))


def _kind_of_file(path: Path) -> Kind:
    if not is_packed_name(path) and holds_images(path):
        return "container"
    return "manifest" if is_table_name(path) else "export" if path.suffix.lower() in EXPORTS else "file"


def check_cache_first(place: str | Path, other: str | Path | None) -> None:
    """Refuse a cache that is named second where it comes first.

    Raises:
        OptionError: naming both.
    """
    kind = kind_of(place)
    if kind != "cache" and other is not None and kind_of(other) == "cache":
        what = CALLED[kind] if kind else "no cache"
        raise OptionError(f"{place} is {what} and {other} a cache: the cache comes first; {_swap(place, other)}")


def open_cache(place: str | Path) -> EmbeddingCache:
    """The cache at a place, for reading.

    Raises:
        OptionError: if something else of the user's lies there, with what takes it.
        CacheError: if nothing is there, or it cannot be opened.
        EnvironmentMismatchError: if dvme_cache is not the one that belongs to this dvme.
    """
    check_single_cache()
    kind = kind_of(place)
    if kind not in {"", "cache"}:
        raise OptionError(f"{place} is {CALLED[kind]}, not a cache; {_step(place, kind)}")
    return EmbeddingCache.open(place)


def check_new_cache(place: str | Path) -> None:
    """Refuse a place where no cache should be made.

    A cache that is there may be called anything.

    Raises:
        OptionError: if something else is there, or the name is a file's.
        EnvironmentMismatchError: if dvme_cache is not the one that belongs to this dvme.
    """
    check_single_cache()
    kind, path = kind_of(place), Path(place)
    if kind == "cache":
        return
    suffix = path.suffix.lower()
    if kind:
        raise OptionError(f"{place} is {CALLED[kind]}, not a cache; name a folder that is not there yet, NAME.zarr")
    if suffix in NOT_FOR_A_CACHE and not path.is_dir() and not is_url(place):
        is_format = suffix in {".h5", ".hdf5", ".npz", ".parquet", ".csv"}
        proper = path.with_suffix(".zarr")
        later = f", then dvme cache export {proper} {place} writes such a file" if is_format else ""
        raise OptionError(f"{place} is no name for a cache: a cache is a folder, NAME.zarr; pass {proper}{later}")


def check_images_and_cache(images: str | Path, cache: str | Path) -> None:
    """Refuse images and a cache that are named the wrong way round, and a cache where none should be made.

    Raises:
        OptionError: naming both.
    """
    if kind_of(images) == "cache":
        other = kind_of(cache)
        if other in {"images", "container", "manifest"}:
            raise OptionError(
                f"{images} is a cache and {cache} {CALLED[other]}: images come first; {_swap(images, cache)}"
            )
        raise OptionError(f"{images} is a cache, not images; name a folder or manifest of images first, then the cache")
    check_new_cache(cache)


def check_head(head: str | Path, other: str | Path) -> None:
    """Refuse a saved head and what it is applied to, where they are named the wrong way round.

    Raises:
        OptionError: naming both.
    """
    kind, second = kind_of(head), kind_of(other)
    if kind not in {"", "head", "heads"}:
        if second in {"head", "heads"}:
            raise OptionError(
                f"{head} is {CALLED[kind]} and {other} {CALLED[second]}: the head comes first; {_swap(head, other)}"
            )
        if kind == "run":
            raise DataError(f"{head} is a run, not a saved head; a run keeps its heads in {Path(head) / 'heads'}")
        raise DataError(f"{head} is {CALLED[kind]}, not a saved head; dvme probe --save makes heads")
    if second == "run":
        raise OptionError(f"{other} is {CALLED[second]}, not images or a cache; {_step(other, second)}")
    if kind and second in {"head", "heads"}:
        raise OptionError(f"{head} and {other} are both saved heads; name images or a cache second")


def check_run(run: str | Path) -> None:
    """Refuse something else of the user's where a run is wanted.

    Raises:
        OptionError: with what takes it.
    """
    kind = kind_of(run)
    if kind == "cache":
        raise OptionError(f"{run} is a cache; dvme sweep {run} --out RUN makes a run, dvme viz {run} draws maps")
    if kind not in {"", "run"}:
        raise OptionError(f"{run} is {CALLED[kind]}, not a run; dvme sweep CACHE --out RUN makes one")


def check_new_run(cache: str | Path, out: str | Path) -> None:
    """Refuse a run's folder that holds something else of the user's; `check_run` of a sweep looks at a run's content.

    Raises:
        OptionError: naming what it is.
    """
    kind = kind_of(out)
    if kind == "cache" and kind_of(cache) == "run":
        raise OptionError(
            f"{cache} is a run and {out} a cache: the cache comes first; pass {out} " + parameter("out", cache)
        )
    if kind not in {"", "run"}:
        raise OptionError(
            f"{out} is there already and is {CALLED[kind]}, not a run; name another folder with " + parameter("out")
        )


def _swap(first: object, second: object) -> str:
    return f"swap them: {second} {first}"


def _step(place: str | Path, kind: Kind) -> str:
    """What to do with something that is no cache."""
    if kind == "run":
        return f"its cache is {_cache_of(Path(place)) or 'named in its run.json'}"
    if kind in {"head", "heads"}:
        return "dvme predict and dvme explain take it; name the cache"
    if kind in {"images", "container", "manifest"}:
        return f"dvme extract {place} NAME.zarr makes one of images"
    if kind == "export":
        return f"dvme cache import {place} NAME.zarr makes one of it"
    return "a cache is a folder, NAME.zarr; name that"


def _cache_of(run: Path) -> str:
    try:
        return str(json.loads((run / "run.json").read_text(encoding="utf-8")).get("cache") or "")
    except (OSError, ValueError, AttributeError):
        return ""
