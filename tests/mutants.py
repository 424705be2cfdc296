"""Faults made by hand, to measure the teeth of the test suite: `python tests/mutants.py [--check]`.

Each is applied to a copy of the checkout, and tests that should catch it are run there.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 900.0
"""Seconds for one file or folder of tests; a mutant that makes them take longer is caught."""
CAUGHT, ESCAPED, ERROR, NOT_THERE = "caught", "ESCAPED", "ERROR", "not there"


@dataclass(frozen=True)
class Mutant:
    """A fault in the product."""

    name: str
    path: str
    old: str
    """Source text that is in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Files or folders of tests, of which one should catch it; the nearest first."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    name: str
    verdict: str
    seconds: float = 0.0
    detail: str = ""
    """The test that caught it, or why there is none."""


STATISTICS = (
    Mutant(
        "methods: attention comes without its rivals",
        "dvme/study/methods.py",
        "if with_controls and any(head.name in ATTENTION_HEADS for head in wanted.values()):",
        "if with_controls and set(wanted) >= set(ATTENTION_HEADS):",
        ("tests/dvme/study/test_methods.py",),
    ),
    Mutant(
        "crossed: covariance without the overlap",
        "dvme/stats/crossed.py",
        "correction = shared_rows / (1.0 - shared_rows)",
        "correction = shared_rows",
        ("tests/dvme/stats/test_crossed.py",),
    ),
    Mutant(
        "influence: variance by n, not by n - 1, of a class",
        "dvme/stats/influence.py",
        "(parts * (counts / (counts - 1.0))[:, None]).T @ parts",
        "parts.T @ parts",
        ("tests/dvme/stats/test_influence.py",),
    ),
    Mutant(
        "nadeau-bengio: training and test rows swapped",
        "dvme/stats/folds.py",
        "spread * (1.0 / n + n_test / n_train)",
        "spread * (1.0 / n + n_train / n_test)",
        ("tests/dvme/stats/test_folds.py",),
    ),
    Mutant(
        "influence: a score near 1 rests on more images than there are",
        "dvme/stats/t_comparison.py",
        "n = min(own / variance, most[0]) if",
        "n = own / variance if",
        ("tests/dvme/stats/test_influence.py",),
    ),
    Mutant(
        "holm: no running maximum",
        "dvme/stats/multiple.py",
        "np.minimum(np.maximum.accumulate(steps), 1.0)",
        "np.minimum(steps, 1.0)",
        ("tests/dvme/stats/test_multiple.py",),
    ),
    Mutant(
        "standing: p values of one comparison alone",
        "dvme/study/standing.py",
        "times(comparison.p, self.n_comparisons)",
        "times(comparison.p, 1)",
        ("tests/dvme/study/test_standing.py",),
    ),
    Mutant(
        "labels needed: straight in labels, not in their logarithm",
        "dvme/stats/curves.py",
        "needed = np.exp(logs[before] + np.clip(part, 0.0, 1.0) * (logs[first] - logs[before]))",
        "needed = n[before] + np.clip(part, 0.0, 1.0) * (n[first] - n[before])",
        ("tests/dvme/stats/test_curves.py",),
    ),
    Mutant(
        "auc: ties count whole",
        "dvme/metrics/ranking.py",
        'lost = np.einsum("rq,rq->r", positive, false - 0.5 * tied)',
        'lost = np.einsum("rq,rq->r", positive, false - tied)',
        ("tests/dvme/metrics/test_ranking.py",),
    ),
    Mutant(
        "decisions: a score that equals its threshold is a yes",
        "dvme/metrics/decisions.py",
        'given.scores[:, c], side="left")',
        'given.scores[:, c], side="right")',
        ("tests/dvme/metrics/test_decisions.py",),
    ),
    Mutant(
        "label mean: a label without a value counts as 0",
        "dvme/metrics/labelled.py",
        "mean = np.divide(total, n_labels, out",
        "mean = np.divide(total, values.shape[-1], out",
        ("tests/dvme/metrics/test_labelled.py",),
    ),
    Mutant(
        "shares: heads' mean gains without bound",
        "dvme/stats/shares.py",
        "most = (n_images * min(n_heads, MOST_GAINED), float(found.units.n))",
        "most = (n_images * n_heads * 99.0, float(n_images))",
        ("tests/dvme/stats/test_shares.py",),
    ),
    Mutant(
        "miscalibration: an image alone in its bin has no noise",
        "dvme/stats/miscalibration.py",
        "np.linalg.eigh(covariance + np.diag(short))",
        "np.linalg.eigh(covariance)",
        ("tests/dvme/stats/test_miscalibration.py",),
    ),
    Mutant(
        "assess: thresholds of test images",
        "dvme/study/assess.py",
        "[self.asked.thresholds(each.truth, each.odds[0]) for each in self.validation]",
        "[self.asked.thresholds(self.test.truth, each) for each in self.test.odds]",
        ("tests/dvme/study/test_assess.py",),
    ),
    Mutant(
        "operating points: the next threshold, which misses the target",
        "dvme/metrics/operating_points.py",
        "values[np.argmax(shares >= specificity - ROUNDING)]",
        "values[np.argmax(shares > specificity + ROUNDING)]",
        ("tests/dvme/metrics/test_operating_points.py",),
    ),
    Mutant(
        "calibration: bins of equal mass ignore how often an image counts",
        "dvme/metrics/calibration.py",
        "twice_middle = 2.0 * np.cumsum(weight, axis=0) - weight",
        "twice_middle = 2.0 * np.cumsum(weight, axis=0)",
        ("tests/dvme/metrics/test_calibration.py",),
    ),
    Mutant(
        "oracle auc: every fraction on top of those before",
        "dvme/metrics/referral.py",
        "np.cumsum(limits, axis=0) if is_cumulative else limits",
        "np.cumsum(limits, axis=0)",
        ("tests/dvme/metrics/test_referral.py",),
    ),
    Mutant(
        "risk-coverage: the mean over confidences, not over images",
        "dvme/metrics/referral.py",
        'ratio(np.einsum("vr,vr->r", kept, risk), kept.sum(axis=0))',
        "ratio(risk.sum(axis=0), (kept > 0).sum(axis=0))",
        ("tests/dvme/metrics/test_referral.py",),
    ),
    Mutant(
        "kappa: chance in proportion, whatever disagreement is asked for",
        "dvme/metrics/agreement.py",
        "(costs * expected).sum(axis=(-2, -1))",
        "(_apart(tables.shape[-1]) * expected).sum(axis=(-2, -1))",
        ("tests/dvme/metrics/test_agreement.py",),
    ),
    Mutant(
        "standing: an interval of its own, not of the table",
        "dvme/study/standing.py",
        "level=1.0 - ALPHA / self.n_comparisons",
        "level=1.0 - ALPHA",
        ("tests/dvme/study/test_standing.py",),
    ),
    Mutant(
        "elsewhere: test images give methods nothing in common",
        "dvme/stats/elsewhere.py",
        "total = covariance(units, np.stack([cell.parts.mean(axis=1) for cell in cells], axis=1))",
        "total = np.diag(np.diag(covariance(units, np.stack([cell.parts.mean(axis=1) for cell in cells], axis=1))))",
        ("tests/dvme/stats/test_elsewhere.py",),
    ),
    Mutant(
        "drop: the luck of heads is not paired",
        "dvme/stats/unpaired.py",
        "differences = self.one.folds - self.other.folds",
        "differences = self.one.folds - self.other.folds[::-1]",
        ("tests/dvme/stats/test_unpaired.py",),
    ),
    Mutant(
        "weighted sum: weights count for the ends, not for their squares",
        "dvme/stats/unpaired.py",
        "math.hypot(*(",
        "math.fsum(abs(each) for each in (",
        ("tests/dvme/stats/test_unpaired.py",),
    ),
    Mutant(
        "sites: own images of classes that the site lacks count",
        "dvme/study/sites/scores.py",
        "set.intersection(*(set(own.tolist()) for own in labels))",
        "set.union(*(set(own.tolist()) for own in labels))",
        ("tests/dvme/study/sites/test_scores.py",),
    ),
    Mutant(
        "sites: each side is the mean over what it can judge itself",
        "dvme/study/sites/scores.py",
        "return [side.over(judged) for side in sides]",
        "return [side.over(side.judged | judged) for side in sides]",
        ("tests/dvme/study/sites/test_scores.py",),
    ),
    Mutant(
        "sites: what is not known of a finding is absent",
        "dvme/study/sites/matching.py",
        "np.where(np.isnan(values).any(axis=1), np.nan, 0.0)",
        "np.zeros(len(values))",
        ("tests/dvme/study/sites/test_matching.py",),
    ),
    Mutant(
        "sites: near-duplicates of two sites are none",
        "dvme/study/sites/external.py",
        "pairs = list(combinations(every, 2))",
        "pairs = [(STUDY, name) for name in sites]",
        ("tests/dvme/study/sites/test_external.py",),
    ),
    Mutant(
        "kept heads: those of several labels are not found again",
        "dvme/study/kept_heads.py",
        "in FORMATS",
        "== 2",
        ("tests/dvme/study/sites/test_judging.py",),
    ),
    Mutant(
        "gaps: patients of both subgroups count for nothing",
        "dvme/stats/subgroups.py",
        "Unpaired(_of(some[g]), _of(some[h]), shared_rows, parts[g].T @ parts[h])",
        "Unpaired(_of(some[g]), _of(some[h]), shared_rows)",
        ("tests/dvme/stats/test_subgroups.py",),
    ),
    Mutant(
        "discrepancy: a patient's own images are pairs as well",
        "dvme/stats/shift.py",
        "    np.fill_diagonal(sums, 0.0)\n",
        "",
        ("tests/dvme/stats/test_shift.py",),
    ),
    Mutant(
        "platt: targets of 0 and 1",
        "dvme/stats/scaling.py",
        "target = t * (positive + 1.0) / (positive + 2.0) + (1.0 - t) / (negative + 2.0)",
        "target = t",
        ("tests/dvme/stats/test_scaling.py",),
    ),
    Mutant(
        "robustness: images of the same patient are neighbours",
        "dvme/heads/neighbours/robustness.py",
        "is_own = of_group[near] == of_group[some, None]",
        "is_own = near == some[:, None]",
        ("tests/dvme/heads/neighbours/test_robustness.py",),
    ),
    Mutant(
        "log odds: the likely class against all, itself included",
        "dvme/metrics/classification.py",
        "        rest[likely] = -np.inf\n",
        "",
        ("tests/dvme/metrics/test_classification.py",),
    ),
    Mutant(
        "fusion verdicts: a fusion of one backbone stands in for the single one",
        "dvme/study/roles.py",
        "return [m for m in alone if self.heads[m] not in FUSIONS and self.heads[m] not in TRAINED]",
        "return alone",
        ("tests/dvme/study/test_roles.py", "tests/dvme/study/test_findings.py"),
    ),
    Mutant(
        "standing: the leader is chosen on the test set",
        "dvme/study/standing.py",
        "return max(known, key=lambda m: self.validation[m, size], default=None)",
        "return max(known, key=lambda m: self.scored[m, size].estimate, default=None)",
        ("tests/dvme/study/test_standing.py", "tests/dvme/study/test_judge.py"),
    ),
    Mutant(
        "against: it is enough to beat any of them",
        "dvme/study/standing.py",
        '"gain" if words == {"gain"} else',
        '"gain" if "gain" in words else',
        ("tests/dvme/study/test_standing.py",),
    ),
)

