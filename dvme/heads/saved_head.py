"""What a saved head is: one method, fitted on every fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads import full_name, segments
from dvme.heads.fitting.jobs import Head
from dvme.heads.neighbours.recall import search_notices
from dvme.heads.saved_views import SavedViews
from dvme.heads.tuned.kept import OwnBackbone
from dvme.metrics.grades import mean_cuts
from dvme.shown.result import Shown
from dvme.text import counted, some_of
from dvme_cache import Fingerprint


@dataclass(frozen=True)
class SavedFold:
    """One fold's head and what it was fitted on."""

    head: Any
    """A FittedHead; of a head that segments what `dvme.segmentation.saved` builds."""
    train_ids: NDArray[np.uint8]
    """(n, 16) content ids of the images that it learned from."""
    validation_ids: NDArray[np.uint8]
    """(v, 16) content ids of those that its hyper-parameters were chosen on."""
    seed: int
    """Of whatever it drew at random."""
    metrics: dict[str, float] = field(default_factory=dict)
    """On the test set."""
    job: str = ""
    """Mark of the job of a sweep that it is of; see `dvme.study.kept_heads`."""
    backbone: OwnBackbone | None = None
    """Whose embeddings it takes, where that was trained with it; None: those of the head's backbones."""


@dataclass(frozen=True, repr=False)
class SavedHead(Shown):
    """One method, fitted on every fold; `to_frame()` has a row for each, with its scores on the test set."""

    head: Head
    """What was fitted, with its hyper-parameters."""
    backbones: tuple[str, ...]
    """In the order in which `predict_proba` takes their embeddings."""
    dims: tuple[int, ...]
    """D_m of each."""
    fingerprints: tuple[Fingerprint, ...]
    """Of the embeddings that it was fitted on."""
    classes: tuple[str, ...]
    """C names, in the order of the probabilities."""
    test_hash: str
    """Hash of the test images' content ids; they were neither learned from nor chosen on."""
    folds: list[SavedFold]
    views: SavedViews | None = None
    """What it learned from beside the plain images; None: nothing."""

    @property
    def own_backbones(self) -> list[OwnBackbone]:
        """Of each fold, where they were trained with it; else none."""
        return [fold.backbone for fold in self.folds if fold.backbone is not None]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The embeddings that `predict_proba` takes: of each backbone, and of each in further views if it averages.

        Where backbones were trained, those of each fold's own.
        """
        if self.own_backbones:
            return tuple(own.spec.name for own in self.own_backbones)
        further = self.views.names if self.views is not None and self.views.is_averaged else ()
        return (*self.backbones, *(name for view in further for name in view))

    @property
    def input_fingerprints(self) -> tuple[Fingerprint, ...]:
        """Of the same."""
        if self.own_backbones:
            return tuple(own.fingerprint for own in self.own_backbones)
        further = self.views.fingerprints if self.views is not None and self.views.is_averaged else ()
        return (*self.fingerprints, *(each for view in further for each in view))

    @property
    def input_dims(self) -> tuple[int, ...]:
        """Of the same."""
        if self.own_backbones:
            return tuple(own.dim for own in self.own_backbones)
        return self.dims * (len(self.inputs) // len(self.backbones))

    @property
    def name(self) -> str:
        """Of the head."""
        return self.head.name

    @property
    def is_multilabel(self) -> bool:
        """Whether images may have several of the classes, so that probabilities are independent."""
        return any(getattr(fold.head, "is_multilabel", False) for fold in self.folds)

    @property
    def cuts(self) -> list[float] | None:
        """Of the expected grade, where what images are taken for was tuned; see `predicted_classes`."""
        return mean_cuts([fold.head.chosen.get("cuts") for fold in self.folds])

    @property
    def approximations(self) -> list[str]:
        """What of its predictions is approximate, a line each, with what was measured of it."""
        name = full_name(self.head) if not segments(self.name) else self.name
        return search_notices((name, fold.head.chosen) for fold in self.folds)

    @property
    def fitted_ids(self) -> NDArray[np.uint8]:
        """(n, 16) content ids of all that any fold learned from or chose on."""
        return np.concatenate([ids for fold in self.folds for ids in (fold.train_ids, fold.validation_ids)])

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) mean of the folds' probabilities, and over views if the head was chosen so.

        Args:
            blocks: (B, D_m) embeddings, those of `inputs`.

        Raises:
            DataError: if a dimension is not the one that the head was fitted on, or it makes masks.
        """
        if segments(self.name):
            raise DataError(f"{self.name} tells the class of pixels, not of images; dvme.predict writes its masks")
        for name, dim, block in zip(self.inputs, self.input_dims, blocks, strict=True):
            if block.shape[1] != dim:
                message = (
                    f"{name} has {block.shape[1]} values per image, the head expects {dim}; extract it as the head says"
                )
                raise DataError(message)
        if self.own_backbones:
            each = [fold.head.predict_proba([block]) for fold, block in zip(self.folds, blocks, strict=True)]
        else:
            n = len(self.backbones)
            views = [blocks[start : start + n] for start in range(0, len(blocks), n)]
            each = [fold.head.predict_proba(view) for fold in self.folds for view in views]
        mean: NDArray[Any] = np.mean(each, axis=0)
        return mean

    def _lines(self) -> list[str]:
        folds = counted(len(self.folds), "fold")
        images = counted(len({own.tobytes() for own in self.fitted_ids}), "image")
        first = f"{full_name(self.head)} on {'+'.join(self.backbones)}"
        return [f"{first}, {folds}, fitted on {images}", f"tells {some_of(self.classes)}", *self.approximations]

    def _records(self) -> list[dict[str, Any]]:
        return [
            {"fold": at, "n_train": len(fold.train_ids), "n_validation": len(fold.validation_ids), **fold.metrics}
            for at, fold in enumerate(self.folds, start=1)
        ]


def keys_of(ids: NDArray[np.uint8]) -> NDArray[Any]:
    """(n,) one comparable value per content id."""
    keys: NDArray[Any] = np.ascontiguousarray(ids).view("V16")[:, 0]
    return keys


def subset_hash(ids: NDArray[np.uint8]) -> str:
    """32 hexadecimal digits of a set of content ids (n, 16), whatever their order."""
    return hashlib.blake2b(b"".join(sorted(row.tobytes() for row in ids)), digest_size=16).hexdigest()
