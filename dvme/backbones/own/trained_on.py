"""Which images the weights of a backbone were trained on or chosen on, so that no study tests it on them.

As a file: the digest of what follows, and the first 8 bytes of each image's content id, sorted, in base64. Two of
10 million images share such a beginning with a probability of 3e-6.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import DataError, parameter
from dvme.files import DIGEST_BYTES, written_aside

KEY_BYTES = 8
PROVENANCE = "trained_on"
"""The entry of it in the provenance of embeddings."""


@dataclass(frozen=True)
class TrainedOn:
    """What a cache keeps of it."""

    keys: NDArray[np.uint64]
    """(n,) of the images, sorted; see `keys_of_images`."""
    is_transductive: bool
    """See `BackboneSpec`."""


def keys_of_images(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n,) the first 8 bytes, big-endian, of content ids (n, 16)."""
    return np.ascontiguousarray(ids[:, :KEY_BYTES]).view(">u8")[:, 0].astype(np.uint64)


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
            f"{spec.name} was trained on images, and their list {path} cannot be read ({reason}), without which a "
            "study could test it on them; copy the list to where the backbone's TOML names it"
        ) from error
    return from_text(text, str(path))


def provenance_of(spec: BackboneSpec) -> dict[str, Any]:
    """What a cache keeps of it, in words for JSON; nothing of the many backbones that say no images.

    Raises:
        DataError: as `read_trained_on`.
    """
    if not spec.trained_on:
        return {}
    return {PROVENANCE: {"images": as_text(read_trained_on(spec)), "is_transductive": spec.is_transductive}}


def kept_trained_on(name: str, provenance: Mapping[str, Any]) -> TrainedOn | None:
    """What a cache keeps of it; None of a backbone that says no images.

    Args:
        name: of the backbone, for messages.
        provenance: of its embeddings.

    Raises:
        DataError: if the backbone was trained on images and they are not there, or are torn.
    """
    kept = provenance.get(PROVENANCE)
    if kept is None and not (provenance.get("spec") or {}).get("trained_on"):
        return None
    try:
        text, is_transductive = str(kept["images"]), bool(kept["is_transductive"])  # type: ignore[index]
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{name} was trained on images and the cache does not say on which; extract it anew with dvme extract, or "
            "leave it out of " + parameter("backbones")
        ) from error
    return TrainedOn(from_text(text, f"what the cache says of the images that {name} was trained on"), is_transductive)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