CACHE = (
    # What one process reads and writes.
    Mutant(
        "shards: a file that is too long passes",
        "cache/dvme_cache/shards.py",
        "if len(data) != self.file_bytes:",
        "if len(data) < self.file_bytes:",
        ("tests/cache/test_shards.py",),
    ),
    Mutant(
        "shards: a dense read forgets the gaps",
        "cache/dvme_cache/shards.py",
        "out[...] = whole[places - places[0]]",
        "out[...] = whole[: len(places)]",
        ("tests/cache/test_shards.py",),
    ),
    Mutant(
        "sealing: a row's proof without what made it",
        "cache/dvme_cache/sealing.py",
        "return np.asarray(checksums ^ image ^ made_by, dtype=np.uint32)",
        "return np.asarray(checksums ^ image, dtype=np.uint32)",
        ("tests/cache/test_sealing.py", "tests/cache/test_integrity.py"),
    ),
    Mutant(
        "integrity: failed rows count as lost",
        "cache/dvme_cache/integrity.py",
        "return Remains(states.astype(np.uint8), features, checksums, counted & ~is_kept & ~is_failed)",
        "return Remains(states.astype(np.uint8), features, checksums, counted & ~is_kept)",
        ("tests/cache/test_integrity.py", "tests/reliability/test_corruption.py"),
    ),
    # The order of writes: what a killed process leaves.
    Mutant(
        "files: renamed without a sync",
        "cache/dvme_cache/files.py",
        "            os.fsync(file.fileno())\n        aside.replace(path)",
        "        aside.replace(path)",
        ("tests/cache/test_files.py",),
    ),
    Mutant(
        "embeddings: the states are written before what they vouch for",
        "cache/dvme_cache/embeddings.py",
        "        each(lambda write: write(), before_the_states, self._files.n_readers)\n"
        "        self.state.write(shard, states)\n",
        "        self.state.write(shard, states)\n"
        "        each(lambda write: write(), before_the_states, self._files.n_readers)\n",
        ("tests/cache/test_cache_killed.py", "tests/reliability/test_kill.py"),
    ),
    Mutant(
        "store: the copy is written last",
        "cache/dvme_cache/store.py",
        "for place in reversed(_places(key)):",
        "for place in _places(key):",
        ("tests/cache/test_store.py",),
    ),
    Mutant(
        "samples: rows count before their columns are there",
        "cache/dvme_cache/samples.py",
        '            write_tail(self._array("content_id"), start, table)\n'
        '            write_tail(self._array("path"), start, np.array(list(new.values()), dtype=object))\n'
        "            ids = np.concatenate([self.ids, table])\n"
        "            self._commit(start + len(new))\n",
        "            ids = np.concatenate([self.ids, table])\n"
        "            self._commit(start + len(new))\n"
        '            write_tail(self._array("content_id"), start, table)\n'
        '            write_tail(self._array("path"), start, np.array(list(new.values()), dtype=object))\n',
        ("tests/cache/test_cache_killed.py", "tests/reliability/test_kill.py"),
    ),
    Mutant(
        "samples: a pruned row loses its id first",
        "cache/dvme_cache/samples.py",
        "        paths[: len(everything)] = everything\n        ids[: len(table)] = table\n",
        "        ids[: len(table)] = table\n        paths[: len(everything)] = everything\n",
        ("tests/cache/test_samples.py", "tests/reliability/test_kill.py"),
    ),
    # Several processes, and a bucket.
    Mutant(
        "tables: readers lose the generation before",
        "cache/dvme_cache/tables.py",
        "self._remove_generations({generation, previous} if is_previous_kept else {generation})",
        "self._remove_generations({generation})",
        ("tests/cache/test_tables.py", "tests/reliability/test_concurrency.py"),
    ),
    Mutant(
        "opened: a backbone that was replaced stays what it was",
        "cache/dvme_cache/opened.py",
        "if found is None or stamp is None or stamp != opened_at or found.n_rows != n_rows:",
        "if found is None or found.n_rows != n_rows:",
        ("tests/cache/test_opened.py",),
    ),
    Mutant(
        "reading: an old proof is never looked up anew",
        "cache/dvme_cache/reading.py",
        "partial(self.checksums, shard, is_fresh=is_fresh),",
        "partial(self.checksums, shard),",
        ("tests/cache/test_reading.py",),
    ),
    Mutant(
        "parallel: the error that came first in time",
        "cache/dvme_cache/parallel.py",
        "raise turns.errors[min(turns.errors)]",
        "raise turns.errors[next(iter(turns.errors))]",
        ("tests/cache/test_parallel.py",),
    ),
    Mutant(
        "locks: nobody waits",
        "cache/dvme_cache/locks.py",
        "            if not patience(holder):\n",
        "            if True:\n",
        ("tests/reliability/test_concurrency.py", "tests/cache/test_locks.py"),
    ),
    Mutant(
        "parts: one writer beside them",
        "cache/dvme_cache/parts.py",
        "            living = locks.living(lambda _: True)\n            if living is None:\n",
        "            living = locks.living(lambda _: False)\n            if living is None:\n",
        ("tests/cache/test_parts.py",),
    ),
    Mutant(
        "parts: what another one is writing is removed",
        "cache/dvme_cache/parts.py",
        "return bool(self.owns(int(found[1] or found[2]))) if found else EMBEDDING_CHUNK.match(key) is None",
        "return True",
        ("tests/cache/test_parts.py",),
    ),
    Mutant(
        "remote: deletes without asking the lease",
        "cache/dvme_cache/remote.py",
        '"""Remove an object, if it is there."""\n        import obstore\n\n        self._check_lease()\n',
        '"""Remove an object, if it is there."""\n        import obstore\n\n',
        ("tests/cache/test_remote.py",),
    ),
)

