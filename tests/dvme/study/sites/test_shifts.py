from __future__ import annotations

from pathlib import Path

import numpy as np
from hospitals import write_site

from dvme.stats.shift import discrepancy, domain_classifier
from dvme.study.design.snapshot import Snapshot
from dvme.study.sites.shifts import Located, shifts
from dvme_cache import EmbeddingCache

K = 20


def _located(place: Path, truth: np.ndarray, is_shared: np.ndarray | None = None) -> Located:
    snapshot = Snapshot.take(EmbeddingCache.open(place), ["a"])
    return Located(snapshot, truth, np.ones(len(truth), dtype=bool) if is_shared is None else is_shared)


def test_shifts__are_of_whole_patients_and_robustness_of_sets_of_findings(tmp_path: Path) -> None:
    """The index by a loop over images, of those alone whose findings are known and whose class both have."""
    rng = np.random.default_rng(0)
    own_truth, its_truth = ((rng.random((n, 2)) < 0.5).astype(float) for n in (90, 70))
    own_truth[:5, 1] = np.nan
    is_shared = np.arange(90) < 80
    one = (rng.normal(size=(90, 6)) + 2 * np.nan_to_num(own_truth) @ np.eye(2, 6)).astype(np.float32)
    other = (rng.normal(size=(70, 6)) + 2 * its_truth @ np.eye(2, 6) + 0.4).astype(np.float32)
    groups = [f"p{image // 3:02d}" for image in range(90)]
    own = _located(write_site(tmp_path / "own.zarr", {"a": one}, ["x"] * 90, groups=groups), own_truth, is_shared)
    there = _located(write_site(tmp_path / "ny.zarr", {"a": other}, ["x"] * 70, first=90), its_truth)
    (found,) = shifts(own, there, 3)
    patients = np.arange(90) // 3, np.arange(70)
    assert found.backbone == "a"
    assert found.classifier == domain_classifier(one, other, patients, seed=3)
    assert repr(found.discrepancy) == repr(discrepancy(one, other, patients, seed=3))

    rows = np.concatenate([one[5:80], other])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sets = [tuple(row) for row in np.concatenate([own_truth[5:80], its_truth])]
    sites, who = [0] * 75 + [1] * 70, [*(patients[0][5:80]), *(1000 + patients[1])]
    same_class = same_site = 0
    for image in range(len(rows)):
        near = [each for each in np.argsort(-rows @ rows[image], kind="stable") if who[each] != who[image]][:K]
        same_class += sum(sets[each] == sets[image] and sites[each] != sites[image] for each in near)
        same_site += sum(sets[each] != sets[image] and sites[each] == sites[image] for each in near)
    assert (found.robustness.n_same_class, found.robustness.n_same_site) == (same_class, same_site)
    assert found.robustness.n_all == 145


def test_shifts__without_a_common_finding_there_is_no_index(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    sides = [
        _located(write_site(tmp_path / f"{first}.zarr", {"a": values}, ["x"] * 20, first=first), np.empty((20, 0)))
        for first in (0, 20)
    ]
    (found,) = shifts(*sides, 0)
    assert np.isnan(found.robustness.index.estimate)
    assert found.robustness.reason == "there is no finding or class that both can judge"
    assert found.discrepancy.p > 0.05  # the same values on both sides
