"""Is there a cache, is it one of ours, and of a version that this code reads?"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from dvme_cache.errors import CacheNotFoundError, CorruptCacheError, NotACacheError
from dvme_cache.files import LocalFiles
from dvme_cache.layout import FORMAT, FORMAT_VERSION, METADATA, SEAL, copy_of
from dvme_cache.protocol import Files
from dvme_cache.sealing import sound_file


def is_anything_there(files: Files) -> bool:
    """Whether the place holds a cache or something else, rather than nothing or a creation that was interrupted."""
    if isinstance(files, LocalFiles):
        return files.root.exists()  # created aside, so never half
    try:
        data = sound_file(files, METADATA)
    except CorruptCacheError:
        return True
    if data is None:
        return bool(files.names(""))
    return bool(json.loads(data)["attributes"].keys() - {SEAL})


def check_is_cache(files: Files) -> None:
    """Refuse a place that does not hold a cache of this format.

    Raises:
        CacheNotFoundError: nothing is there.
        NotACacheError: something else is there, or another format version.
    """
    with suppress(CorruptCacheError, NotACacheError):
        if _is_ours(_root_attributes(files)):  # one request, and nearly always the only one
            return
    if not is_anything_there(files):
        raise CacheNotFoundError(f"there is no cache at {files}; run dvme extract IMAGES {files} first")
    attributes = _root_attributes(files)
    if attributes.get("format") != FORMAT:
        raise NotACacheError(f"{files} is a Zarr group but not a dvme cache; name another path")
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        is_newer = isinstance(version, int) and version > FORMAT_VERSION
        step = "update dvme" if is_newer else "extract into a new cache"
        raise NotACacheError(f"{files} has cache format {version}, this dvme reads format {FORMAT_VERSION}; {step}")


def _root_attributes(files: Files) -> dict[str, Any]:
    """The root's attributes: from a sealed document, or from one of another kind that only is to be named."""
    try:
        data, is_sealed = sound_file(files, METADATA), True
    except CorruptCacheError:
        data, is_sealed = files.read(METADATA), False
    if data is None:
        raise NotACacheError(f"{files} is not a dvme cache (it has no {METADATA}); name another path")
    try:
        attributes = dict(json.loads(data)["attributes"])
    except (ValueError, KeyError, TypeError):
        attributes = {"format": FORMAT, "format_version": FORMAT_VERSION}  # unreadable: said below
    if is_sealed or not _is_ours(attributes):
        return attributes
    message = f"{files}/{METADATA} is not a dvme cache's, or damaged, as is {copy_of(METADATA)}; name another path"
    raise NotACacheError(message)


def _is_ours(attributes: dict[str, Any]) -> bool:
    """Whether they are of a cache that this code reads."""
    return attributes.get("format") == FORMAT and attributes.get("format_version") == FORMAT_VERSION