EXTRACTION = (
    # Extraction, of real images by real models.
    Mutant(
        "extraction: what cannot be read just now fails for good",
        "dvme/extraction/gathering.py",
        "growing.unread[row] = content.reason",
        "growing.failed[row] = content.reason",
        ("tests/dvme/extraction/test_one_pass.py", "tests/dvme/extraction/test_extract.py"),
    ),
    Mutant(
        "listing: a folder that cannot be listed is passed over",
        "dvme/data/listing.py",
        '            found.unlisted[place or "."] = why(error)\n',
        "",
        ("tests/dvme/data/test_listing.py",),
    ),
    Mutant(
        "prune: what cannot be listed counts as gone",
        "dvme/upkeep/prune.py",
        "    if samples.unlisted:\n",
        "    if False:\n",
        ("tests/dvme/upkeep/test_prune.py",),
    ),
    Mutant(
        "tables: a header cell keeps its blanks",
        "dvme/data/tables.py",
        "    return name.strip().strip(INVISIBLE).strip()\n",
        "    return name\n",
        ("tests/dvme/data/test_tables.py",),
    ),
    Mutant(
        "indexing: a changed file keeps the old label",
        "dvme/extraction/indexing.py",
        "        cache.update_columns(np.array(replaced), dict.fromkeys(cache.tables.columns, nothing))\n",
        "",
        ("tests/dvme/extraction/test_extract.py",),
    ),
    Mutant(
        "extraction: damage on disk is not looked for",
        "dvme/extraction/passes.py",
        "n_lost = salvage_damaged(embeddings, shards)",
        "n_lost = 0",
        ("tests/dvme/extraction/test_extract.py", "tests/reliability/test_kill.py"),
    ),
    Mutant(
        "extraction: a part extracts the rows of others",
        "dvme/extraction/passes.py",
        "pending = pending_rows(embeddings, index.rows, retry_failed=options.retry_failed, shards=shards)",
        "pending = pending_rows(embeddings, index.rows, retry_failed=options.retry_failed)",
        ("tests/dvme/extraction/test_parts.py",),
    ),
    # Images and backbones.
    Mutant(
        "images: deep grey stretched from zero",
        "dvme/data/stretch.py",
        "(values.astype(np.float64).clip(low, high) - low)",
        "values.astype(np.float64).clip(low, high)",
        ("tests/dvme/data/test_images.py",),
    ),
    Mutant(
        "images: greys beyond a range are clipped",
        "dvme/data/grey.py",
        "if scale is None or not scale.holds(least, largest):",
        "if scale is None:",
        ("tests/dvme/data/test_grey.py",),
    ),
    Mutant(
        "headers: ids are kept as they are",
        "dvme/data/dicom/headers.py",
        "pseudonym(value) if name in IDS and not plain_ids else value",
        "value",
        ("tests/dvme/data/dicom/test_headers.py",),
    ),
    Mutant(
        "headers: patients are classes",
        "dvme/data/dicom/rows.py",
        'return what if are_many and n_single >= MOST_FOLDERS * len(held) else ""',
        'return ""',
        ("tests/dvme/data/dicom/test_rows.py",),
    ),
    Mutant(
        "headers: frames of a file have no group",
        "dvme/data/dicom/rows.py",
        "samples = samples if images_only else _frames_together(samples)",
        "samples = samples",
        ("tests/dvme/data/dicom/test_rows.py",),
    ),
    Mutant(
        "prune: frames are gone though their file is there",
        "dvme/upkeep/prune.py",
        "kept |= {frame_id(digest, number) for digest in digests for number in numbers}",
        "numbers.clear()",
        ("tests/dvme/extraction/test_dicom.py",),
    ),
    Mutant(
        "dicom: MONOCHROME1 is not inverted",
        "dvme/data/dicom/grey.py",
        "shares = 1 - shares if self.is_inverted else shares",
        "shares = shares",
        ("tests/dvme/data/dicom/test_pixels.py",),
    ),
    Mutant(
        "dicom: padding counts among an image's own extremes",
        "dvme/data/dicom/grey.py",
        "_measured(values[~is_padding[patterns]] if is_padding.any() else values.ravel(), asked)",
        "_measured(values.ravel(), asked)",
        ("tests/dvme/data/dicom/test_pixels.py",),
    ),
    Mutant(
        "dicom: bits beyond those that are stored are cut off",
        "dvme/data/dicom/grey.py",
        'if beyond and not own and reading.range != "declared":',
        "if False:",
        ("tests/dvme/data/dicom/test_pixels.py",),
    ),
    Mutant(
        "dicom: a linear window is taken for an exact one",
        "dvme/data/dicom/window.py",
        "(self.center - 0.5, self.width - 1)",
        "(self.center, self.width)",
        ("tests/dvme/data/dicom/test_pixels.py",),
    ),
    Mutant(
        "dicom: what a codec says of damage is passed over",
        "dvme/data/dicom/apart.py",
        'if "error" in answer or said:',
        'if "error" in answer:',
        ("tests/dvme/data/dicom/test_apart.py",),
    ),
    Mutant(
        "images: what lies beside the pixels costs them",
        "dvme/data/images.py",
        "for lean in without_ancillary(data):",
        "for lean in ():",
        ("tests/dvme/data/test_ancillary.py",),
    ),
    Mutant(
        "masks: runs of SIIM are read as Kaggle's",
        "dvme/data/masks/runs.py",
        "    if is_relative:",
        "    if False:",
        ("tests/dvme/data/masks/test_runs.py",),
    ),
    Mutant(
        "masks: a file that has changed since is read all the same",
        "dvme/data/masks/masks.py",
        "if digest_of(digests) != cell.digest:",
        "if False:",
        ("tests/dvme/data/masks/test_reading.py",),
    ),
    Mutant(
        "masks: the size of the image is not asked for",
        "dvme/data/masks/looking.py",
        "            if shape != size:",
        "            if False:",
        ("tests/dvme/data/masks/test_reading.py",),
    ),
    Mutant(
        "masks: copies whose masks differ keep one of them",
        "dvme/extraction/indexing.py",
        "standing = (samples.given | {MASK}) & disagree.keys()",
        "standing = samples.given & disagree.keys()",
        ("tests/dvme/extraction/test_masks.py",),
    ),
    Mutant(
        "segmentation: void counts as background",
        "dvme/metrics/segmentation.py",
        "taken & is_known,",
        "taken,",
        ("tests/dvme/metrics/test_segmentation.py",),
    ),
    Mutant(
        "images: the white end of deep grey is not looked at",
        "dvme/data/tiff.py",
        "tags[PHOTOMETRIC] == WHITE_IS_ZERO",
        "False",
        ("tests/dvme/data/test_tiff.py",),
    ),
    Mutant(
        "images: bytes that libtiff has swapped are swapped again",
        "dvme/data/tiff.py",
        "is_swapped = sys.byteorder",
        "is_swapped = False and sys.byteorder",
        ("tests/dvme/data/test_tiff.py",),
    ),
    Mutant(
        "images: a handful of pixels may set the range in silence",
        "dvme/data/stretch.py",
        "if high - low >= LEAST_SHARE * width:",
        "if width:",
        ("tests/dvme/data/test_stretch.py",),
    ),
    Mutant(
        "views: corners beyond the image",
        "dvme/backbones/model/augment.py",
        "size = max(round(side), math.ceil(extent))",
        "size = max(round(side), crop)",
        ("tests/dvme/backbones/model/test_augment.py",),
    ),
    Mutant(
        "preprocess: a portrait is resized as a landscape",
        "dvme/backbones/model/preprocess.py",
        "target = (size, int(size * height / width))",
        "target = (size, int(size * width / height))",
        ("tests/dvme/backbones/model/test_preprocess.py", "tests/dvme/backbones/zoo/test_preprocess.py"),
    ),
    Mutant(
        "pooling: the mean holds the class token",
        "dvme/backbones/model/pooling.py",
        "features[:, _n_prefix(model) :].mean(dim=1)",
        "features.mean(dim=1)",
        ("tests/dvme/backbones/model/test_pooling.py",),
    ),
    Mutant(
        "adaptation: grey by the mean of the colours",
        "dvme/backbones/model/adaptation.py",
        "first.weight.detach().sum(dim=1, keepdim=True)",
        "first.weight.detach().mean(dim=1, keepdim=True)",
        ("tests/dvme/backbones/model/test_adaptation.py",),
    ),
    Mutant(
        "checkpoint: by position whatever the names",
        "dvme/backbones/weights/checkpoint.py",
        ' or theirs.rpartition(".")[2] != ours.rpartition(".")[2]',
        "",
        ("tests/dvme/backbones/weights/test_checkpoint.py",),
    ),
    Mutant(
        "simclr: height and width of a kernel swapped",
        "dvme/backbones/conversion/simclr.py",
        "kernel.permute(3, 2, 0, 1)",
        "kernel.permute(3, 2, 1, 0)",
        ("tests/dvme/backbones/conversion/test_simclr.py",),
    ),
    # What comes from elsewhere.
    Mutant(
        "import: the scratch file's order not inverted",
        "dvme/upkeep/committing.py",
        "places[np.argsort(rows)] = np.arange(len(rows))",
        "places[:] = np.argsort(rows)",
        ("tests/dvme/upkeep/test_committing.py", "tests/dvme/upkeep/test_adopting.py"),
    ),
    Mutant(
        "exchange: numbered columns as they stand",
        "dvme/upkeep/formats/elsewhere_tables.py",
        "for number in sorted(by_number)]",
        "for number in by_number]",
        ("tests/dvme/upkeep/formats/test_elsewhere.py",),
    ),
)

