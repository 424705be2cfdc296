"""Classifiers over cached embeddings. Each fits a list of jobs together."""

from __future__ import annotations

from collections.abc import Callable

from dvme.errors import UnknownNameError
from dvme.heads.jobs import FittedHead, Head, Job

__all__ = ["FittedHead", "Head", "Job", "get_head"]


def _linear() -> Head:
    from dvme.heads.linear import Linear

    return Linear()


def _knn() -> Head:
    from dvme.heads.knn import KNN

    return KNN()


_HEADS: dict[str, Callable[[], Head]] = {"linear": _linear, "knn": _knn}


def get_head(name: str) -> Head:
    """A head with its default settings.

    Raises:
        UnknownNameError: naming the heads that there are.
    """
    if name not in _HEADS:
        raise UnknownNameError(f"unknown head {name!r}; choose from {', '.join(_HEADS)}")
    return _HEADS[name]()
