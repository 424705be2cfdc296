"""Segmentations as methods of a study: on tokens of dense features, on whole maps, or by U-Nets on the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import kept_spec
from dvme.errors import DataError, parameter
from dvme.extraction.decoding import Work
from dvme.metrics.segmentation import outline_scores
from dvme.runtime import Progress, Runtime
from dvme.segmentation.conv import ConvHead
from dvme.segmentation.fitting import fit_segmenters
from dvme.segmentation.maps import FINER, DenseMaps
from dvme.segmentation.scene import Scene, SegmentJob
from dvme.segmentation.unet.head import Unet
from dvme.segmentation.unet.images import Images, squashed
from dvme.study.by_class import ceiling_counts
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Assignment, Predicted
from dvme.study.images import check_images
from dvme.study.methods import Method
from dvme.study.pictures import Pictures, pictures_of

FIT = "fit"
OWN_STAGES = frozenset({"masks", "read", "read images", "read masks", "train"})
"""Those that count something else than jobs."""
Asked = tuple[Callable[..., NDArray[np.int64]], Callable[[int], NDArray[np.bool_]]]


def scene_of(snapshot: Snapshot) -> Scene:
    """The images of a study as segmentations see them."""
    maps = {name: DenseMaps(table) for name, table in snapshot.backbones.items()}
    return Scene(maps, snapshot.rows, snapshot.ids, snapshot.masks)


def fit_segmentations(
    assignments: Sequence[Assignment],
    snapshot: Snapshot,
    test: NDArray[np.int64],
    *,
    runtime: Runtime,
    budget: int,
    progress: Progress,
) -> Iterator[Predicted]:
    """Fit every method on its draw, and count pixels of the images that it chose on and of the test images.

    Tokens are standardised by all images but those of the test part, whose masks nobody looks at before they score.

    Args:
        assignments: what to fit.
        snapshot: of a segmentation.
        test: positions of the test images.
        runtime: the device.
        budget: bytes of tokens, maps and heads on the CPU.
        progress: told (stage, done, total): of `fit` assignments, of OWN_STAGES what they count.

    Yields:
        Each assignment once, as soon as it is done.

    Raises:
        DataError, OptionError: if masks or images are gone or changed, or the memory does not hold an assignment.
    """
    by_unet = [position for position, each in enumerate(assignments) if isinstance(each.method.head, Unet)]
    others = [position for position in range(len(assignments)) if position not in set(by_unet)]
    unets = _Unets([assignments[position] for position in by_unet], snapshot, runtime, budget) if by_unet else None
    scene = scene_of(snapshot)

    def tell(stage: str, done: int, total: int, before: int = 0) -> None:
        progress(*((stage, done, total) if stage in OWN_STAGES else (FIT, before + done, len(assignments))))

    jobs = [_job(assignments[position]) for position in others]
    reference = np.setdiff1d(np.arange(len(snapshot)), test)
    for place, segmenter, seconds in fit_segmenters(
        jobs, scene, runtime=runtime, budget=budget, progress=tell, reference=reference
    ):
        asked: Asked = (partial(segmenter.counts, scene), partial(segmenter.planes, scene))
        own = others[place], assignments[others[place]]
        yield _predicted(*own, segmenter, asked, seconds, snapshot, test)
    if unets is None:
        return
    for place, fitted, seconds in unets.fit(partial(tell, before=len(others))):

        def planes(position: int, fitted: Any = fitted) -> NDArray[np.bool_]:
            n_rows, n_columns = snapshot.masks.sizes[position].tolist()
            found: NDArray[np.bool_] = fitted.planes(unets.images, position, (n_rows, n_columns))
            return found

        asked = partial(fitted.counts, unets.images, snapshot.masks), planes
        own = by_unet[place], assignments[by_unet[place]]
        yield _predicted(*own, fitted, asked, seconds, snapshot, test)


def ceilings(
    shapes: Mapping[int, tuple[int, int]], snapshot: Snapshot, test: NDArray[np.int64], progress: Progress
) -> dict[int, NDArray[np.int64]]:
    """What the grid of each method makes of the test images' own masks: down to it and up again.

    Args:
        shapes: the grids of the methods, by position, see `grids`.
        snapshot: of the images.
        test: positions of the test images.
        progress: told of the masks.

    Returns:
        By position of the method (n, L, 3) pixels, see `ceiling_counts`.
    """
    counts = ceiling_counts(snapshot.masks, test, set(shapes.values()), progress)
    return {position: counts[shape] for position, shape in shapes.items()}


def _shape(method: Method, scene: Scene) -> tuple[int, int]:
    """Rows and columns of what a method tells classes of."""
    if isinstance(method.head, Unet):
        spec = kept_spec(scene.maps[method.backbones[0]].embeddings)
        side = squashed(spec, method.head.size).preprocess.crop
        return side, side
    rows, columns = scene.finest(method.backbones)
    finer = FINER if isinstance(method.head, ConvHead) else 1
    return finer * rows, finer * columns


def grids(methods: Sequence[Method], snapshot: Snapshot) -> dict[int, tuple[int, int]]:
    """Rows and columns of what each method tells classes of, by position in `methods`."""
    scene = scene_of(snapshot)
    return {position: _shape(method, scene) for position, method in enumerate(methods)}


class _Unets:
    """The assignments of U-Nets, checked before anything else is fitted."""

    def __init__(self, assignments: Sequence[Assignment], snapshot: Snapshot, runtime: Runtime, budget: int) -> None:
        from dvme.segmentation.unet.fitting import UnetJob, check_unets

        check_images(snapshot, runtime)
        names = dict.fromkeys(each.method.backbones[0] for each in assignments)
        for name in names:
            _check_weights(snapshot, name, runtime)
        specs = {name: replace(kept_spec(snapshot.backbones[name]), dense="") for name in names}
        work = [
            Work(position, Path(path), content_id.tobytes())
            for position, (path, content_id) in enumerate(zip(snapshot.paths, snapshot.ids, strict=True))
        ]
        workplace = assignments[0].workplace
        folder = None if workplace is None else workplace.parent
        self.images = Images(work, specs, runtime=runtime, n_bytes=budget, folder=folder)
        self.jobs = [
            UnetJob(each.method.head, each.method.backbones, each.train, each.validation, each.seed, each.workplace)
            for each in assignments
            if isinstance(each.method.head, Unet)
        ]
        self._masks, self._runtime = snapshot.masks, runtime
        self._room = check_unets(self.jobs, self.images, self._masks, runtime)

    def fit(self, progress: Progress) -> Iterator[tuple[int, Any, float]]:
        """Train them, one after the other."""
        from dvme.segmentation.unet.fitting import fit_unets

        given = self.jobs, self.images, self._masks
        yield from fit_unets(*given, runtime=self._runtime, progress=progress, room=self._room)


def _check_weights(snapshot: Snapshot, name: str, runtime: Runtime) -> None:
    """Refuse an encoder whose weights are no longer those of the cached maps.

    Raises:
        DataError: naming the backbone.
    """
    from dvme.backbones.loading.model import load_backbone

    table = snapshot.backbones[name]
    now = load_backbone(kept_spec(table), device=runtime.torch_device()).weights_hash
    if now != table.fingerprint.fields.get("weights"):
        raise DataError(
            f"the weights of {name} have changed since its maps were cached; extract it again, or leave its U-Net "
            "out of " + parameter("heads")
        )


def _job(each: Assignment) -> SegmentJob:
    return SegmentJob(each.method.head, each.method.backbones, each.train, each.validation, each.seed, each.workplace)


def _pictures(
    own: Assignment,
    planes_of: Callable[[int], NDArray[np.bool_]],
    counts: NDArray[np.int64],
    snapshot: Snapshot,
    test: NDArray[np.int64],
) -> Pictures | None:
    """What a fitted assignment makes of some test images, where it is asked."""
    if not own.is_pictured:
        return None
    shape = _shape(own.method, scene_of(snapshot))
    return pictures_of(planes_of, counts, test, shape, snapshot.masks, snapshot.ids)


class _Outlines:
    """Scores of the outlines of test images, found while their pixels are counted."""

    def __init__(self, n_images: int, n_classes: int, tolerance: float) -> None:
        self.found = np.full((n_images, n_classes, 2), np.nan)
        self._tolerance = tolerance

    def __call__(self, place: int, predicted: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
        """Take an image in."""
        self.found[place] = outline_scores(predicted, truth, self._tolerance)


def _predicted(
    position: int,
    own: Assignment,
    fitted: Any,
    asked: Asked,
    seconds: float,
    snapshot: Snapshot,
    test: NDArray[np.int64],
) -> Predicted:
    """What came of an assignment.

    Args:
        position: of the assignment.
        own: the assignment.
        fitted: a segmenter or a U-Net.
        asked: of it, what counts pixels of images, and what tells the planes of one.
        seconds: of the fit.
        snapshot: of the images.
        test: positions of the test images.
    """
    counts_of, planes_of = asked
    n_classes = len(snapshot.masks.names)
    outlines = None if own.boundary is None else _Outlines(len(test), n_classes, own.boundary)
    counts = counts_of(test, told=outlines), counts_of(own.validation)
    return Predicted(
        position,
        fitted,
        *counts,
        seconds,
        dict(fitted.chosen),
        fitted.n_parameters,
        pictures=_pictures(own, planes_of, counts[0], snapshot, test),
        outlines=None if outlines is None else outlines.found,
    )