HEADS = (
    Mutant(
        "attention: the gradient of a token without the slope",
        "dvme/heads/fusion/attention.py",
        "to_tokens, to_slopes = along * slopes[:, None], (along * tokens).sum(dim=1)",
        "to_tokens, to_slopes = along.clone(), (along * tokens).sum(dim=1)",
        ("tests/dvme/heads/fusion/test_attention.py",),
    ),
    Mutant(
        "knn: k counts views",
        "dvme/heads/neighbours/of_images.py",
        "is_first = _firsts(rows % n_images)",
        "is_first = _firsts(rows)",
        ("tests/dvme/heads/neighbours/test_of_images.py", "tests/dvme/heads/test_views.py"),
    ),
    Mutant(
        "networks: every epoch sees the plain view",
        "dvme/heads/fusion/batched_training.py",
        "step * self.order.integers(self.job.n_views, size=len(rows))",
        "0 * self.order.integers(self.job.n_views, size=len(rows))",
        ("tests/dvme/heads/test_views.py",),
    ),
    Mutant(
        "knn: multiplied by the temperature",
        "dvme/heads/neighbours/votes.py",
        ".astype(np.float64) / TEMPERATURE)",
        ".astype(np.float64) * TEMPERATURE)",
        ("tests/dvme/heads/neighbours/test_knn.py",),
    ),
    Mutant(
        "linear: a part of the path forgets where it starts",
        "dvme/heads/exact/choice.py",
        "abs(start + index - middle)",
        "abs(index - middle)",
        ("tests/dvme/heads/exact/test_linear.py",),
    ),
    Mutant(
        "logistic: intercept moved the wrong way",
        "dvme/heads/exact/logistic.py",
        "fit.intercepts - centre @ fit.weights",
        "fit.intercepts + centre @ fit.weights",
        ("tests/dvme/heads/exact/test_logistic.py",),
    ),
    Mutant(
        "schedule: a plateau one epoch early",
        "dvme/training/schedule.py",
        "is_seen = self.n_stalled > self.patience",
        "is_seen = self.n_stalled >= self.patience",
        ("tests/dvme/training/test_schedule.py",),
    ),
    Mutant(
        "training: what pads a minibatch counts",
        "dvme/heads/fusion/batched_training.py",
        "counts = _by_cell(is_row, targets) & _is_known(targets)",
        "counts = _is_known(targets)",
        ("tests/dvme/heads/fusion/test_batched_training.py",),
    ),
    Mutant(
        "training: the last parameters, not the best",
        "dvme/heads/fusion/batched_training.py",
        'best = {name: value[position].to("cpu", copy=True) for name, value in self.best.items()}',
        'best = {name: value.detach()[position].to("cpu", copy=True) for name, value in self.parameters.items()}',
        ("tests/dvme/heads/fusion/test_batched_training.py",),
    ),
    # A sweep's heads, on their own.
    Mutant(
        "predict: embeddings of another model pass",
        "dvme/prediction/sources.py",
        "        check_fits(saved, store, is_asked=True)\n",
        "",
        ("tests/dvme/prediction/test_predict.py", "tests/cli/test_heads.py"),
    ),
    Mutant(
        "leave one out: the mean of the test rows",
        "dvme/explanation/ablation.py",
        "data.embeddings[job.backbones[absent]][job.train].mean(",
        "data.embeddings[job.backbones[absent]][test].mean(",
        ("tests/dvme/explanation/test_ablation.py",),
    ),
    Mutant(
        "similarity: unbiased by the wrong count",
        "dvme/explanation/similarity.py",
        "np.outer(totals, totals) / ((n_samples - 1) * (n_samples - 2))",
        "np.outer(totals, totals) / ((n_samples - 1) * (n_samples - 3))",
        ("tests/dvme/explanation/test_similarity.py",),
    ),
    Mutant(
        "estimators: a class may lose all its rows to validation",
        "dvme/estimators/base.py",
        "min(int(fraction * len(rows) + 0.5), len(rows) - 1)",
        "int(fraction * len(rows) + 0.5)",
        ("tests/dvme/test_estimators.py",),
    ),
)

