"""Near-duplicates on two sides of a split: a leak that no file name shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import parameter
from dvme.notices import Aside
from dvme.study.design.manifest import Draw, SubsetManifest
from dvme.study.design.splits import Fold
from dvme.text import counted, first_few

Redraw = Callable[[int, int, Fold], Draw]
COSINE = 0.999
"""Similarity above which two images count as near-duplicates."""
BLIND = 0.01
"""Share of random pairs above it that shows a backbone which cannot tell images apart, an untrained one say."""
MOST_PAIRS = 50
"""Pairs per image above it that show the same; this many copies of everything are no accident of a data set."""
BLOCK = 2048
SAMPLED_PAIRS = 20000


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that a backbone all but confuses, on two sides of a split."""

    one: int
    """Position of the image that is tested, or chosen on."""
    other: int
    """Position of the image that is trained on, or that is in the training pool."""
    side: str
    """`test` or `validation`: where the first of them is."""
    backbone: str
    cosine: float


@dataclass(frozen=True)
class Similar:
    """All pairs of similar images, whatever their sides."""

    pairs: NDArray[np.int64]
    """(P, 2) positions, the smaller first."""
    cosines: NDArray[np.float32]
    """(P,), the largest over the backbones."""
    backbones: tuple[str, ...]
    """(P,) the backbone of that largest one."""
    blind: tuple[str, ...]
    """Backbones that were passed over."""


def similar_pairs(embeddings: Iterable[tuple[str, NDArray[Any]]]) -> Similar:
    """Pairs of images with a cosine above COSINE in any backbone.

    Args:
        embeddings: name and (N, D) of each backbone; read one at a time.
    """
    best: dict[tuple[int, int], tuple[float, str]] = {}
    blind = []
    for name, values in embeddings:
        unit = values.astype(np.float32)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        found = None if _is_blind(unit) else _close_pairs(unit)
        if found is None:
            blind.append(name)
            continue
        for one, two, cosine in zip(*(part.tolist() for part in found), strict=True):
            if cosine > best.get((one, two), (0.0, ""))[0]:
                best[one, two] = (cosine, name)
    pairs = np.array(sorted(best), dtype=np.int64).reshape(-1, 2)
    named = [best[one, two] for one, two in pairs.tolist()]
    cosines = np.array([cosine for cosine, _ in named], dtype=np.float32)
    return Similar(pairs, cosines, tuple(name for _, name in named), tuple(blind))


