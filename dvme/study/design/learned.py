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
class Learned:
    """What the weights of a backbone know of N images."""

    is_own: NDArray[np.bool_]
    """(N,) whether they saw the image."""
    is_related: NDArray[np.bool_]
    """(N,) whether they saw another image of its group, and not itself."""
    is_transductive: bool
    """Whether they saw them without labels."""

    def at(self, positions: NDArray[np.int64]) -> Learned:
        """Of some of the images, in this order."""
        return Learned(self.is_own[positions], self.is_related[positions], self.is_transductive)


def learned_of(
    tables: Iterable[Embeddings], ids: NDArray[np.uint8], groups: NDArray[np.object_], rows: NDArray[np.int64]
) -> dict[str, Learned]:
    """What backbones know of the images at some rows of a cache; only those that were trained on any.

    Args:
        tables: their embeddings.
        ids: (R, 16) content ids of all rows, also of those that take no part in the study.
        groups: (R,) names, "" without one.
        rows: (N,) of the images.

    Raises:
        DataError: if a backbone was trained on images and nothing says on which.
    """
    found = {}
    for table in tables:
        kept = kept_trained_on(table.name, table.provenance)
        if kept is None:
            continue
        is_own = np.isin(keys_of_images(ids), kept.keys)
        its_groups = set(groups[is_own].tolist()) - {""}
        is_related = np.array([group in its_groups for group in groups[rows].tolist()], dtype=bool)
        found[table.name] = Learned(is_own[rows], is_related & ~is_own[rows], kept.is_transductive)
    return found


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
        learned = every.at(test)
        n_own, n_related = int(learned.is_own.sum()), int(learned.is_related.sum())
        if not n_own + n_related:
            continue
        of_all = f"of {counted(len(test), 'test image')}{where}"
        if learned.is_transductive:
            others = f" and others of the groups of {n_related:,} more" if n_related else ""
            lines.append(f"{name} saw {n_own:,} {of_all}{others} {UNLABELLED}")
            continue
        others = f" and on others of the groups of {n_related:,} more" if n_related else ""
        raise DataError(
            f"{name} was trained or chosen on {n_own:,} {of_all}{others}; leave it out of "
            + parameter("backbones")
            + ", or "
            + step
        )
    return lines