SPLITS = (
    Mutant(
        "fitting: heads may see the test labels",
        "dvme/study/fitting.py",
        "targets.hidden(test), 0,",
        "targets, 0,",
        ("tests/dvme/study/test_fitting.py",),
    ),
    Mutant(
        "methods: the job key does not know the head's revision",
        "dvme/study/methods.py",
        '"revision": self.head.revision,',
        '"revision": 1,',
        ("tests/dvme/study/test_ledger.py",),
    ),
    Mutant(
        "splits: copies of a picture may part",
        "dvme/study/design/splits.py",
        "return units if twins is None else _merged(units, twins)",
        "return units",
        ("tests/dvme/study/design/test_splits.py", "tests/dvme/study/test_probe.py"),
    ),
    Mutant(
        "splits: the test set is chosen on as well",
        "dvme/study/design/splits.py",
        "test, validation = validation, validation[:0]",
        "test = validation",
        ("tests/dvme/study/design/test_splits.py",),
    ),
    Mutant(
        "similarity: what is left of a row beside the axes is forgotten",
        "dvme/study/design/similarity.py",
        "np.sqrt(np.maximum(0.0, 1.0 - squares))",
        "0.0",
        ("tests/dvme/study/design/test_similarity.py",),
    ),
    Mutant(
        "similarity: float32 decides about pairs at the threshold",
        "dvme/study/design/similarity.py",
        "unsure = np.flatnonzero(cosines <= COSINE + doubt)",
        "unsure = np.flatnonzero(cosines < 0.0)",
        ("tests/dvme/study/design/test_similarity.py",),
    ),
    Mutant(
        "cells: partners across a border are not looked for",
        "dvme/study/design/cells.py",
        "reaches = reach * np.sqrt",
        "reaches = 0.0 * np.sqrt",
        ("tests/dvme/study/design/test_near.py",),
    ),
    Mutant(
        "crowds: rows as far as a pair are of one crowd",
        "dvme/study/design/crowds.py",
        "np.cos(angle / 2) + doubt, np.cos(1.5 * angle)",
        "np.cos(angle) + doubt, np.cos(1.5 * angle)",
        ("tests/dvme/study/design/test_near.py",),
    ),
    Mutant(
        "crowds: partners further from the leader than a pair are forgotten",
        "dvme/study/design/crowds.py",
        "np.cos(1.5 * angle) - doubt",
        "np.cos(angle) - doubt",
        ("tests/dvme/study/design/test_near.py",),
    ),
    Mutant(
        "inspection: twins are alike in the last backbone only",
        "dvme/study/design/inspection.py",
        "if self._twins is None else self._twins\n        self._twins",
        "\n        self._twins",
        ("tests/dvme/study/design/test_inspection.py",),
    ),
    Mutant(
        "duplicates: those of validation images still train",
        "dvme/study/design/duplicates.py",
        "near = near_test | _neighbours(similar, _mask(n_images, validation))",
        "near = near_test",
        ("tests/dvme/study/design/test_duplicates.py",),
    ),
    Mutant(
        "drawing: too few validation images of a class",
        "dvme/study/design/drawing.py",
        "least = LEAST_PER_CLASS * len(self.targets.classes)",
        "least = LEAST_PER_CLASS",
        ("tests/dvme/study/design/test_drawing.py",),
    ),
    Mutant(
        "orders: rounds of the classes overlap",
        "dvme/study/design/orders.py",
        "np.arange(count) + rng.random(count) * 0.999",
        "np.arange(count) + rng.random(count) * 1.999",
        ("tests/dvme/study/design/test_orders.py",),
    ),
    # Subgroups and patients.
    Mutant(
        "joining: noisy-or leaves out that no image shows it",
        "dvme/metrics/joining.py",
        "np.log(-np.expm1(none)) - none",
        "np.log(-np.expm1(none))",
        ("tests/dvme/metrics/test_joining.py",),
    ),
    Mutant(
        "dividing: an upper edge is in two subgroups",
        "dvme/study/design/dividing.py",
        "numbers <= high if place == last else numbers < high",
        "numbers <= high",
        ("tests/dvme/study/design/test_dividing.py",),
    ),
    Mutant(
        "subgroups: a gap counts as if one column were tested",
        "dvme/study/by_subgroup.py",
        "min(1.0, n_tests * gap.p_adjusted)",
        "gap.p_adjusted",
        ("tests/dvme/study/test_by_subgroup.py",),
    ),
    Mutant(
        "patients: a patient's studies are independent",
        "dvme/study/per_unit.py",
        "other = Panel(panel.names, truth, odds, units.patients)",
        "other = Panel(panel.names, truth, odds)",
        ("tests/dvme/study/test_per_unit.py",),
    ),
    Mutant(
        "subgroups: findings are averaged over others in each subgroup",
        "dvme/stats/subgroups.py",
        "asked, found = np.where(common, truth, np.nan), []",
        "asked, found = truth, []",
        ("tests/dvme/stats/test_subgroups.py",),
    ),
    # Whole sweeps.
    Mutant(
        "targets: a label that is hidden is there for whoever looks",
        "dvme/data/targets.py",
        "        values[rows] = nothing\n",
        "",
        ("tests/dvme/data/test_targets.py", "tests/dvme/study/test_fitting.py"),
    ),
    Mutant(
        "grid: all folds draw the same numbers",
        "dvme/study/grid.py",
        'words = [int(self.manifest.policy.get("seed", 0)), repeat, fold]',
        'words = [int(self.manifest.policy.get("seed", 0)), repeat]',
        ("tests/dvme/study/test_grid.py", "tests/dvme/study/test_sweep.py"),
    ),
    Mutant(
        "grid: a job counts before its head is kept",
        "dvme/study/grid.py",
        "                self.heads.save(self.keys[place], saved)  # first: "
        "what is in the ledger is never looked at again\n"
        "                self.ledger.write(self.keys[place], self.finished[place])\n",
        "                self.ledger.write(self.keys[place], self.finished[place])\n"
        "                self.heads.save(self.keys[place], saved)\n",
        ("tests/dvme/study/test_kept_heads.py",),
    ),
    Mutant(
        "methods: the order of the backbones is no part of a job",
        "dvme/study/methods.py",
        '"embeddings": [digests[name] for name in self.backbones],',
        '"embeddings": sorted(digests[name] for name in self.backbones),',
        ("tests/dvme/study/test_ledger.py",),
    ),
    Mutant(
        "probe: its seed is another than the sweep's",
        "dvme/study/probe.py",
        "        seed=seed,\n",
        "        seed=seed + 1,\n",
        ("tests/dvme/study/test_probe.py",),
    ),
    Mutant(
        "fitting: embeddings are held together whatever the largest fit needs",
        "dvme/study/fitting.py",
        "at_once and _held(snapshot, every) + needed <= budget",
        "at_once",
        ("tests/dvme/study/test_fitting.py",),
    ),
    Mutant(
        "fitting: what a head says of the validation images is of the test images",
        "dvme/study/fitting.py",
        "for rows in (test, job.validation)",
        "for rows in (test, test[: len(job.validation)])",
        ("tests/dvme/study/test_fitting.py",),
    ),
    Mutant(
        "grid: a job is scored on the labels of other images",
        "dvme/study/grid.py",
        "job.scored_by(self.labels[self.manifest.test], self.labels[validation])",
        "job.scored_by(self.labels[self.manifest.test[::-1]], self.labels[validation])",
        ("tests/dvme/study/test_grid.py",),
    ),
    Mutant(
        "grid: a job that is done is scored as if all draws chose on the same images",
        "dvme/study/grid.py",
        "draw = self.manifest.draws[place.draw]\n        return",
        "draw = self.manifest.draws[0]\n        return",
        ("tests/dvme/study/test_grid.py",),
    ),
    Mutant(
        "ledger: scores of other labels are taken for those of these",
        "dvme/study/ledger.py",
        "if self.scored_on == scored_on:",
        "if self.scores:",
        ("tests/dvme/study/test_ledger.py",),
    ),
    Mutant(
        "kept heads: a head of another's program is kept",
        "dvme/study/saved.py",
        "    if not is_own(head):\n        return NOT_OWN\n",
        "",
        ("tests/dvme/study/test_kept_heads.py",),
    ),
    Mutant(
        "snapshot: images that are not extracted yet take part",
        "dvme/study/design/snapshot.py",
        "is_plain = has_label & ~is_failed & ~is_pending",
        "is_plain = has_label & ~is_failed",
        ("tests/dvme/study/design/test_snapshot.py",),
    ),
    Mutant(
        "snapshot: images that lack a view take part",
        "dvme/study/design/snapshot.py",
        "rows = np.flatnonzero(is_plain & ~lacks_view)",
        "rows = np.flatnonzero(is_plain)",
        ("tests/dvme/study/test_views.py",),
    ),
    Mutant(
        "views: predictions are of the plain one",
        "dvme/study/fitting.py",
        "n_views if snapshot.averages_views else 1",
        "1",
        ("tests/dvme/study/test_views.py",),
    ),
    Mutant(
        "run: groups numbered as texts",
        "dvme/study/run.py",
        '[f"{each:09d}" for each in groups]',
        '[f"{each}" for each in groups]',
        ("tests/dvme/study/test_loaded.py",),
    ),
    Mutant(
        "public sets: devices of CheXpert are absent where no illness is",
        "dvme/sets/chexpert.py",
        "for cell in illnesses), devices]",
        'for cell in illnesses), devices or ("0" if nothing in HAS else "")]',
        ("tests/dvme/sets/test_chexpert.py",),
    ),
    Mutant(
        "public sets: PadChest's unchanged findings are absent",
        "dvme/sets/padchest.py",
        "    if UNCHANGED not in said:\n",
        "    if said:\n",
        ("tests/dvme/sets/test_padchest.py",),
    ),
    Mutant(
        "public sets: a picture is found by its name alone",
        "dvme/sets/unpacked.py",
        'n_parts = max((name.count("/") for name in names), default=0) + 1',
        "n_parts = 1",
        ("tests/dvme/sets/test_unpacked.py", "tests/dvme/sets/test_chexpert.py"),
    ),
    Mutant(
        "public sets: an image of both lists of NIH is of the second",
        "dvme/sets/nih_cxr14.py",
        "MISSING if name in split else part",
        "part",
        ("tests/dvme/sets/test_nih_cxr14.py",),
    ),
    Mutant(
        "public sets: a child's number is another one before bacteria and before viruses",
        "dvme/sets/kermany_pneumonia.py",
        'who=told.get("who", MISSING)',
        'who=told.get("who", MISSING) + kind',
        ("tests/dvme/sets/test_kermany_pneumonia.py",),
    ),
    Mutant(
        "public sets: parts that share patients are the split",
        "dvme/sets/kermany_pneumonia.py",
        'split = "published_split" if n_both else "split"',
        'split = "split"',
        ("tests/dvme/sets/test_kermany_pneumonia.py",),
    ),
    Mutant(
        "public sets: an image of ISIC of no class has the first",
        "dvme/sets/isic.py",
        "each[0] if len(each) == 1 else MISSING",
        "(each or classes)[0]",
        ("tests/dvme/sets/test_isic.py",),
    ),
    Mutant(
        "public sets: a mask of the lungs is an X-ray",
        "dvme/sets/tuberculosis.py",
        "if MASK not in folder and not is_named:",
        "if not is_named:",
        ("tests/dvme/sets/test_tuberculosis.py",),
    ),
)

