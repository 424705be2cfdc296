"""What of a fitted job is kept as a head: to predict with, to explain, and for a study's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import kept_spec
from dvme.backbones.own.trained_on import TrainedOn, kept_trained_on
from dvme.backbones.own.writing import can_be_written
from dvme.heads import TUNED, UNETS, is_own
from dvme.heads.saved_head import SavedFold, SavedHead
from dvme.heads.saved_views import SavedViews
from dvme.heads.tuned.finetune import RANDOM
from dvme.heads.tuned.kept import OwnBackbone
from dvme.heads.tuned.on_images import FittedTuned
from dvme.notices import Aside
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Predicted
from dvme.study.ledger import FinishedJob
from dvme.study.methods import Method

NOT_OWN = "heads that are not dvme's own are not kept"
NOT_DESCRIBED = "trained backbones that no file can describe, of the hub or of Python, are not kept"
TEN_CROPS = "heads that average over ten crops are not kept"
FLOAT_BYTES = 4


def why_not_kept(method: Method, snapshot: Snapshot) -> str:
    """Why a head of a method cannot be kept, as a line begins; "" where it can."""
    head = method.head
    if snapshot.is_segmentation:  # all of them are dvme's own
        return ""
    if not is_own(head):
        return NOT_OWN
    if head.name not in TUNED:
        return ""
    if getattr(head, "test_crops", "one") != "one":
        return TEN_CROPS
    spec = kept_spec(snapshot.backbones[method.backbones[0]])
    return "" if can_be_written(spec) else NOT_DESCRIBED


def kept_notices(methods: Sequence[Method], snapshot: Snapshot) -> list[str]:
    """Which methods' heads are not kept, and why."""
    by_reason: dict[str, list[str]] = {}
    for method in methods:
        own = by_reason.setdefault(why_not_kept(method, snapshot), [])
        own.extend([method.name] if method.name not in own else [])
    return [f"{reason}: {', '.join(names)}" for reason, names in by_reason.items() if reason]


def bytes_notice(jobs: Sequence[tuple[Method, Sequence[FinishedJob]]]) -> list[str]:
    """What the backbones that were trained take on the disk, given the jobs of every method that is kept."""
    tuned = [(method, own) for method, own in jobs if method.head.name in {*TUNED, *UNETS}]
    if not tuned:
        return []
    n_bytes = FLOAT_BYTES * sum(job.n_parameters for _, own in tuned for job in own)
    names = ", ".join(dict.fromkeys(method.title for method, _ in tuned))
    return [Aside(f"a trained backbone is kept for each draw of {names}: {n_bytes / 1e6:,.0f} MB of weights")]


def saved_head(
    method: Method,
    snapshot: Snapshot,
    ids: Sequence[NDArray[np.uint8]],
    one: Predicted,
    done: FinishedJob,
    about: dict[str, Any],
) -> SavedHead:
    """One job's head with all that predicting and explaining need to know.

    Args:
        method: that was fitted.
        snapshot: of the study.
        ids: (n, 16) content ids of the images that trained, and of those that were chosen on.
        one: what came of the job.
        done: the same with its scores.
        about: `seed` and `job` of the fold, `classes` and `test_hash` of the study.

    Raises:
        OptionError: if a backbone that was trained cannot be described in a file.
    """
    train_ids, validation_ids = ids
    tables = [snapshot.backbones[name] for name in method.backbones]
    head, own = one.head, None
    if isinstance(head, FittedTuned):
        is_random = method.head.name == RANDOM  # whose weights have seen nothing
        known = None if is_random else kept_trained_on(tables[0].name, tables[0].provenance)
        before = known or TrainedOn.nothing()
        own = OwnBackbone.of(
            head.model, method.head.name, np.concatenate(ids), before, about["seed"], is_random=is_random
        )
        head = head.linear
    assert head is not None
    fold = SavedFold(
        head=head,
        train_ids=train_ids,
        validation_ids=validation_ids,
        seed=about["seed"],
        metrics=dict(done.scores["test"]),
        job=about["job"],
        backbone=own,
    )
    return SavedHead(
        head=method.head,
        backbones=method.backbones,
        dims=tuple(table.dim for table in tables),
        fingerprints=tuple(table.fingerprint for table in tables),
        classes=about["classes"],
        test_hash=about["test_hash"],
        folds=[fold],
        views=_saved_views(method, snapshot),
    )


def _saved_views(method: Method, snapshot: Snapshot) -> SavedViews | None:
    if not snapshot.views:
        return None
    by_view = list(zip(*(snapshot.views[name] for name in method.backbones), strict=True))
    return SavedViews(
        is_averaged=snapshot.averages_views,
        names=tuple(tuple(table.name for table in own) for own in by_view),
        fingerprints=tuple(tuple(table.fingerprint for table in own) for own in by_view),
    )
