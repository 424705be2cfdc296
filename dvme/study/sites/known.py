"""Images of sites that would be counted twice: those that the study uses itself, and those of two sites."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError, parameter
from dvme.heads.saved_head import keys_of
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.snapshot import Snapshot
from dvme.study.sites.outcome import OWN
from dvme.text import counted

LEARNED = "that heads of the study learn from or are chosen on"
TESTED = "of the study's own test images"


def known(ids: NDArray[np.uint8], manifest: SubsetManifest) -> dict[str, NDArray[np.bool_]]:
    """(N,) masks of the images that the study has as well, by why they are not judged at a site.

    Args:
        ids: (N, 16) content ids of a site's images.
        manifest: of the study.
    """
    size = manifest.largest  # smaller ones are parts of it
    learned = [
        rows for draw in manifest.draws for rows in (manifest.train(draw, size), manifest.validation(draw, size))
    ]
    keys, own = keys_of(ids), keys_of(manifest.images)
    is_learned = np.isin(keys, own[np.unique(np.concatenate(learned))])
    return {LEARNED: is_learned, TESTED: np.isin(keys, own[manifest.test]) & ~is_learned}


def check_apart(weights: Mapping[str, float], sites: Mapping[str, Snapshot]) -> None:
    """Refuse an image that a weighted score would count at two sites.

    Args:
        weights: by the names of sites.
        sites: of the images that are judged.

    Raises:
        OptionError: naming the sites.
    """
    for one, other in combinations([name for name in weights if name != OWN], 2):
        is_both = np.isin(keys_of(sites[other].ids), keys_of(sites[one].ids))
        if n := int(is_both.sum()):
            raise OptionError(
                parameter("score")
                + f" would count {counted(n, 'image')} twice: {sites[other].images[is_both][0]} is at {one} and at "
                f"{other}; leave one of the two sites out"
            )