PAGES = (
    # Only a browser runs these.
    Mutant(
        "map.js: the lasso takes what is hidden",
        "dvme/report/html/assets/map.js",
        "      if (states[i] === HIDDEN) continue;\n      const x = this.x(i), y = this.y(i);",
        "      const x = this.x(i), y = this.y(i);",
        ("tests/dvme/report/html/test_browser.py",),
    ),
    Mutant(
        "map.js: Shift no longer adds",
        "dvme/report/html/assets/map.js",
        "isAdding = event.shiftKey || event.ctrlKey || event.metaKey;",
        "isAdding = event.ctrlKey || event.metaKey;",
        ("tests/dvme/report/html/test_browser.py",),
    ),
    Mutant(
        "map.js: the zoom is lost when the window changes",
        "dvme/report/html/assets/map.js",
        "if (!grown) this.reset();",
        "if (grown !== 1) this.reset();",
        ("tests/dvme/report/html/test_browser.py",),
    ),
    Mutant(
        "map.js: arrows walk out of sight",
        "dvme/report/html/assets/map.js",
        "{ map.show(next); explorer.hover(next, map); }",
        "{ explorer.hover(next, map); }",
        ("tests/dvme/report/html/test_browser.py",),
    ),
    Mutant(
        "explorer.js: a selection is drawn in one map only",
        "dvme/report/html/assets/explorer.js",
        "draw() { this.maps.forEach(map => map.draw()); }",
        "draw() { this.maps[0].draw(); }",
        ("tests/dvme/report/html/test_browser.py",),
    ),
    # What is written into pages, and the maps.
    Mutant(
        "page: markup in the data",
        "dvme/report/html/page.py",
        'for character in "<>&',
        'for character in "&',
        ("tests/dvme/report/html/test_page.py",),
    ),
    Mutant(
        "umap: starts where it likes",
        "dvme/maps/projection.py",
        "init=start.astype(np.float32)",
        'init="random"',
        ("tests/dvme/maps/test_projection.py", "tests/dvme/maps/test_maps.py"),
    ),
    Mutant(
        "viz: anonymous points lose their places",
        "dvme/report/page_maps.py",
        "        maps = [replace(each, positions=each.positions[order]) for each in maps]\n",
        "",
        ("tests/dvme/report/test_viz.py",),
    ),
    # The command line.
    Mutant(
        "prune: erases without --yes",
        "cli/dvme_cli/cache/prune.py",
        "confirmed=confirmed",
        "confirmed=True",
        ("tests/cli/test_cache_commands.py",),
    ),
    Mutant(
        "subsets: options that are off count as not typed",
        "cli/dvme_cli/parsing.py",
        "return {name: value for name, value in given.items() if value is not None}",
        "return {name: value for name, value in given.items() if value}",
        ("tests/cli/test_subsets.py", "tests/cli/test_sweep.py"),
    ),
)

