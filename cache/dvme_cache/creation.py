"""An empty cache, laid out whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from dvme_cache.deferred import zarr
from dvme_cache.files import PARTIAL_SUFFIX, LocalFiles, remove_partial_files, sync
from dvme_cache.layout import FORMAT, FORMAT_VERSION
from dvme_cache.protocol import Files
from dvme_cache.recognition import is_anything_there
from dvme_cache.samples import SampleTable
from dvme_cache.tables import ColumnTables


def make_ready(files: Files, may_remove: Callable[[str], bool] = lambda _: True) -> None:
    """Lay out an empty cache if nothing is there, and remove what killed writers left aside, by key.

    Only for the holder of the lock.
    """
    if not is_anything_there(files):
        create_cache(files)
    if isinstance(files, LocalFiles):
        remove_partial_files(files.root, may_remove)


def create_cache(files: Files) -> None:
    """Lay out an empty cache, so that it exists whole or not at all.

    On a local path it is made aside and renamed into place; what a killed process left aside is removed first,
    which only the holder of the lock may do. In an object store the root's attributes are written last.
    """
    if not isinstance(files, LocalFiles):
        _lay_out(files)
        return
    path = files.root
    aside = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _lay_out(LocalFiles(aside))
        if not path.exists():  # NFS remembers for a while that nothing was there, until the folder beside it is made
            aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(path.absolute().parent)


def _lay_out(files: Files) -> None:
    from dvme_cache.store import CacheStore

    store = CacheStore(files)
    root = zarr.open_group(store, mode="a")  # without attributes: begun, not finished
    SampleTable.create(store)
    ColumnTables.create(store)
    zarr.create_group(store, path="embeddings", attributes={"backbones": []}, overwrite=True)
    root.attrs.put({"format": FORMAT, "format_version": FORMAT_VERSION})
