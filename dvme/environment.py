"""Turning broken installations into one readable message."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, version
from pathlib import Path

from dvme.errors import EnvironmentMismatchError

BROKEN_PAIR = re.compile(r"torchvision::|undefined symbol|libtorch|torch\w*' has no attribute|from 'torch")
"""What the import of timm says when torch and torchvision are not a pair."""
NOT_INSTALLED = "(not installed)"


@contextmanager
def explain_import() -> Iterator[None]:
    """Explain an import that fails because torch and torchvision are not a pair.

    A CPU-only torch beside the CUDA torchvision, or two releases that do not belong together, ends in
    `operator torchvision::nms does not exist` or an undefined symbol, which says nothing to most people.

    Raises:
        EnvironmentMismatchError: naming both versions and the command that mends it.
    """
    try:
        yield
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) or not BROKEN_PAIR.search(str(error)):
            raise
        message = (
            f"torch {installed('torch')} and torchvision {installed('torchvision')} do not fit together "
            f"({str(error).splitlines()[0]}); install them as a pair: "
            "pip install --force-reinstall torch torchvision"
        )
        raise EnvironmentMismatchError(message) from error


def check_single_cache() -> None:
    """Refuse the distribution `dvme-cache` of another version beside dvme, which has the package `dvme_cache` inside.

    Of one version they have the same files, and nothing is wrong for as long as both are there (cache/README.md).

    Raises:
        EnvironmentMismatchError: naming both versions and the commands that mend it.
    """
    own, light = installed("dvme"), installed("dvme-cache")
    if own != light and NOT_INSTALLED not in (own, light):
        message = (
            f"dvme {own} and dvme-cache {light} are both installed and overwrite each other; dvme has dvme_cache "
            "inside: pip uninstall -y dvme-cache, then install dvme again with --force-reinstall --no-deps"
        )
        raise EnvironmentMismatchError(message)


def installed(distribution: str) -> str:
    """Version of an installed distribution, or `(not installed)`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return NOT_INSTALLED


def check_single_faiss() -> None:
    """Refuse faiss-cpu and faiss-gpu side by side: both provide the module `faiss`, one overwrites the other.

    Raises:
        EnvironmentMismatchError: naming the two and the command that mends it.
    """
    described = (
        path for folder in sys.path for path in Path(folder).glob("faiss[-_]*-info")
    )  # the names of all are slow
    found = sorted({Distribution.at(path).name.lower() for path in described})
    if len(found) > 1:
        message = (
            f"{' and '.join(found)} are both installed and overwrite each other; keep one: "
            f"pip uninstall -y {' '.join(found)} && pip install {found[-1]}"
        )
        raise EnvironmentMismatchError(message)
