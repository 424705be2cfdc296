from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light
from numpy.typing import NDArray
from own_head import Centroids

import dvme
from dvme.heads import Head
from dvme.heads.fusion.network_head import NetworkHead
from dvme.runtime import Runtime, silent
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.matching import matched
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import Snapshot
from dvme.study.grid import Grid
from dvme.study.ledger import Ledger
from dvme.study.methods import make_methods, sampled
from dvme_cache import EmbeddingCache
from dvme_cache.files import LocalFiles

HEADS = light("linear", "knn", "mean-logits")


@pytest.fixture(scope="module")
def manifest(cache: Path) -> SubsetManifest:
    found: SubsetManifest = dvme.subsets(cache, options=SubsetOptions(sizes=("12", "full"), n_folds=2)).manifest
    return found


def _grid(
    cache: Path,
    manifest: SubsetManifest,
    folder: Path | None,
    heads: Sequence[str | Head] = HEADS,
    backbones: Sequence[str] = ("a", "b"),
) -> Grid:
    methods = make_methods(heads, backbones, with_controls=False)
    methods = [sampled(method, manifest.policy["oversample"]) for method in methods]
    manifest, snapshot, _ = matched(Snapshot.take(EmbeddingCache.open(cache), backbones), manifest, "file")
    return Grid(snapshot, manifest, methods, Ledger(folder), None)


def test_grid__every_method_size_and_draw_has_a_key_of_its_own(
    tmp_path: Path, cache: Path, manifest: SubsetManifest
) -> None:
    grid = _grid(cache, manifest, tmp_path)
    assert len(grid.places) == (2 * 2 + 1) * 2 * 2
    assert len(set(grid.keys.values())) == len(grid.places)
    assert (grid.finished, grid.n_reused) == ({}, 0)


def test_grid__keys_say_nothing_of_device_memory_or_place(
    tmp_path: Path,
    cache: Path,
    manifest: SubsetManifest,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    names: list[str],
) -> None:
    first = _grid(cache, manifest, tmp_path / "one")
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    elsewhere = write_embeddings(tmp_path / "far" / "c.zarr", features, order=order, label=names)
    assert _grid(elsewhere, manifest, tmp_path / "two").keys == first.keys
    first.fit(Runtime(device="cpu", memory=2**22), 2**22, silent, "probe")
    again = _grid(elsewhere, manifest, tmp_path / "one")
    assert again.n_reused == len(again.places)
    # With ample memory and its own fits, the other lab has the same predictions.
    other = _grid(elsewhere, manifest, tmp_path / "two")
    other.fit(Runtime(device="cpu", memory=2**30), 2**30, silent, "probe")
    for place in first.places:
        np.testing.assert_allclose(first.finished[place].test, other.finished[place].test, atol=1e-6)


def test_grid__other_embeddings_are_other_jobs(
    tmp_path: Path,
    cache: Path,
    manifest: SubsetManifest,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    names: list[str],
) -> None:
    """Of the other backbone alone, every key stays."""
    wider = {"a": features["a"].astype(np.float16), "b": features["b"]}
    other = write_embeddings(tmp_path / "c.zarr", {"a2": wider["a"], "b": wider["b"]}, label=names)
    mine = _grid(cache, manifest, tmp_path)
    theirs = _grid(other, manifest, tmp_path, backbones=("a2", "b"))
    for place in mine.places:
        is_same = mine.methods[place.method].backbones == ("b",)
        assert (mine.keys[place] == theirs.keys[place]) is is_same


def test_grid__draws_have_seeds_of_their_own(tmp_path: Path, cache: Path, manifest: SubsetManifest) -> None:
    grid = _grid(cache, manifest, tmp_path)
    seeds = {(place.draw, grid._assignment(place).seed) for place in grid.places}
    assert len(seeds) == 2  # the same for all methods and sizes of a draw
    expected = [int(np.random.SeedSequence([0, 1, fold]).generate_state(1)[0]) for fold in (1, 2)]
    assert dict(seeds) == dict(enumerate(expected))


def test_grid__metadata_is_opened_once_however_many_jobs_there_are(cache: Path) -> None:
    """A study of 450 jobs spent five seconds on opening embeddings and columns again for each of them."""
    reads: dict[int, Counter[str]] = {}
    for n_repeats in (1, 6):
        options = SubsetOptions(sizes=("12", "20", "40"), n_folds=5, n_repeats=n_repeats)
        manifest, found = dvme.subsets(cache, options=options).manifest, reads.setdefault(n_repeats, Counter())
        files = LocalFiles.read

        def noted(self: LocalFiles, key: str, read: Any = files, found: Counter[str] = found) -> bytes | None:
            found[key] += 1
            data: bytes | None = read(self, key)
            return data

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalFiles, "read", noted)
            grid = _grid(cache, manifest, None, [Centroids()])
            grid.fit(Runtime(device="cpu"), 2**30, silent, "probe")
        assert len(grid.finished) == 2 * 3 * 5 * n_repeats
    assert reads[6] == reads[1]
    assert 0 < reads[1].total() < 60


def test_grid__a_finished_job_carries_the_scores_of_its_own_images(
    tmp_path: Path, cache: Path, manifest: SubsetManifest, labels: NDArray[Any]
) -> None:
    """In its file too; of one that an older dvme wrote, from what it predicted."""
    grid = _grid(cache, manifest, tmp_path, [Centroids()])
    grid.fit(Runtime(device="cpu"), 2**30, silent, "probe")
    for place, job in grid.finished.items():
        draw = manifest.draws[place.draw]
        chosen_on = draw.validation[: draw.n_validation[place.size]]
        for part, rows, found in (("test", manifest.test, job.test), ("validation", chosen_on, job.validation)):
            right = float((found.argmax(axis=1) == labels[rows]).mean())
            assert job.scores[part]["accuracy"] == pytest.approx(right, abs=1e-12)
        assert grid.ledger.read(grid.keys[place]).scores == job.scores  # type: ignore[union-attr]
        grid.ledger.write(grid.keys[place], replace(job, scores={}, scored_on=""))
    again = _grid(cache, manifest, tmp_path, [Centroids()])
    assert again.n_reused == len(again.places)
    assert {place: job.scores for place, job in again.finished.items()} == {
        place: job.scores for place, job in grid.finished.items()
    }


@pytest.mark.parametrize(("oversample", "sampling"), [(None, "auto"), (True, "oversampled"), (False, "shuffled")])
def test_grid__oversampling_is_the_manifests(
    tmp_path: Path, cache: Path, manifest: SubsetManifest, oversample: bool | None, sampling: str
) -> None:
    flagged = replace(manifest, policy={**manifest.policy, "oversample": oversample})
    grid = _grid(cache, flagged, tmp_path, heads=light("linear", "linear-adam"))
    heads = {method.head.name: method.head for method in grid.methods}
    assert isinstance(heads["linear-adam"], NetworkHead)
    assert heads["linear-adam"].protocol.sampling == sampling
    plain = _grid(cache, manifest, tmp_path, heads=light("linear", "linear-adam"))
    for place in grid.places:
        is_same = grid.methods[place.method].head.name == "linear" or oversample is None
        assert (grid.keys[place] == plain.keys[place]) is is_same
    assert set(heads) == {"linear", "linear-adam"}
