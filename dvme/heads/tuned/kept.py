"""The backbone of a fold that was trained with its head, as files beside the head's own.

`fold-1.toml` describes it as `dvme extract --backbones` takes it, `fold-1.safetensors` has its weights, and
`fold-1.ids` the images that it was trained or chosen on. Each fold has files of its own, so that putting the folds
of a head together is a matter of links: nobody holds the weights of several.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec, Checkpoint
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.own.custom import spec_from_toml
from dvme.backbones.own.trained_on import TrainedOn, write_trained_on
from dvme.backbones.own.writing import spec_to_toml
from dvme.errors import DataError
from dvme_cache import Fingerprint

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

DESCRIPTION, WEIGHTS, IMAGES = ".toml", ".safetensors", ".ids"
DTYPE = "float32"
"""Of the embeddings that the head takes."""


@dataclass(frozen=True)
class Unwritten:
    """What is not on disk yet."""

    weights: Mapping[str, NDArray[Any]]
    """All of the network's state, by its own names."""
    known: TrainedOn
    """The images that the weights know by now."""


@dataclass(frozen=True)
class OwnBackbone:
    """A backbone that is one fold's own."""

    spec: BackboneSpec
    dim: int
    """D, of its embeddings."""
    fingerprint: Fingerprint
    """Of its embeddings in float32."""
    n_bytes: int
    """Of its weights."""
    place: Path | None
    """Of its TOML; None: it is not on disk yet."""
    unwritten: Unwritten | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        model: Trainable,
        method: str,
        ids: NDArray[np.uint8],
        before: TrainedOn,
        seed: int,
        *,
        is_random: bool = False,
    ) -> OwnBackbone:
        """Of a model as training left it.

        Args:
            model: the backbone.
            method: by which it was trained.
            ids: (n, 16) content ids of the images that it was trained or chosen on.
            before: the images that the weights knew which training began with.
            seed: of the training.
            is_random: whether training began with random weights.

        Raises:
            OptionError: see `tuned_spec`.
        """
        from dvme.backbones.loading.model import hash_weights
        from dvme.backbones.loading.tuned import tuned_spec

        weights_hash = hash_weights(model.network)
        which = hashlib.blake2b(f"{weights_hash} {seed} ".encode(), digest_size=4)
        which.update(np.ascontiguousarray(ids).tobytes())  # two folds may have ended where they began
        spec = tuned_spec(model, is_random=is_random)
        spec = replace(spec, name=f"{spec.name}-{method}-{which.hexdigest()}")
        fingerprint = fingerprint_of(spec, weights=weights_hash, dim=model.dim, dtype=DTYPE)
        state = {name: value.detach().cpu().contiguous().numpy() for name, value in model.network.state_dict().items()}
        n_bytes = sum(value.nbytes for value in state.values())
        return cls(spec, model.dim, fingerprint, n_bytes, None, Unwritten(state, before.and_of(ids, has_labels=True)))

    def write(self, folder: Path, number: int) -> None:
        """Put its files into the folder of a head, as those of the fold of this number, from 1 on."""
        name = f"fold-{number}"
        weights, images = (folder / f"{name}{suffix}" for suffix in (WEIGHTS, IMAGES))
        if self.unwritten is not None:
            from safetensors.numpy import save_file

            save_file(dict(self.unwritten.weights), os.fspath(weights))
            write_trained_on(images, self.unwritten.known)
        else:
            for own, suffix in ((weights, WEIGHTS), (images, IMAGES)):
                _linked(self._file(suffix), own)
        checkpoint = Checkpoint(filename=weights.name, url="", wrapping="stated")
        text = spec_to_toml(replace(self.spec, checkpoint=checkpoint, trained_on=images.name))
        (folder / f"{name}{DESCRIPTION}").write_text(text, encoding="utf-8")

    def described(self) -> dict[str, Any]:
        """JSON values of it, beside its files."""
        return {
            "name": self.spec.name,
            "dim": self.dim,
            "digest": self.fingerprint.digest,
            "fingerprint": dict(self.fingerprint.fields),
            "n_bytes": self.n_bytes,
        }

    @classmethod
    def restored(cls, folder: Path, number: int, described: Mapping[str, Any]) -> OwnBackbone:
        """The backbone of a fold from the folder of a head; its weights are not read.

        Raises:
            DataError: if its files are not there, or describe another backbone.
        """
        if not is_there(folder, number, described):
            raise DataError(f"{folder} is damaged: a file fold-{number}.* is missing or cut short; save it again")
        place = folder / f"fold-{number}{DESCRIPTION}"
        spec = spec_from_toml(place)
        if spec.name != described["name"]:
            raise DataError(f"{folder} is damaged: {place.name} describes {spec.name}, not {described['name']}")
        fingerprint = Fingerprint(described["fingerprint"])
        return cls(spec, int(described["dim"]), fingerprint, int(described["n_bytes"]), place)

    def _file(self, suffix: str) -> Path:
        assert self.place is not None
        return self.place.with_suffix(suffix)


def is_there(folder: Path, number: int, described: Mapping[str, Any]) -> bool:
    """Whether a folder has all files of a fold's backbone, at their length.

    What the weights are is proven by the fingerprint once they are loaded; hashing those of all folds takes seconds.
    """
    files = [folder / f"fold-{number}{suffix}" for suffix in (DESCRIPTION, WEIGHTS, IMAGES)]
    return all(file.is_file() for file in files) and _n_bytes_of(files[1]) == described["n_bytes"]


def _n_bytes_of(weights: Path) -> int:
    """Of the tensors in a safetensors file, which follow its header and the 8 bytes of the header's length."""
    with weights.open("rb") as file:
        return weights.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def _linked(source: Path, target: Path) -> None:
    """The same bytes at a second place: by a link, or where the file system has none, by a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
