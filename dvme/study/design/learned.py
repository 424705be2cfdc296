"""Backbones that know images of the test part already, because their weights were trained or chosen on them.

Which images those are is kept with the embeddings, in the cache's provenance: no file has to be found again for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.own.trained_on import kept_trained_on, keys_of_images
from dvme.errors import DataError, parameter
from dvme.text import counted

if TYPE_CHECKING:
    from dvme_cache.embeddings import Embeddings

UNLABELLED = "without their labels before the study, so that its scores are not those of new images"
"""How the notice of a transductive backbone ends."""


@dataclass(frozen=True)
class Known:
    """Which of N images weights know."""

    is_own: NDArray[np.bool_]
    """(N,) whether they saw the image."""
    is_related: NDArray[np.bool_]
    """(N,) whether they saw another image of its group, and not itself."""

    def at(self, positions: NDArray[np.int64]) -> Known:
        """Of some of the images, in this order."""
        return Known(self.is_own[positions], self.is_related[positions])

    @property
    def n_own(self) -> int:
        """Images that they saw."""
        return int(self.is_own.sum())

    @property
    def n_related(self) -> int:
        """Images of whose group they saw another."""
        return int(self.is_related.sum())


@dataclass(frozen=True)
class Learned:
    """What the weights of a backbone know of N images."""

    labelled: Known
    """Images whose labels they learned, or were chosen by."""
    unlabelled: Known
    """Others that they were trained on."""
    is_transductive: bool
    """Whether the latter may be of a test part."""

    def at(self, positions: NDArray[np.int64]) -> Learned:
        """Of some of the images, in this order."""
        return Learned(self.labelled.at(positions), self.unlabelled.at(positions), self.is_transductive)


def learned_of(
    tables: Iterable[Embeddings], ids: NDArray[np.uint8], groups: NDArray[np.object_], rows: NDArray[np.int64]
) -> dict[str, Learned]:
    """What backbones know of the images at some rows of a cache; only those that were trained on any.

    Which images are of one group is known of the cache's own images only.

    Args:
        tables: their embeddings.
        ids: (R, 16) content ids of all rows, also of those that take no part in the study.
        groups: (R,) names, "" without one.
        rows: (N,) of the images.

    Raises:
        DataError: if a backbone was trained on images and nothing says on which.
    """
    found, keys = {}, keys_of_images(ids)
    for table in tables:
        kept = kept_trained_on(table.name, table.provenance)
        if kept is None:
            continue
        labelled, others = (_known(np.isin(keys, own), groups, rows) for own in (kept.with_labels, kept.without_labels))
        found[table.name] = Learned(labelled, others, kept.is_transductive)
    return found


def _known(is_own: NDArray[np.bool_], groups: NDArray[np.object_], rows: NDArray[np.int64]) -> Known:
    """Of the images at some rows, given which rows are known."""
    its_groups = set(groups[is_own].tolist()) - {""}
    is_related = np.array([group in its_groups for group in groups[rows].tolist()], dtype=bool)
    return Known(is_own[rows], is_related & ~is_own[rows])


def check_learned(known: Mapping[str, Learned], test: NDArray[np.int64], site: str = "") -> list[str]:
    """Refuse backbones that know images which they are to be tested on, or images of the same groups.

    Args:
        known: what each backbone knows of the images of the study, or of another site.
        test: positions of those that test.
        site: its name; "" for the study's own.

    Returns:
        A line for every backbone that saw such images without labels, which is not refused.

    Raises:
        DataError: naming the backbone, how many images it knows, and the next step.
    """
    where = f" at {site}" if site else ""
    step = "leave that site out of " + parameter("test") if site else "hold those images out of the test part"
    lines = []
    for name, every in known.items():
        learned, of_all = every.at(test), f"of {counted(len(test), 'test image')}{where}"
        for some, is_said in ((learned.labelled, False), (learned.unlabelled, learned.is_transductive)):
            if not some.n_own + some.n_related:
                continue
            if is_said:
                others = f" and others of the groups of {some.n_related:,} more" if some.n_related else ""
                lines.append(f"{name} saw {some.n_own:,} {of_all}{others} {UNLABELLED}")
                continue
            others = f" and on others of the groups of {some.n_related:,} more" if some.n_related else ""
            raise DataError(
                f"{name} was trained or chosen on {some.n_own:,} {of_all}{others}; leave it out of "
                + parameter("backbones")
                + ", or "
                + step
            )
    return lines


def learned_lines(known: Mapping[str, Learned], test: NDArray[np.int64]) -> list[str]:
    """Lines on backbones that learned the labels of images which a study trains heads or chooses on.

    Nothing of that is a leak into the test set. But few labels are not few for such a backbone, and what is chosen on
    images that it was taught is chosen too well.
    """
    lines = []
    for name, every in known.items():
        is_other = np.ones(len(every.labelled.is_own), dtype=bool)
        is_other[test] = False
        n_known = int(every.labelled.is_own[is_other].sum())
        if n_known:
            lines.append(
                f"{name} learned the labels of {n_known:,} of {counted(int(is_other.sum()), 'image')} to train and to "
                "choose on: its scores with few labels are not those of few labels, and validation favours it"
            )
    return lines
