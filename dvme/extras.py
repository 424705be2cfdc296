"""Packages that extras bring: imported where they are used, and asked for in one line where they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dvme.errors import MissingPackageError

NEEDS = {
    "h5py": ("HDF5 files need h5py", "convert"),
    "openTSNE": ("t-SNE maps need openTSNE", "maps"),
    "plotly": ("figures need plotly", "report"),
    "umap": ("UMAP maps need umap-learn", "maps"),
}
"""Module to what needs it, and to the extra that brings it."""


def require(*modules: str) -> None:
    """Refuse to go on without packages of an extra. Nothing is imported.

    Args:
        modules: of NEEDS.

    Raises:
        MissingPackageError: with the command that installs the first that is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            what, extra = NEEDS[module]
            raise MissingPackageError(f"{what}: pip install 'dvme[{extra}]'")


def needed(name: str) -> Any:
    """A module of such a package, such as `plotly.subplots`; raises as `require`."""
    require(name.partition(".")[0])
    return import_module(name)