AREAS = {
    "statistics": STATISTICS,
    "cache": CACHE,
    "extraction, data and backbones": EXTRACTION,
    "heads": HEADS,
    "splits, subsets and sweeps": SPLITS,
    "pages and command line": PAGES,
}
MUTANTS = tuple(mutant for area in AREAS.values() for mutant in area)


class Copy:
    """A copy of a checkout, where one thing at a time is tried."""

    def __init__(self, root: Path, folder: Path, options: Sequence[str]) -> None:
        """Copy what git would: files that are tracked, or new and not ignored."""
        self.folder = folder
        self._options = options
        self._running: subprocess.Popen[bytes] | None = None
        sources = [folder, folder / "cache", folder / "cli", folder / "tests" / "support"]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, sources)),
            "PYTHONDONTWRITEBYTECODE": "1",  # bytecode of a mutant of the same size and second would outlive it
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        for name in _listed(root):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target, follow_symlinks=False)
        self._check_imports()

    def tried(self, mutant: Mutant) -> Outcome:
        """Apply a mutant, run its tests until one fails, and put the file back."""
        path = self.folder / mutant.path
        original = path.read_bytes() if path.exists() else b""
        n_found = original.decode().count(mutant.old)
        if n_found != 1:
            return Outcome(mutant.name, NOT_THERE, detail=f"its source is {n_found} times in {mutant.path}")
        tests = [each for each in mutant.tests if (self.folder / each).exists()]
        if not tests:
            return Outcome(mutant.name, NOT_THERE, detail=f"no tests: {' '.join(mutant.tests)}")
        path.write_bytes(original.decode().replace(mutant.old, mutant.new).encode())
        try:
            return self._outcome(mutant.name, tests)
        finally:
            path.write_bytes(original)

    def unchanged(self, tests: str) -> Outcome:
        """Run tests without a mutant. If they fail here, they catch nothing."""
        outcome = self._outcome(tests, [tests])
        verdict = "passes" if outcome.verdict == ESCAPED else "FAILS"
        return Outcome(tests, verdict, outcome.seconds, outcome.detail)

    def stop(self) -> None:
        """Kill the tests that run here, and what they started."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGKILL)

    def _outcome(self, name: str, tests: Sequence[str]) -> Outcome:
        begun = time.monotonic()
        verdict, detail = ESCAPED, f"passed: {' '.join(tests)}"
        for path in tests:
            code, output = self._pytest(path)
            if code != 0:
                verdict, detail = _judged(path, code, output)
                break
        return Outcome(name, verdict, time.monotonic() - begun, detail)

    def _pytest(self, path: str) -> tuple[int | None, str]:
        """Exit code, None after the timeout, and what was printed. A file: children may outlive a pipe's reader."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self._options, path]
        with tempfile.TemporaryFile() as printed:
            with subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as self._running:
                try:
                    code: int | None = self._running.wait(TIMEOUT)
                except subprocess.TimeoutExpired:
                    self.stop()
                    code = None
            printed.seek(0)
            return code, printed.read().decode(errors="replace")

    def _check_imports(self) -> None:
        """The project is installed from some checkout; here it must come from the copy."""
        code = (
            "import dvme, dvme_cache, dvme_cli; print(dvme.__file__, dvme_cache.__file__, dvme_cli.__file__, sep='\\n')"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=self.folder.parent, env=self._environment, check=True, capture_output=True, text=True
        )
        for imported in done.stdout.splitlines():
            assert Path(imported).resolve().is_relative_to(self.folder.resolve()), f"{imported} is not in the copy"


