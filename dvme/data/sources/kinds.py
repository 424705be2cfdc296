"""Which kinds of containers there are, and which of them a file or folder is."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from dvme.data.dicom.names import SUFFIXES, is_unclear
from dvme.data.listing import is_dicom_file
from dvme.data.sources.protocol import Mixed, Source

FRAMES, ARCHIVES = "frames", ("tar", "zip")
MODULES = ("arrow", FRAMES, "hdf5", "npz", "parquet", *ARCHIVES)
"""Each is a module of this folder with a `SOURCE`. A new one is a module, and its name in this line."""


def sources() -> Iterator[Source]:
    """Every kind of container."""
    yield from map(source_in, MODULES)


def source_in(module: str) -> Source:
    """The kind of container of a module."""
    found: Source = import_module(f"dvme.data.sources.{module}").SOURCE
    return found


def source_of_file(path: Path) -> Source | None:
    """The kind of container that a file is, by its suffix, or by its content where that says nothing; None for none."""
    suffix = SUFFIXES[0] if is_unclear(path.name) and is_dicom_file(path) else path.suffix.lower()
    return next((source for source in sources() if suffix in source.suffixes), None)


def is_archive(path: Path) -> bool:
    """Whether a file holds others by their names."""
    found = source_of_file(path)
    return any(found is source_in(module) for module in ARCHIVES)


def holds_images(path: Path) -> bool:
    """Whether a file is a container of images: where its suffix leaves that open, by a look inside."""
    source = source_of_file(path)
    return source is not None and (not isinstance(source, Mixed) or source.holds_images(path))


def source_of_folder(path: Path) -> Source | None:
    """The kind of container that a folder is as a whole; None for a folder of files."""
    return next((source for source in sources() if source.finds(path)), None)


def container_suffixes() -> tuple[str, ...]:
    """Of all files that are containers, sorted."""
    return tuple(sorted({suffix for source in sources() for suffix in source.suffixes}))
