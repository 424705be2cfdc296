"""Modules that are imported when they are first used, so that what is refused before that costs no time."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["deferred", "zarr"]


class _Deferred(ModuleType):
    """Stands for a module under one name in one file; `sys.modules` never sees it."""

    _module: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspection asks of every object is no use of the module
            raise AttributeError(name)
        if self._module is None:
            self._module = import_module(self.__name__)
        return getattr(self._module, name)


def deferred(name: str) -> Any:
    """The module of a name, imported when one of its attributes is first asked for.

    A type checker is shown the real one: `if TYPE_CHECKING: import pandas as pd`, else `pd = deferred("pandas")`.
    """
    return _Deferred(name)


if TYPE_CHECKING:
    import zarr
else:
    zarr = deferred("zarr")
