from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light
from numpy.typing import NDArray

import dvme
from dvme.errors import DataError
from dvme.heads.fusion.network_head import NetworkHead
from dvme.runtime import Runtime, silent
from dvme.study import grid as grids
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.matching import rows_of
from dvme.study.design.options import SubsetOptions
from dvme.study.grid import Grid
from dvme.study.kept_heads import KeptHeads
from dvme.study.ledger import Ledger
from dvme.study.methods import Method, make_methods, usable_rows
from dvme_cache import EmbeddingCache
from dvme_cache.embeddings import Embeddings

HEADS = ("linear", "knn", "mean-logits")


@pytest.fixture(scope="module")
def manifest(cache: Path) -> SubsetManifest:
    found: SubsetManifest = dvme.subsets(cache, options=SubsetOptions(sizes=("12", "full"), n_folds=2)).manifest
    return found


def _grid(cache: Path, manifest: SubsetManifest, folder: Path, heads: tuple[str, ...] = HEADS) -> Grid:
    store = EmbeddingCache.open(cache)
    methods = make_methods(light(*heads), ["a", "b"], with_controls=False)
    rows = rows_of(store, manifest, usable_rows(store, ["a", "b"])[0], "file")
    return Grid(store, rows, manifest, methods, Ledger(folder), KeptHeads(folder))


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
    first.fit(Runtime(device="cpu", memory=2**22), silent)
    again = _grid(elsewhere, manifest, tmp_path / "one")
    assert again.n_reused == len(again.places)
    # With ample memory and its own fits, the other lab has the same predictions.
    other = _grid(elsewhere, manifest, tmp_path / "two")
    other.fit(Runtime(device="cpu", memory=2**30), silent)
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
    store = EmbeddingCache.open(other)
    methods = [
        Method(method.head, tuple({"a": "a2"}.get(name, name) for name in method.backbones))
        for method in make_methods(light(*HEADS), ["a", "b"], with_controls=False)
    ]
    rows = rows_of(store, manifest, np.arange(len(names)), "file")
    mine = _grid(cache, manifest, tmp_path)
    theirs = Grid(store, rows, manifest, methods, Ledger(tmp_path), KeptHeads(tmp_path))
    for place in mine.places:
        is_same = mine.methods[place.method].backbones == ("b",)
        assert (mine.keys[place] == theirs.keys[place]) is is_same


def test_grid__draws_have_seeds_of_their_own(tmp_path: Path, cache: Path, manifest: SubsetManifest) -> None:
    grid = _grid(cache, manifest, tmp_path)
    seeds = {(place.draw, grid._job(place).seed) for place in grid.places}
    assert len(seeds) == 2  # the same for all methods and sizes of a draw
    expected = [int(np.random.SeedSequence([0, 1, fold]).generate_state(1)[0]) for fold in (1, 2)]
    assert dict(seeds) == dict(enumerate(expected))


def test_grid__embeddings_are_read_set_by_set_where_memory_is_short(
    tmp_path: Path, cache: Path, manifest: SubsetManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[list[str], int]] = []
    fit_each = grids.fit_each

    def spy(jobs: Any, data: Any, **kwargs: Any) -> Any:
        read.append((sorted(data.embeddings), len(jobs)))
        return fit_each(jobs, data, **kwargs)

    monkeypatch.setattr(grids, "fit_each", spy)
    monkeypatch.setattr(grids, "COPIES", 0)  # what is left for the heads is not what is tested
    n_bytes = 150 * (8 + 10) * 4
    _grid(cache, manifest, tmp_path / "ample").fit(Runtime(device="cpu", memory=2**30), silent)
    assert read == [(["a", "b"], 20)]
    read.clear()
    monkeypatch.setattr(grids, "EMBEDDINGS_SHARE", 2**24 // n_bytes + 1)
    short = _grid(cache, manifest, tmp_path / "short")
    short.fit(Runtime(device="cpu", memory=2**24), silent)
    assert read == [(["a"], 8), (["b"], 8), (["a", "b"], 4)]
    ample = _grid(cache, manifest, tmp_path / "ample")
    for place in short.places:
        np.testing.assert_allclose(short.finished[place].test, ample.finished[place].test, atol=1e-6)
    # What is finished needs no embeddings.
    read.clear()
    _grid(cache, manifest, tmp_path / "short").fit(Runtime(device="cpu", memory=2**24), silent)
    assert read == []


@pytest.mark.parametrize(("oversample", "sampling"), [(None, "auto"), (True, "oversampled"), (False, "shuffled")])
def test_grid__oversampling_is_the_manifests(
    tmp_path: Path, cache: Path, manifest: SubsetManifest, oversample: bool | None, sampling: str
) -> None:
    flagged = replace(manifest, policy={**manifest.policy, "oversample": oversample})
    grid = _grid(cache, flagged, tmp_path, heads=("linear", "linear-adam"))
    heads = {method.head.name: method.head for method in grid.methods}
    assert isinstance(heads["linear-adam"], NetworkHead)
    assert heads["linear-adam"].protocol.sampling == sampling
    plain = _grid(cache, manifest, tmp_path, heads=("linear", "linear-adam"))
    for place in grid.places:
        is_same = grid.methods[place.method].head.name == "linear" or oversample is None
        assert (grid.keys[place] == plain.keys[place]) is is_same
    assert set(heads) == {"linear", "linear-adam"}


def test_grid__embeddings_that_are_not_finite(
    tmp_path: Path, cache: Path, manifest: SubsetManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test image's too, of which no head learns; a cache takes none, but a disk may turn a bit."""
    read = Embeddings.read

    def torn(self: Embeddings, rows: Any) -> Any:
        values = read(self, rows).copy()
        values[manifest.test[0], 3] = np.inf if self.dim == 10 else values[manifest.test[0], 3]
        return values

    monkeypatch.setattr(Embeddings, "read", torn)
    with pytest.raises(DataError, match="1 of 150 rows of b are not finite; dvme cache verify says which"):
        _grid(cache, manifest, tmp_path / "jobs").fit(Runtime(device="cpu"), silent)
