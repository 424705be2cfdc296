"""Whether sites are what they seem: equal images, near-duplicates and known collections across caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dvme.heads.saved_head import keys_of
from dvme.notices import Aside
from dvme.runtime import Progress
from dvme.sets.families import collections_of
from dvme.study.design.crowds import links
from dvme.study.design.inspection import together
from dvme.study.design.near import near_pairs
from dvme.study.design.similarity import COSINE
from dvme.study.design.snapshot import Snapshot
from dvme.text import counted, first_few

STUDY = "the study"


def in_common(
    study: Snapshot,
    sites: Mapping[str, Snapshot],
    whole: Mapping[str, Snapshot],
    classes: Mapping[str, Sequence[str]],
    progress: Progress,
) -> tuple[dict[str, list[str]], list[str]]:
    """What makes a site no external one, a line each, by its name; and what could not be looked at.

    Args:
        study: N images.
        sites: of the images that are judged, by name.
        whole: the same with the images that are left out because the study has them.
        classes: the labels' names by site, and of the study under `STUDY`.
        progress: told (stage, done, total).
    """
    every, entire = {STUDY: study, **sites}, {STUDY: study, **whole}
    pairs = list(combinations(every, 2))
    found: dict[str, list[str]] = {name: [] for name in sites}
    equal = {}
    for one, other in pairs:
        equal[one, other] = _equal(every[one], every[other])
        line = _shared(one, other, entire, int(equal[one, other].sum()))
        found[other] += [line] if line else []
    alike, lines = _near(every, equal, progress)
    held = {
        name: collections_of(each.location, each.images.tolist(), each.paths.tolist(), classes[name])
        for name, each in entire.items()
    }
    for one, other in pairs:
        found[other] += [alike[one, other]] if (one, other) in alike else []
        found[other] += _families(one, other, held)
    return found, lines


def _equal(first: Snapshot, second: Snapshot) -> NDArray[np.bool_]:
    """(N,) which images of the second are files of the first as well."""
    return np.isin(keys_of(second.ids), keys_of(first.ids))


def _shared(one: str, other: str, entire: Mapping[str, Snapshot], n_judged: int) -> str:
    """A line where images of the second are files of the first, some of which are judged."""
    second = entire[other]
    is_equal = _equal(entire[one], second)
    n = int(is_equal.sum())
    if not n:
        return ""
    n_left_out = n - n_judged if one == STUDY else 0
    left_out = f", {n_left_out:,} of them left out" if n_left_out else ""
    files = f"{'are files' if n > 1 else 'is a file'} of {one} ({first_few(second.images[is_equal].tolist())})"
    return f"{other} is not external: {n:,} of its {len(second):,} images {files}{left_out}"


def _near(
    every: Mapping[str, Snapshot], equal: Mapping[tuple[str, str], NDArray[np.bool_]], progress: Progress
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """A line for each two caches with near-duplicates that are not equal files; and one on blind backbones."""
    names, sizes = list(every), [len(each) for each in every.values()]
    which, start = np.repeat(np.arange(len(names)), sizes), np.cumsum([0, *sizes])
    backbones, close = list(every[STUDY].backbones), {}
    for done, backbone in enumerate(backbones):
        progress("compare sites", done, len(backbones))
        close[backbone] = near_pairs(np.concatenate([each.read(backbone) for each in every.values()]))
    progress("compare sites", len(backbones), len(backbones))
    similar, found = together(close), {}
    of_crowds, least, named = links(similar.crowds, which)
    similar = replace(
        similar,
        pairs=np.concatenate([similar.pairs, of_crowds]),
        cosines=np.concatenate([similar.cosines, least]),
        backbones=(*similar.backbones, *named),
    )
    sides = which[similar.pairs]
    for pair, is_equal in equal.items():
        one, other = (names.index(name) for name in pair)
        is_across = (sides == (one, other)).all(axis=1)
        there = similar.pairs[:, 1] - start[other]
        is_across[is_across] = ~is_equal[there[is_across]]
        rows = np.flatnonzero(is_across)
        if not len(rows):
            continue
        first, second = every[pair[0]], every[pair[1]]
        best = rows[np.argsort(-similar.cosines[rows], kind="stable")]
        shown = first_few(
            f"{second.images[there[row]]} and {first.images[similar.pairs[row, 0] - start[one]]} "
            f"({similar.cosines[row]:.4f} in {similar.backbones[row]})"
            for row in best
        )
        n = len(np.unique(there[rows]))
        found[pair] = (
            f"{pair[1]} may not be external: {counted(n, 'image')} of it all but "
            f"{'coincides' if n == 1 else 'coincide'} with some of {pair[0]}: {shown}"
        )
    blind = ", ".join(similar.blind)
    why = f"too many pairs of images have a cosine above {COSINE} for them to be copies"
    lines = [Aside(f"near-duplicates across sites were not looked for in {blind}: {why}")] if blind else []
    recalls = {name: each.recall for name, each in close.items() if each is not None and each.recall is not None}
    return found, lines + [f"across sites, {recall.said(name)}" for name, recall in recalls.items()]


def _families(one: str, other: str, held: Mapping[str, Mapping[str, tuple[tuple[str, ...], str]]]) -> list[str]:
    """A line where both seem to hold pictures of one collection."""
    for name, (pictures, shown) in held[other].items():
        for mine, (own, mine_shown) in held[one].items():
            both = [each for each in pictures if each in own]
            if both:
                its = "" if name == both[0] else f"{name} ({shown}), which has pictures of "
                theirs = "" if mine == both[0] else f", as {mine}"
                whose = f"{both[0]} ({shown})" if not its else both[0]
                return [
                    f"{other} may not be external: it looks like {its}{whose}, and so does {one}{theirs} ({mine_shown})"
                ]
    return []
