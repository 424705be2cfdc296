"""What is done: one file per finished job, named by everything that determines it and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.files import TORN, written_aside
from dvme.heads import Head
from dvme.heads.saving import without_nan
from dvme_cache import Fingerprint

PACKAGES = ("dvme", "numpy", "torch", "scikit-learn", "faiss-cpu", "faiss-gpu")
"""On which results depend; of the two faiss one is installed."""


@dataclass(frozen=True)
class FinishedJob:
    """What a fitted head says about the images, and how the fit went."""

    log_test: NDArray[np.float32]
    """(N test, C) log probabilities, in the manifest's order: as probabilities many would be 1 to the last bit."""
    log_validation: NDArray[np.float32]
    """(v, C), in the draw's order."""
    chosen: Mapping[str, Any]
    """What validation chose."""
    seconds: float
    """Of the fit; of jobs fitted together, the first one there has the time of all."""
    n_parameters: int
    """Numbers that the head holds."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and PACKAGES, where it was fitted."""

    @property
    def test(self) -> NDArray[np.float64]:
        """(N test, C) probabilities."""
        probabilities: NDArray[np.float64] = np.exp(self.log_test.astype(np.float64))
        return probabilities

    @property
    def validation(self) -> NDArray[np.float64]:
        """(v, C) probabilities."""
        probabilities: NDArray[np.float64] = np.exp(self.log_validation.astype(np.float64))
        return probabilities


@dataclass(frozen=True)
class JobIdentity:
    """Everything that determines a job's result."""

    head: Head
    fingerprints: tuple[Fingerprint, ...]
    """Of the embeddings, in the order in which the head takes them."""
    ids: NDArray[np.uint8]
    """(N, 16) content ids of the study's images."""
    labels: NDArray[np.int64]
    """(N,) classes."""
    n_classes: int
    train: NDArray[np.int64]
    """Positions, in their order: a head that draws minibatches depends on it."""
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int

    @property
    def key(self) -> str:
        """32 hexadecimal digits."""
        described = {
            "revision": self.head.revision,
            "head": {"kind": type(self.head).__name__} | asdict(self.head),  # type: ignore[call-overload]
            "embeddings": [each.digest for each in self.fingerprints],
            "train": _digest(self.ids[self.train], self.labels[self.train]),
            "validation": _digest(self.ids[self.validation], self.labels[self.validation]),
            "test": _digest(self.ids[self.test]),
            "n_classes": self.n_classes,
            "seed": self.seed,
        }
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Ledger:
    """The folder of finished jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> FinishedJob | None:
        """The finished job, or None if it is not there, or is torn: then it is fitted again.

        Raises:
            OSError: if the file is there and cannot be read; nothing says then that it is torn.
        """
        try:
            content = io.BytesIO(self._path(key).read_bytes())
        except FileNotFoundError:
            return None
        try:
            with np.load(content, allow_pickle=False) as found:
                record = json.loads(found["record"].item())
                return FinishedJob(found["log_test"], found["log_validation"], **record)
        except TORN:
            return None

    def write(self, key: str, job: FinishedJob) -> None:
        """Keep a job, whole or not at all."""
        record = {
            "chosen": without_nan(dict(job.chosen)),
            "seconds": job.seconds,
            "n_parameters": job.n_parameters,
            "versions": dict(job.versions),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_aside(self._path(key)) as aside, aside.open("wb") as file:
            np.savez(
                file,
                log_test=job.log_test,
                log_validation=job.log_validation,
                record=np.array(json.dumps(record)),
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


@cache
def versions() -> Mapping[str, str]:
    """Of Python and PACKAGES, here and now."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return MappingProxyType(found)


def _digest(*arrays: NDArray[Any] | Sequence[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
