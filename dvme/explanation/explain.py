"""`dvme explain`: what a saved head looks at, relies on, and whether its backbones say the same."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data import MISSING
from dvme.data.findings import are_findings, names_in
from dvme.data.targets import Targets
from dvme.errors import DataError, OptionError, parameter
from dvme.explanation.ablation import Ablation, LeftOut, leave_one_out, leave_one_out_retrained
from dvme.explanation.attention_map import full_attention
from dvme.explanation.attention_summary import AttentionSummary, summarise_attention
from dvme.explanation.similarity import Similarity, similarity
from dvme.files import check_destination, written_aside
from dvme.heads import ATTENTION_HEADS, Embedded, FittedHead, Job, full_name
from dvme.heads.saved_head import SavedHead, keys_of, subset_hash
from dvme.heads.saving import load_head
from dvme.json_values import ToJson, as_json
from dvme.places import check_head, open_cache
from dvme.prediction.sources import check_fits
from dvme.runtime import Progress, Runtime, automatic, silent
from dvme.shown.result import Shown, some_lines
from dvme.study.design.splits import groups_to_resample
from dvme.text import difference_text
from dvme_cache import EmbeddingCache

FULL_MAP_IMAGES = 64
"""Images that a full T x T map is averaged over, at most."""


@dataclass(frozen=True, repr=False)
class ExplainReport(Shown, ToJson):
    """The explanation of one saved head.

    `to_frame()` has a row for each backbone that is left out, of the head as it is and of one that was fitted again:
    what that changes in log loss and AUC, and the ends of the intervals.
    """

    head: str
    backbones: tuple[str, ...]
    n_folds: int
    n_images: int
    images: str
    """Which images these are, in words."""
    attention: AttentionSummary | None
    """None for a head without attention."""
    reliance: Ablation
    """Loss with one backbone's embedding replaced by its mean; the head stays as it is."""
    retrained: Ablation | None
    """Loss of the head fitted again on the other backbones; where it was asked for."""
    similarity: Similarity
    """Linear CKA between the backbones."""
    full_map: str | None
    """File of the T x T map, where it was asked for."""

    def _lines(self) -> list[str]:
        first = f"{self.head} on {'+'.join(self.backbones)}, explained on {self.images}"
        lost = [
            f"without {each.backbone}: AUC {difference_text(each.auc_difference)}" for each in self.reliance.left_out
        ]
        return [first, *some_lines(lost)]

    def _records(self) -> list[dict[str, Any]]:
        asked = [own for own in (self.reliance, self.retrained) if own is not None]
        return [_record(each, is_retrained=own.is_retrained) for own in asked for each in own.left_out]


def _record(without: LeftOut, *, is_retrained: bool) -> dict[str, Any]:
    numbers: dict[str, Any] = {"backbone": without.backbone, "is_retrained": is_retrained}
    for name, found in (("log_loss", without.log_loss_difference), ("auc", without.auc_difference)):
        numbers |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
    return numbers


