"""Which images the weights of a backbone were trained on or chosen on, so that no study tests it on them.

As a file: the digest of what follows, then two lists, of images whose labels it learned and of the others, each the
first 8 bytes of every image's content id, sorted, in base64. Two of 10 million images share such a beginning with a
probability of 3e-6. Groups are not in it: other images of the same patient are told by the cache of a study.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

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
    """Images that weights know, by their keys; see `keys_of_images`."""

    with_labels: NDArray[np.uint64]
    """(n,) of those whose labels they learned or were chosen by, sorted."""
    without_labels: NDArray[np.uint64]
    """(m,) of the others that they were trained on, sorted."""
    is_transductive: bool = False
    """See `BackboneSpec`."""

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Of all of them, sorted."""
        return np.union1d(self.with_labels, self.without_labels)

    @classmethod
    def nothing(cls) -> Self:
        """Of weights that say no images."""
        return cls(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))

    def and_of(self, ids: NDArray[np.uint8], *, has_labels: bool) -> Self:
        """The same after a further training.

        Args:
            ids: (n, 16) content ids of the images that it takes.
            has_labels: whether it learns their labels, or is chosen by them.
        """
        added, none = keys_of_images(ids), np.empty(0, dtype=np.uint64)
        labelled = np.union1d(self.with_labels, added if has_labels else none)
        others = np.union1d(self.without_labels, none if has_labels else added)
        return replace(self, with_labels=labelled, without_labels=np.setdiff1d(others, labelled))


def keys_of_images(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n,) the first 8 bytes, big-endian, of content ids (n, 16)."""
    return np.ascontiguousarray(ids[:, :KEY_BYTES]).view(">u8")[:, 0].astype(np.uint64)


def as_text(known: TrainedOn) -> str:
    """The lists as text, with its digest."""
    parts = [
        base64.b64encode(keys.astype(">u8").tobytes()).decode() for keys in (known.with_labels, known.without_labels)
    ]
    content = ":".join(parts)
    return f"{_digest(content)} {content}\n"


def from_text(text: str, where: str, *, is_transductive: bool = False) -> TrainedOn:
    """What `as_text` made this of.

    Args:
        text: what it made.
        where: what to call it in a message.
        is_transductive: of the result.

    Raises:
        DataError: if it is torn, or something else.
    """
    digest, _, content = text.strip().partition(" ")
    try:
        parts = [base64.b64decode(part, validate=True) for part in content.split(":")]
    except (binascii.Error, ValueError):
        parts = []
    if digest != _digest(content) or len(parts) != 2 or any(len(part) % KEY_BYTES for part in parts):
        raise DataError(f"{where} is no list of images, or is torn; copy it again, or make the backbone anew")
    labelled, others = (np.frombuffer(part, dtype=">u8").astype(np.uint64) for part in parts)
    return TrainedOn(labelled, others, is_transductive)


def write_trained_on(path: Path, known: TrainedOn) -> None:
    """Write the file that `BackboneSpec.trained_on` names, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(as_text(known), encoding="ascii")


def read_trained_on(spec: BackboneSpec) -> TrainedOn:
    """The images that a backbone was trained on or chosen on; none where it does not say any.

    Raises:
        DataError: if the list that it names cannot be read: it may have been left behind when the TOML was moved.
    """
    if not spec.trained_on:
        return TrainedOn.nothing()
    path = Path(spec.trained_on)
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason: Any = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DataError(
            f"the list of images that {spec.name} was trained on cannot be read: {path} ({reason}); copy it to where "
            "the backbone's TOML names it, or a study could test the backbone on them"
        ) from error
    return from_text(text, str(path), is_transductive=spec.is_transductive)


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
            f"the cache does not say on which images {name} was trained; extract it again with dvme extract, or "
            "leave it out of " + parameter("backbones")
        ) from error
    where = f"what the cache says of the images that {name} was trained on"
    return from_text(text, where, is_transductive=is_transductive)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