def _close_pairs(unit: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Positions of both, the smaller first, and cosines; None if there are more pairs than copies could explain."""
    nothing = np.empty(0, dtype=np.int64)
    parts = [(nothing, nothing, np.empty(0, dtype=np.float32))]
    n_found = 0
    for start in range(0, len(unit), BLOCK):
        rows = unit[start : start + BLOCK]
        for other in range(start, len(unit), BLOCK):
            cosines = rows @ unit[other : other + BLOCK].T
            one, two = np.nonzero(cosines > COSINE)
            is_ordered = start + one < other + two
            one, two = one[is_ordered], two[is_ordered]
            parts.append((start + one, other + two, cosines[one, two]))
            n_found += len(one)
            if n_found > MOST_PAIRS * len(unit):
                return None
    first, second, close = (np.concatenate([part[which] for part in parts]) for which in range(3))
    return first, second, close


def across_splits(manifest: SubsetManifest, similar: Similar) -> list[NearDuplicate]:
    """The pairs of which one image is tested, or chosen on, and the other trained on; each pair once.

    A pair is listed under `test` if one of its images is, else under `validation` if some draw has it on two sides.
    """
    one, other = similar.pairs.T
    n_images = len(manifest.images)
    is_test = _mask(n_images, manifest.test)
    is_train = np.stack([_mask(n_images, draw.train) for draw in manifest.draws])  # (draws, N)
    is_validation = np.stack([_mask(n_images, draw.validation) for draw in manifest.draws])
    in_pool = np.asarray((is_train | is_validation).any(axis=0))
    found = []
    sides: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "test": (is_test[one] & in_pool[other], is_test[other] & in_pool[one]),
        "validation": (
            np.any(is_validation[:, one] & is_train[:, other], axis=0),
            np.any(is_validation[:, other] & is_train[:, one], axis=0),
        ),
    }
    for side, (forward, backward) in sides.items():
        for index in np.flatnonzero(forward | backward).tolist():
            first, second = (one, other) if forward[index] else (other, one)
            pair = int(first[index]), int(second[index])
            found.append(NearDuplicate(*pair, side, similar.backbones[index], float(similar.cosines[index])))
    return found


def without_duplicates(manifest: SubsetManifest, similar: Similar, draw_again: Redraw) -> SubsetManifest:
    """The manifest without near-duplicates on two sides; the test set stays.

    Left out are training and validation images that are near-duplicates of a test image, and training images that
    are near-duplicates of one of their draw's validation images.

    Args:
        manifest: as drawn.
        similar: see `similar_pairs`.
        draw_again: called with (repeat, fold, the rows that are left), so that what is left is balanced as well.
    """
    n_images = len(manifest.images)
    near_test = _neighbours(similar.pairs, _mask(n_images, manifest.test))
    draws = []
    for draw in manifest.draws:
        validation = draw.validation[~near_test[draw.validation]]
        near = near_test | _neighbours(similar.pairs, _mask(n_images, validation))
        train = draw.train[~near[draw.train]]
        draws.append(draw_again(draw.repeat, draw.fold, Fold(np.sort(train), np.sort(validation))))
    policy = dict(manifest.policy) | {"drop_duplicates": COSINE}
    return replace(manifest, draws=tuple(draws), policy=policy)


def describe(
    duplicates: Sequence[NearDuplicate],
    names: Sequence[str] | NDArray[Any],
    blind: Sequence[str],
    *,
    are_dropped: bool = False,
) -> list[str]:
    """Lines for the reader, none where nothing was found.

    Args:
        duplicates: on two sides.
        names: (N,) the images' paths.
        blind: backbones that were passed over.
        are_dropped: whether they are left out of training.
    """
    lines = list[str]()
    if blind:
        lines.append(
            Aside(
                f"near-duplicates were not looked for in {', '.join(blind)}: "
                f"too many pairs of images have a cosine above {COSINE} for them to be copies"
            )
        )
    by_side: Mapping[str, list[NearDuplicate]] = {"test": [], "validation": []}
    for each in duplicates:
        by_side[each.side].append(each)
    for side, some in by_side.items():
        if some:
            shown = first_few(
                f"{names[each.one]} and {names[each.other]} ({each.cosine:.4f} in {each.backbone})"
                for each in sorted(some, key=lambda each: -each.cosine)
            )
            pairs = counted(len(some), "pair of near-duplicates", "pairs of near-duplicates")
            said = f"{pairs} between {side} and training images: {shown}"
            step = said + "; " + parameter("drop_duplicates") + " leaves them out"
            lines.append(Aside(f"{said}: left out of training") if are_dropped else step)
    return lines


def listed(duplicates: Sequence[NearDuplicate], names: Sequence[str] | NDArray[Any]) -> list[dict[str, Any]]:
    """Plain values, with the images' paths in place of their positions."""
    return [asdict(each) | {"one": str(names[each.one]), "other": str(names[each.other])} for each in duplicates]


def _mask(n_images: int, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(n_images, dtype=bool)
    mask[positions] = True
    return mask


def _neighbours(pairs: NDArray[np.int64], is_marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) who is similar to a marked one."""
    mask = np.zeros(len(is_marked), dtype=bool)
    one, other = pairs.T
    mask[other[is_marked[one]]] = True
    mask[one[is_marked[other]]] = True
    return mask


def _is_blind(unit: NDArray[Any]) -> bool:
    """Whether many random pairs of images all but coincide."""
    if len(unit) < 2:
        return False
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(unit), (2, SAMPLED_PAIRS))
    one, other = one[one != other], other[one != other]
    n_near = 0
    for start in range(0, len(one), BLOCK):  # all pairs at once are more than the embeddings of most studies
        some = slice(start, start + BLOCK)
        n_near += int((np.einsum("pd,pd->p", unit[one[some]], unit[other[some]]) > COSINE).sum())
    return n_near > BLIND * len(one)