@public
def explain(  # noqa: PLR0913 - the command's options, one to one
    head: str | Path,
    cache: str | Path,
    *,
    all_images: bool = False,
    images: NDArray[np.uint8] | None = None,
    retrain: bool = False,
    full_map: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> ExplainReport:
    """Explain a head: attention between its backbones, what each is good for, and how alike they are.

    Of a head on one backbone that is how far its scores lie above those of a head that knows nothing of the image.

    Everything is computed on labelled images of the cache that the head neither learned from nor chose on. Of several
    findings losses are means over the cells that are known, AUCs means over the findings that can be judged, and
    attention is shown of the images with each. A head that learned from views is explained by the plain images.

    Args:
        head: a folder that `dvme probe --save` made, or that a run has in `RUN/heads`.
        cache: with the embeddings of the head's backbones, and labels.
        all_images: take the images that the head was fitted on as well; losses then flatter it.
        images: (n, 16) content ids of the images to explain on, whatever else the cache holds; None: all labelled ones
            that the head neither learned from nor chose on.
        retrain: also fit the head again without each backbone: with its hyper-parameters, rows and seeds. Of uncertain
            findings it then learns nothing.
        full_map: a .npy file for the (T, T) attention of the first fold's head, mean over up to 64 images.
        out: a .json file for the report.
        force: replace files that are there.
        runtime: device and memory budget of heads that are fitted again.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, CacheError: one line that says what is wrong and what to do.

    Example:
        >>> report = dvme.explain("run/heads/linear--dino", "my.zarr")
        >>> report.backbones, report.n_folds
        (('dino',), 2)
    """
    for path, suffix in ((full_map, ".npy"), (out, ".json")):
        if path is not None:
            check_destination(path, (suffix,), force=force)
    check_head(head, cache)
    saved = load_head(head)
    if saved.own_backbones:
        step = "; explain a head on the frozen backbone, such as linear of the same run"
        raise OptionError(f"{head} is {saved.name}, and each of its folds has a backbone of its own" + step)
    if retrain and len(saved.backbones) < 2:
        raise OptionError(f"{head} has one backbone, and without it nothing is left; leave out " + parameter("retrain"))
    if retrain and saved.views is not None:
        message = f"{head} learned from views of images, and would be fitted again on plain ones; leave out "
        raise OptionError(message + parameter("retrain"))
    if full_map is not None and saved.name != "dvme":
        message = f"a map of all tokens is of the dvme head, {head} is {saved.name}; leave out "
        raise OptionError(message + parameter("full_map"))
    store = open_cache(cache)
    check_fits(saved, store)
    rows = store.complete_rows(saved.backbones)
    if images is not None:
        rows = rows[needed(saved, store.samples.ids[rows], images)]
    report, attention = explained(
        saved,
        store,
        *_labelled(store, saved, rows),
        images=images,
        all_images=all_images,
        retrain=retrain,
        is_mapped=full_map is not None,
        runtime=runtime,
        progress=progress,
    )
    if full_map is not None and attention is not None:
        with written_aside(Path(full_map)) as aside, aside.open("wb") as file:
            np.save(file, attention)
        report = replace(report, full_map=os.fspath(full_map))
    if out is not None:
        with written_aside(Path(out)) as aside:
            aside.write_text(as_json(report.to_json(), indent=2) + "\n")
    return report


def explained(  # noqa: PLR0913 - as of `explain`
    saved: SavedHead,
    store: EmbeddingCache,
    rows: NDArray[Any],
    labels: NDArray[Any],
    groups: NDArray[Any],
    *,
    images: NDArray[np.uint8] | None = None,
    all_images: bool = False,
    retrain: bool = False,
    is_mapped: bool = False,
    runtime: Runtime | None = None,
    progress: Progress = silent,
) -> tuple[ExplainReport, NDArray[Any] | None]:
    """`explain` on rows of a cache whose labels are known, and the (T, T) attention of the first fold's head.

    `rows` are (N,) of a cache that the head fits, with embeddings of every backbone and those that it was fitted on
    among them; `labels` are (N,) indices of its classes, or (N, L) of its findings, `groups` (N,), "" for none. The
    attention between all tokens is None unless it `is_mapped`. The other arguments are those of `explain`.

    Raises:
        DataError: if there is nothing to explain on.
    """
    data = Embedded({name: store.embeddings(name).read(rows) for name in saved.backbones}, labels, len(saved.classes))
    jobs = _jobs(saved, store.samples.ids[rows])
    test, described = _explained(jobs, store.samples.ids[rows], saved, images, all_images=all_images)
    heads = [fold.head for fold in saved.folds]
    blocks, grouped = data.blocks(saved.backbones, test), groups[test]
    units = groups_to_resample(grouped)
    alike = similarity(dict(zip(saved.backbones, blocks, strict=True)))  # refuses what is too little for anything
    report = ExplainReport(
        head=full_name(saved.head),
        backbones=saved.backbones,
        n_folds=len(heads),
        n_images=len(test),
        images=described if saved.views is None else f"{described}, seen plain",
        attention=summarise_attention(
            heads, blocks, labels[test], backbones=saved.backbones, classes=saved.classes, progress=progress
        )
        if saved.name in ATTENTION_HEADS
        else None,
        reliance=leave_one_out(heads, jobs, data, test, groups=units),
        retrained=leave_one_out_retrained(heads, jobs, data, test, groups=units, runtime=runtime, progress=progress)
        if retrain
        else None,
        similarity=alike,
        full_map=None,
    )
    return report, _full_map(heads[0], blocks) if is_mapped else None


def needed(saved: SavedHead, ids: NDArray[np.uint8], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) which of (N, 16) content ids an explanation on some images needs: those, and what the head was fitted on."""
    is_needed: NDArray[np.bool_] = np.isin(keys_of(ids), keys_of(np.concatenate([images, saved.fitted_ids])))
    return is_needed


def _labelled(
    store: EmbeddingCache, saved: SavedHead, rows: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Those of the rows with a label, which are to be of the head's classes; their class indices and groups."""
    columns = store.columns(["label", "group"])
    names = columns["label"][rows]
    if are_findings(names) != saved.is_multilabel:
        what = ("one class", "several findings") if saved.is_multilabel else ("several findings", "one class")
        raise DataError(
            f"images of {store.location} have {what[0]} each, and those that the head was fitted on had {what[1]}; "
            "label the cache as it was then"
        )
    index = {name: c for c, name in enumerate(saved.classes)}
    strange = sorted(names_in(names) - set(index))
    if strange:
        raise DataError(
            f"{store.location} has class {strange[0]!r}, which the head does not know; label the cache as it was when "
            "the head was fitted"
        )
    rows = rows[names != MISSING]
    if not len(rows):
        raise DataError(f"{store.location} has no labelled image with embeddings of {', '.join(saved.backbones)}")
    names = columns["label"][rows]
    if saved.is_multilabel:
        values = Targets.of(names, saved.classes).values
        recorded = {*store.class_order, *names_in(names)}
        values[:, [name not in recorded for name in saved.classes]] = np.nan  # the cache says nothing of them
        return rows, values, columns["group"][rows]
    labels = np.array([index[str(name)] for name in names], dtype=np.int64)
    return rows, labels, columns["group"][rows]


def _jobs(saved: SavedHead, ids: NDArray[np.uint8]) -> list[Job]:
    """What each fold was fitted on, as positions among the labelled images."""
    keys = keys_of(ids)
    order = np.argsort(keys)

    def positions(fold_ids: NDArray[np.uint8]) -> NDArray[Any]:
        return order[np.searchsorted(keys, keys_of(fold_ids), sorter=order)]

    for fold in saved.folds:
        is_here = np.isin(keys_of(np.concatenate([fold.train_ids, fold.validation_ids])), keys)
        if not is_here.all():
            which = f"{np.count_nonzero(~is_here)} images that the head learned from or chose on"
            raise DataError(f"{which} are not labelled in this cache; name its own cache")
    return [
        Job(saved.head, saved.backbones, positions(fold.train_ids), positions(fold.validation_ids), fold.seed)
        for fold in saved.folds
    ]


def _explained(
    jobs: Sequence[Job],
    ids: NDArray[np.uint8],
    saved: SavedHead,
    images: NDArray[np.uint8] | None,
    *,
    all_images: bool,
) -> tuple[NDArray[Any], str]:
    """Positions of the images to explain on, and what they are."""
    if all_images:
        return np.arange(len(ids)), f"all {len(ids):,} labelled images, those that the head was fitted on among them"
    is_new = np.ones(len(ids), dtype=bool)
    for job in jobs:
        is_new[job.train] = is_new[job.validation] = False
    if images is not None:
        is_new &= np.isin(keys_of(ids), keys_of(images))
    new = np.flatnonzero(is_new)
    if not len(new):
        raise DataError(
            "the head was fitted on every labelled image of this cache; pass "
            + parameter("all_images", True)
            + " to explain on those"
        )
    is_test = subset_hash(ids[new]) == saved.test_hash
    return new, f"the head's {len(new):,} test images" if is_test else f"{len(new):,} labelled images new to the head"


def _full_map(head: FittedHead, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    n_images = len(blocks[0])
    # Evenly over all of them: rows often come class by class.
    some = np.arange(min(n_images, FULL_MAP_IMAGES)) * n_images // min(n_images, FULL_MAP_IMAGES)
    return full_attention(head, [block[some] for block in blocks])
