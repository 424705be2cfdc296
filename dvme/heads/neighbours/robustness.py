"""The robustness index of a backbone: are the nearest neighbours of an image of its class, or of its hospital?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads.neighbours.of_rows import FOUND, search
from dvme.seeds import checked_seed
from dvme.stats.influence import FEWEST
from dvme.stats.intervals import LEVEL, Interval
from dvme.stats.t_comparison import wilson
from dvme.vectors import unit_rows
from dvme_cache.deferred import deferred

special = deferred("scipy.special")

NEIGHBOURS = 20
MOST_QUERIES = 5000
"""Images whose neighbours are looked for; of more, as many are drawn. All images may be found."""


@dataclass(frozen=True)
class Robustness:
    """How the nearest neighbours of images agree with them."""

    index: Interval
    """1: of the class whatever the site; 0: of the site whatever the class."""
    by_chance: float
    """The index if neighbours were drawn among all images alike: 0.5 where classes and sites are equally frequent."""
    k: int
    n_same_class: int
    """Neighbours of the same class at another site."""
    n_same_site: int
    """Neighbours of another class at the same site."""
    n_queries: int
    n_all: int
    reason: str = ""
    """Why the index, or its interval, is nan."""

    @property
    def is_sample(self) -> bool:
        """Whether the neighbours of only some images were looked for, for time."""
        return self.n_queries < self.n_all


def robustness_index(
    embeddings: NDArray[Any],
    classes: NDArray[Any],
    sites: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    k: int = NEIGHBOURS,
    seed: int = 0,
    most_queries: int = MOST_QUERIES,
    device: str = "cpu",
) -> Robustness:
    """The share of same-class-other-site neighbours among these and other-class-same-site ones.

    Of the k nearest neighbours of every image by cosine, none of them of its own patient, those of its class at another
    site (SO) and those of another class at its site (OS) are counted over all images, and the index is SO / (SO + OS).
    Neighbours that agree in both, or in neither, say nothing. The first index of de Jong, Marcus and Teuwen is a ratio,
    above 1 where the class dominates; this is the normalised one of its successor.

    The index depends on how frequent classes and sites are, so compare backbones on the same images, and with
    `by_chance`. The interval is over patients, and takes the images that may be neighbours as given.

    Args:
        embeddings: (N, D), finite; they are normalised here.
        classes: (N,) one class of each image, of any type; of a finding that has it or has it not.
        sites: (N,), of any type.
        groups: (N,) patient of each image; None: every image is one.
        k: neighbours; fewer where fewer images of other patients are left for every one.
        seed: of the draw of images, where there are more than `most_queries`.
        most_queries: images whose neighbours are looked for.
        device: see `search`.

    Returns:
        An index of nan, and why, with a single site or class, or no telling neighbour; an interval of nan, and why,
        with fewer than FEWEST patients that have telling neighbours.

    Raises:
        ValueError: if k is below 1, or classes, sites or groups are not one for each image.

    Source: Koemen, de Jong, Hense et al. 2025, Towards Robust Foundation Models for Digital Pathology (PathoROB), the
        robustness index, with their exclusion of the query's own slide; de Jong, Marcus and Teuwen 2025 for the idea.
    """
    n, nan = len(embeddings), float("nan")
    for name, each in (("classes", classes), ("sites", sites), ("groups", groups)):
        if each is not None and len(each) != n:
            raise ValueError(f"there are {len(each)} {name} and {n} images; pass one for each")
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    of_class, of_site = (np.unique(each, return_inverse=True)[1].ravel() for each in (classes, sites))
    of_group = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    largest = int(np.bincount(of_group).max(initial=0))
    k = min(k, n - largest)
    queries = np.arange(n)
    if n > most_queries:
        queries = np.sort(np.random.default_rng(checked_seed(seed)).permutation(n)[:most_queries])
    for what, codes in (("site", of_site), ("class", of_class)):
        if len(np.unique(codes)) < 2:
            return Robustness(Interval(nan, nan, nan), nan, k, 0, 0, len(queries), n, f"all images are of one {what}")
    if k < 1:
        return Robustness(Interval(nan, nan, nan), nan, k, 0, 0, len(queries), n, "all images are of one patient")
    found = _neighbours(unit_rows(embeddings), of_group, queries, k, k + largest, device)
    is_class, is_site = of_class[found] == of_class[queries, None], of_site[found] == of_site[queries, None]
    good, bad = (is_class & ~is_site).sum(axis=1), (~is_class & is_site).sum(axis=1)  # (Q,)
    index, reason = _interval(good, bad, of_group[queries])
    chance = _by_chance(of_class, of_site, of_group, queries)
    return Robustness(index, chance, k, int(good.sum()), int(bad.sum()), len(queries), n, reason)


def _neighbours(
    unit: NDArray[Any], of_group: NDArray[np.intp], queries: NDArray[np.intp], k: int, depth: int, device: str
) -> NDArray[np.intp]:
    """(Q, k) the nearest images of other patients: of the `depth` nearest ones so many are left."""
    found = np.empty((len(queries), k), dtype=np.intp)
    size = max(1, FOUND // (depth * 4))
    for start in range(0, len(queries), size):
        some = queries[start : start + size]
        _, near = search(unit[some], unit, min(depth, len(unit)), device=device)
        is_own = of_group[near] == of_group[some, None]
        order = np.argsort(is_own, axis=1, kind="stable")[:, :k]  # own ones last, the others as they were
        found[start : start + size] = np.take_along_axis(near, order, axis=1)
    return found


def _interval(good: NDArray[Any], bad: NDArray[Any], of_group: NDArray[np.intp]) -> tuple[Interval, str]:
    """Of a ratio of sums over patients, as of a share."""
    total, nan = int(good.sum() + bad.sum()), float("nan")
    if total == 0:
        return Interval(nan, nan, nan), "no neighbour is of the same class at another site, or the reverse"
    index = float(good.sum()) / total
    _, patient = np.unique(of_group, return_inverse=True)
    sums = np.bincount(patient, good - index * (good + bad))
    n_units = int((np.bincount(patient, good + bad) > 0).sum())
    if n_units < FEWEST:
        return Interval(index, nan, nan), f"{n_units} images or patients have such neighbours; it takes {FEWEST}"
    variance = n_units / (n_units - 1.0) * float((sums**2).sum()) / total**2
    quantile = float(special.stdtrit(n_units - 1.0, (1.0 + LEVEL) / 2.0))
    return Interval(index, *wilson(index, variance, (float(n_units), float(n_units)), quantile)), ""


def _by_chance(
    of_class: NDArray[np.intp], of_site: NDArray[np.intp], of_group: NDArray[np.intp], queries: NDArray[np.intp]
) -> float:
    """The index if every image of another patient was as near as any other."""
    cell = of_class * (int(of_site.max()) + 1) + of_site
    n_class, n_site, n_cell = (np.bincount(each)[each] for each in (of_class, of_site, cell))
    both = of_group * (int(cell.max()) + 1) + cell  # images of the query's own patient are none of its neighbours
    own_class, own_site, own_cell = (
        _counts(pair) for pair in (of_group * len(of_class) + of_class, of_group * len(of_class) + of_site, both)
    )
    good = (n_class - n_cell) - (own_class - own_cell)
    bad = (n_site - n_cell) - (own_site - own_cell)
    left = np.maximum(len(of_class) - np.bincount(of_group)[of_group], 1)
    expected_good, expected_bad = ((each / left)[queries].sum() for each in (good, bad))
    whole = float(expected_good + expected_bad)
    return float(expected_good) / whole if whole > 0 else math.nan


def _counts(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,) how many have the code of each."""
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    found: NDArray[np.intp] = counts[place.ravel()]
    return found
