"""Maps that were computed before, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.files import DIGEST_BYTES, written_aside
from dvme.runtime import kept_folder


@dataclass(frozen=True)
class Kept:
    """Arrays by key, one npz file each.

    Everything here can be computed again, so nothing here is worth an error: a file that is not there, torn, foreign or
    of another key counts as absent, and where nothing can be written nothing is kept.
    """

    folder: Path | None
    """Made when first written to; None: nothing is kept."""

    def read(self, key: str) -> dict[str, NDArray[Any]] | None:
        """What was written under a key; None where there is nothing sound."""
        if self.folder is None:
            return None
        try:
            content = (self.folder / f"{key}.npz").read_bytes()
        except OSError:
            return None
        body, seal = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if seal != _seal(body, key):
            return None
        with np.load(BytesIO(body), allow_pickle=False) as archive:
            return dict(archive)

    def write(self, key: str, **arrays: NDArray[Any]) -> None:
        """Keep arrays under a key, if the folder can be written to."""
        if self.folder is None:
            return
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes the names for `allow_pickle`
        body = buffer.getvalue()
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # thumbnails of patients may be among them
            with written_aside(self.folder / f"{key}.npz") as aside:
                aside.touch(mode=0o600)
                aside.write_bytes(body + _seal(body, key))


def default_folder() -> Path | None:
    """`$XDG_CACHE_HOME/dvme/maps`, or `~/.cache/dvme/maps`; None where the user has no home."""
    try:
        return kept_folder("maps")
    except RuntimeError:
        return None


def key_of(*parts: Any) -> str:
    """32 hexadecimal digits: the BLAKE2b-128 of parts that JSON can hold."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _seal(body: bytes, key: str) -> bytes:
    """What proves that the bytes before it are whole and of this key; readers of npz pass over what follows a zip."""
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES, key=key.encode()).digest()