def main() -> int:
    """Check the table, or try mutants. 0: none escaped."""
    arguments = _arguments()
    if arguments.check:
        return check(arguments.root)
    mutants = [mutant for mutant in MUTANTS if arguments.only in mutant.name]
    if not mutants:
        print(f"no mutant's name has {arguments.only!r} in it")
        return 1
    jobs: list[Callable[[Copy], Outcome]] = [partial(Copy.tried, mutant=mutant) for mutant in mutants]
    if arguments.unchanged:
        paths = sorted({path for mutant in mutants for path in mutant.tests if (arguments.root / path).exists()})
        jobs = [partial(Copy.unchanged, tests=path) for path in paths]
    outcomes = []
    for outcome in tried(jobs, arguments.root, arguments.workers, _options(arguments.marks)):
        print(f"{outcome.verdict:9} {outcome.seconds:6.1f} s  {outcome.name}  {outcome.detail}", flush=True)
        outcomes.append(outcome)
    if arguments.out:
        _write(arguments.out, outcomes)
    good = "passes" if arguments.unchanged else CAUGHT
    n_there = sum(outcome.verdict != NOT_THERE for outcome in outcomes)
    n_good = sum(outcome.verdict == good for outcome in outcomes)
    _print_errors(outcomes)
    print(f"{n_good} of {n_there} {'pass' if arguments.unchanged else CAUGHT}")
    return int(n_good < (n_there if arguments.root != ROOT else len(outcomes)))


def check(root: Path) -> int:
    """Hold the table against the sources; prints what is wrong with it. 0: nothing."""
    wrong = [f"{mutant.name}: {fault}" for mutant in MUTANTS for fault in _faults(root, mutant)]
    names = [mutant.name for mutant in MUTANTS]
    wrong += [f"{name}: more than one of this name" for name in sorted(set(names)) if names.count(name) > 1]
    for area, mutants in AREAS.items():
        print(f"{len(mutants):3} {area}")
    print(f"{len(MUTANTS):3} in all, {len(wrong)} faults", *wrong, sep="\n")
    return int(bool(wrong))


def tried(
    jobs: Sequence[Callable[[Copy], Outcome]], root: Path, n_workers: int, options: Sequence[str]
) -> Iterator[Outcome]:
    """Do each job in one of `n_workers` copies; outcomes in the order in which they are known."""
    with tempfile.TemporaryDirectory(prefix="dvme-mutants-") as folder, ThreadPoolExecutor(n_workers) as pool:
        copies = [Copy(root, Path(folder) / str(number), options) for number in range(n_workers)]
        free: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def done(job: Callable[[Copy], Outcome]) -> Outcome:
            copy = free.get()
            try:
                return job(copy)
            finally:
                free.put(copy)

        try:
            for future in as_completed([pool.submit(done, job) for job in jobs]):
                yield future.result()
        finally:  # of use only where something was raised, or Ctrl-C pressed
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only hold the table against the sources")
    parser.add_argument("--unchanged", action="store_true", help="run the same tests, file by file, without a mutant")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="mutants with this in their name")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="CHECKOUT", help="the checkout to copy")
    parser.add_argument("--workers", type=int, default=2, help="copies that are worked in at once")
    parser.add_argument("--marks", default="", help="pytest's -m; by default what the checkout's addopts say")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the outcomes there, separated by tabs")
    return parser.parse_args()


def _options(marks: str) -> list[str]:
    """For pytest. Without workers of xdist's own; tests/conftest.py has hooks of its, so it stays loaded."""
    alone = ["-n", "0"] if importlib.util.find_spec("xdist") else []
    return [*alone, *(["-m", marks] if marks else [])]


def _listed(root: Path) -> list[str]:
    """Files of a checkout, by their path in it; one that was deleted is still listed by git, not here."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and ((root / name).is_symlink() or (root / name).is_file())]


def _judged(path: str, code: int | None, output: str) -> tuple[str, str]:
    """Verdict and detail of tests that did not all pass."""
    if code is None:
        return CAUGHT, f"{path} took longer than {TIMEOUT:.0f} s"
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)
    if failed and code == 1:
        return CAUGHT, failed[1]
    if failed and code == 2:  # an import of the mutated code, as the original imports
        return CAUGHT, f"{failed[1]} at collection"
    last = output.strip().rpartition("\n")[2]
    return ERROR, f"{path}: pytest ended with {code}: {last}"


def _faults(root: Path, mutant: Mutant) -> Iterator[str]:
    for path in (mutant.path, *mutant.tests):
        if not (root / path).exists():
            yield f"no {path}"
    if mutant.old == mutant.new:
        yield "changes nothing"
    if not mutant.tests:
        yield "no tests"
    if not (root / mutant.path).is_file():
        return
    source = (root / mutant.path).read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        yield f"its source is {source.count(mutant.old)} times in {mutant.path}"
    elif mutant.path.endswith(".py"):
        try:
            ast.parse(source.replace(mutant.old, mutant.new))
        except SyntaxError as error:
            yield f"no longer Python: {error}"


def _print_errors(outcomes: Sequence[Outcome]) -> None:
    """Once more, so that they are not overlooked."""
    errors = [outcome for outcome in outcomes if outcome.verdict == ERROR]
    if errors:
        print(f"{len(errors)} NOT MEASURED, the tests could not be run:")
        for outcome in errors:
            print(f"  {outcome.name}: {outcome.detail}")


def _write(path: Path, outcomes: Sequence[Outcome]) -> None:
    rows = [
        (outcome.name, outcome.verdict, f"{outcome.seconds:.1f}", outcome.detail)
        for outcome in sorted(outcomes, key=lambda each: each.name)
    ]
    rows.insert(0, ("name", "verdict", "seconds", "detail"))
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
