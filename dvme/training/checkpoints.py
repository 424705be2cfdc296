"""What a training keeps after each epoch, so that a kill costs one epoch at most."""

from __future__ import annotations

import pickle
import shutil
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dvme.files import written_aside
from dvme_cache.deferred import deferred
from dvme_cache.files import make_folders

if TYPE_CHECKING:
    import torch
else:
    torch = deferred("torch")

LAST = "last"
SUFFIX = ".pt"
FOREIGN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a file that is not a whole state may raise, beside errors of the disk."""


class Epochs:
    """The states of one training, each a file of a folder; without a folder nothing is kept.

    A file is whole or absent: a kill or a power cut leaves the state of an earlier epoch.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Take the folder of this training, and of no other; it need not be there."""
        self.folder = folder
        self.seconds = 0.0
        """That writing took, which is no part of a training."""

    def read(self, name: str = LAST) -> dict[str, Any] | None:
        """The state of a name, with its tensors on the CPU; None where there is none, or its file is torn or foreign.

        Raises:
            OSError: if the file is there and cannot be read; nothing says then that it is torn.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{name}{SUFFIX}"
        try:
            with path.open("rb") as file:
                state = _loaded(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return state if isinstance(state, dict) else None

    def write(self, state: Mapping[str, Any], name: str = LAST) -> None:
        """Keep a state in place of the one of its name, whole or not at all, and durably.

        Args:
            state: tensors, with their strides; numbers, text and None; lists, tuples and dicts of them.
            name: of its file, without the suffix.
        """
        if self.folder is None:
            return
        begun = time.perf_counter()
        make_folders(self.folder)
        with written_aside(self.folder / f"{name}{SUFFIX}") as aside:
            torch.save(dict(state), aside)
        self.seconds += time.perf_counter() - begun

    def clear(self) -> None:
        """Remove the folder with all its states, where it is there."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _loaded(file: IO[bytes]) -> Any:
    """What a whole file of torch holds, nothing of which is run; None of any other.

    torch itself checks no sums of what it reads.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return None
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (*FOREIGN, pickle.UnpicklingError):
        return None
