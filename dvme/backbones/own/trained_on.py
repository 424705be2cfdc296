"""Which images the weights of a backbone were trained on or chosen on, so that no study tests it on them.

As a file: the digest of what follows, and the first 8 bytes of each image's content id, sorted, in base64. Two of
10 million images share such a beginning with a probability of 3e-6.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import DataError
from dvme.files import DIGEST_BYTES, written_aside

KEY_BYTES = 8


def keys_of_images(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(m,) sorted, each once: the first 8 bytes, big-endian, of content ids (n, 16)."""
    first = np.ascontiguousarray(ids[:, :KEY_BYTES]).view(">u8")[:, 0]
    return np.unique(first.astype(np.uint64))


def as_text(keys: NDArray[np.uint64]) -> str:
    """Keys (n,) of images as text, with its digest."""
    encoded = base64.b64encode(np.unique(keys).astype(">u8").tobytes()).decode()
    return f"{_digest(encoded)} {encoded}\n"


def from_text(text: str, where: str) -> NDArray[np.uint64]:
    """(n,) the keys that `as_text` made this of, sorted.

    Args:
        text: what it made.
        where: what to call it in a message.

    Raises:
        DataError: if it is torn, or something else.
    """
    digest, _, encoded = text.strip().partition(" ")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        content = b"?"
    if digest != _digest(encoded) or len(content) % KEY_BYTES:
        raise DataError(f"{where} is no list of images, or is torn; copy it again, or make the backbone anew")
    return np.frombuffer(content, dtype=">u8").astype(np.uint64)


def write_trained_on(path: Path, ids: NDArray[np.uint8], further: NDArray[np.uint64] | None = None) -> None:
    """Write the file that `BackboneSpec.trained_on` names, whole or not at all.

    Args:
        path: its place.
        ids: (n, 16) content ids of all images that the weights were trained on or chosen on.
        further: (m,) keys of others, such as those that the weights which training began with had seen.
    """
    keys = keys_of_images(ids)
    text = as_text(keys if further is None else np.union1d(keys, further))
    with written_aside(path) as aside:
        aside.write_text(text, encoding="ascii")


def read_trained_on(spec: BackboneSpec) -> NDArray[np.uint64]:
    """(n,) sorted keys of the images that a backbone was trained on or chosen on; none where it does not say any.

    Raises:
        DataError: if the list that it names cannot be read: it may have been left behind when the TOML was moved.
    """
    if not spec.trained_on:
        return np.empty(0, dtype=np.uint64)
    path = Path(spec.trained_on)
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason: Any = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DataError(
            f"{spec.name} was trained on images, and the list of them, {path}, cannot be read ({reason}), without which "
            "a study could test it on them; copy the list to where the backbone's TOML names it"
        ) from error
    return from_text(text, str(path))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
