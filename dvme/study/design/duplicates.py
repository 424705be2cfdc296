"""Near-duplicates on two sides of a split: a leak that no file name shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.notices import Aside
from dvme.study.design.crowds import links
from dvme.study.design.inspection import Similar
from dvme.study.design.manifest import FoldDraw, SubsetManifest
from dvme.study.design.similarity import COSINE
from dvme.study.design.splits import Fold
from dvme.text import counted, first_few

Redraw = Callable[[int, int, Fold], FoldDraw]


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


def across_splits(manifest: SubsetManifest, similar: Similar) -> list[NearDuplicate]:
    """The pairs of which one image is tested, or chosen on, and the other trained on; each pair once.

    A pair is listed under `test` if one of its images is, else under `validation` if some draw has it on two sides. Of
    a crowd, each image on one side is listed with one on the other.
    """
    n_images = len(manifest.images)
    is_test = _mask(n_images, manifest.test)
    is_train = np.stack([_mask(n_images, draw.train) for draw in manifest.draws])  # (draws, N)
    is_validation = np.stack([_mask(n_images, draw.validation) for draw in manifest.draws])
    in_pool = np.asarray((is_train | is_validation).any(axis=0))
    similar = _linked(similar, is_test, in_pool, is_validation, is_train)
    one, other = similar.pairs.T
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
        similar: the pairs of images, whatever their sides.
        draw_again: called with (repeat, fold, the rows that are left), so that what is left is balanced as well.
    """
    n_images = len(manifest.images)
    near_test = _neighbours(similar, _mask(n_images, manifest.test))
    draws = []
    for draw in manifest.draws:
        validation = draw.validation[~near_test[draw.validation]]
        near = near_test | _neighbours(similar, _mask(n_images, validation))
        train = draw.train[~near[draw.train]]
        draws.append(draw_again(draw.repeat, draw.fold, Fold(np.sort(train), np.sort(validation))))
    policy = dict(manifest.policy) | {"drop_duplicates": COSINE}
    policy |= {"approximate_duplicates": sorted(similar.approximate)} if similar.approximate else {}
    return replace(manifest, draws=tuple(draws), policy=policy)


def describe(
    duplicates: Sequence[NearDuplicate],
    names: Sequence[str] | NDArray[Any],
    blind: Sequence[str],
    *,
    are_dropped: bool = False,
    approximate: Sequence[str] = (),
) -> list[str]:
    """Lines for the reader, none where nothing was found.

    Args:
        duplicates: on two sides.
        names: (N,) the images' paths.
        blind: backbones that were passed over.
        are_dropped: whether they are left out of training.
        approximate: lines on searches that may have missed some.
    """
    lines = list[str]()
    if blind:
        lines.append(
            Aside(
                f"near-duplicates were not looked for in {', '.join(blind)}: "
                f"too many pairs of images have a cosine above {COSINE} for them to be copies"
            )
        )
    lines += approximate
    for side in ("test", "validation"):
        some = sorted((each for each in duplicates if each.side == side), key=lambda each: -each.cosine)
        if some:
            shown = first_few(
                f"{names[each.one]} and {names[each.other]} ({each.cosine:.4f} in {each.backbone})" for each in some
            )
            pairs = counted(len(some), "pair of near-duplicates", "pairs of near-duplicates")
            said = f"{pairs} between {side} and training images: {shown}"
            step = "dvme subsets --drop-duplicates leaves them out"  # the line is kept on disk
            lines.append(Aside(f"{said}: left out of training") if are_dropped else f"{said}; {step}")
    return lines


def listed(duplicates: Sequence[NearDuplicate], names: Sequence[str] | NDArray[Any]) -> list[dict[str, Any]]:
    """Plain values, with the images' paths in place of their positions."""
    return [asdict(each) | {"one": str(names[each.one]), "other": str(names[each.other])} for each in duplicates]


def _mask(n_images: int, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(n_images, dtype=bool)
    mask[positions] = True
    return mask


def _linked(
    similar: Similar,
    is_test: NDArray[np.bool_],
    in_pool: NDArray[np.bool_],
    is_validation: NDArray[np.bool_],
    is_train: NDArray[np.bool_],
) -> Similar:
    """With a few pairs of each crowd: between test and pool, and in the first draw that has it on two sides.

    Args:
        similar: of N images.
        is_test: (N,).
        in_pool: (N,).
        is_validation: (draws, N).
        is_train: (draws, N).
    """
    crowds = similar.crowds
    if not crowds:
        return similar
    parts = [(similar.pairs, similar.cosines, list(similar.backbones))]
    parts.append(links(crowds, np.where(is_test, 1, np.where(in_pool, 0, -1))))
    for validation, train in zip(is_validation, is_train, strict=True):
        is_split = [validation[crowd.rows].any() and train[crowd.rows].any() for crowd in crowds]
        split = [crowd for crowd, is_so in zip(crowds, is_split, strict=True) if is_so]
        parts.append(links(split, np.where(validation, 1, np.where(train, 0, -1))))
        crowds = tuple(crowd for crowd, is_so in zip(crowds, is_split, strict=True) if not is_so)
    pairs, cosines = (np.concatenate(each) for each in zip(*((p, c) for p, c, _ in parts), strict=True))
    backbones = [name for *_, names in parts for name in names]
    kept = np.sort(np.unique(pairs @ np.array([is_test.size, 1]), return_index=True)[1])  # in one backbone is enough
    return replace(
        similar, pairs=pairs[kept], cosines=cosines[kept], backbones=tuple(backbones[row] for row in kept.tolist())
    )


def _neighbours(similar: Similar, is_marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) who is similar to a marked one."""
    mask = np.zeros(len(is_marked), dtype=bool)
    one, other = similar.pairs.T
    mask[other[is_marked[one]]] = True
    mask[one[is_marked[other]]] = True
    for crowd in similar.crowds:
        marked = is_marked[crowd.rows]
        mask[crowd.rows] |= marked.sum() - marked > 0  # another one of it is marked
    return mask
