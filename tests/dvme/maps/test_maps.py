from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.maps import components, maps
from dvme.maps.alignment import aligned
from dvme.maps.components import components_of
from dvme.maps.map_store import Kept, default_folder, key_of
from dvme.maps.maps import EmbeddingMap, Source, make_maps
from dvme.maps.placing import place
from dvme.maps.projection import COMPONENTS, METHODS, initial_positions, project, settings
from dvme.maps.quality import knn_accuracy, measure, measured_rows, neighbourhoods
from dvme.maps.sampling import proportional_sample
from dvme.vectors import unit_rows

N = 60
LABELS = np.array(["a", "b", "c"], dtype=object)[np.arange(N) % 3]
GROUPS = np.array([""] * N, dtype=object)
ALL = np.ones(N, dtype=bool)
NOWHERE = Kept(Path("/dev/null/maps"))
"""Keeps nothing."""


@dataclass
class Loads:
    """Sources that count how often they are read."""

    embeddings: dict[str, NDArray[Any]]
    read: list[str] = field(default_factory=list)

    def sources(self, *names: str) -> list[Source]:
        return [Source(name, f"digest of {name}", self._reader(name)) for name in names or self.embeddings]

    def _reader(self, name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
        def read(rows: NDArray[Any]) -> NDArray[Any]:
            self.read.append(name)
            return self.embeddings[name][rows]

        return read


@pytest.fixture
def loads(make_features: Callable[..., NDArray[Any]]) -> Loads:
    first = make_features(np.arange(N) % 3, 0.7, seed=0)
    noise = np.random.default_rng(1).normal(size=first.shape).astype(np.float32)
    return Loads({"first": first, "second": 3 * first + noise, "third": make_features(np.arange(N) % 3, 0.7, seed=2)})


def _make(sources: list[Source], **changed: Any) -> list[EmbeddingMap]:
    usual = {"method": "pca", "labels": LABELS, "groups": GROUPS, "kept": Kept(default_folder())}
    return make_maps(sources, **(usual | changed))


def _unread(_: NDArray[Any]) -> NDArray[Any]:
    raise AssertionError("nothing had to be computed")


def _unreadable(sources: list[Source]) -> list[Source]:
    return [Source(source.name, source.digest, _unread) for source in sources]


def _assert_equal(some: list[EmbeddingMap], others: list[EmbeddingMap]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert (one.name, one.method) == (other.name, other.method)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(astuple(one.quality), astuple(other.quality))


@pytest.mark.parametrize("method", METHODS)
def test_make_maps__from_one_start_aligned_and_measured(loads: Loads, method: str) -> None:
    units = [unit_rows(values) for values in loads.embeddings.values()]
    initial = initial_positions(units[0], 3)
    raw = [project(unit, method, initial=initial, seed=3) for unit in units]
    found = _make(loads.sources(), method=method, seed=3)
    assert [item.name for item in found] == list(loads.embeddings)
    assert loads.read == list(loads.embeddings)
    for item, unit, positions in zip(found, units, raw, strict=True):
        assert item.method == method
        assert not item.is_kept
        assert item.positions.dtype == np.float32
        np.testing.assert_array_equal(item.positions, aligned(positions, raw[0]))
        assert item.quality == measure(unit, positions, LABELS, GROUPS, is_query=ALL, may_vote=ALL, seed=3)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_make_maps__the_second_time_nothing_is_read(loads: Loads, method: str, cache_home: Path) -> None:
    first = _make(loads.sources(), method=method)
    assert len(list((cache_home / "dvme" / "maps").glob("*.npz"))) == 6
    second = _make(_unreadable(loads.sources()), method=method)
    assert all(item.is_kept for item in second)
    assert all(isinstance(item.quality.n_asked, int) for item in second)
    _assert_equal(first, second)


@pytest.mark.parametrize("change", [
    {"labels": np.sort(LABELS)},
    {"groups": np.array([f"p{row % 9}" for row in range(N)], dtype=object)},
    {"is_query": np.arange(N) < 30},
    {"may_vote": np.arange(N) < 30},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_make_maps__other_labels_change_the_quality_alone(
    loads: Loads, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _make(loads.sources())
    loads.read.clear()
    monkeypatch.setattr(maps, "project", _unread)
    second = _make(loads.sources(), **change)
    assert all(item.is_kept for item in second)
    assert loads.read == list(loads.embeddings)
    np.testing.assert_array_equal([item.positions for item in second], [item.positions for item in first])
    for one, other in zip(first, second, strict=True):
        assert one.quality.trustworthiness == other.quality.trustworthiness
        assert one.quality != other.quality


def test_make_maps__what_determines_a_map_is_in_its_key(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(loads.sources("first"), method="tsne")

    def is_kept(sources: list[Source], **changed: Any) -> list[bool]:
        return [item.is_kept for item in _make(sources, **({"method": "tsne"} | changed))]

    assert is_kept(loads.sources("first")) == [True]
    assert is_kept(loads.sources("first"), seed=1) == [False]
    assert is_kept([Source("first", "other rows", loads.sources("first")[0].read)]) == [False]
    assert is_kept([Source("renamed", "digest of first", _unread)]) == [True]
    assert is_kept(loads.sources("second", "first")) == [False, False]
    assert is_kept(loads.sources("first"), method="pca") == [False]
    monkeypatch.setattr(maps, "REVISION", 0)
    assert is_kept(loads.sources("first")) == [False]
    monkeypatch.setattr(maps, "settings", lambda _: {"openTSNE": "0.0"})
    assert is_kept(loads.sources("first")) == [False]


def test_make_maps__pca_does_not_depend_on_the_reference(loads: Loads) -> None:
    _make(loads.sources("first", "second"))
    loads.read.clear()
    found = _make(loads.sources("third", "second"))
    assert [item.is_kept for item in found] == [False, True]
    assert loads.read == ["third"]


def test_make_maps__the_reference_is_read_for_a_new_companion(loads: Loads) -> None:
    _make(loads.sources("first", "second"), method="tsne")
    loads.read.clear()
    found = _make(loads.sources("first", "second", "third"), method="tsne")
    assert [item.is_kept for item in found] == [True, True, False]
    assert sorted(loads.read) == ["first", "third"]
    _assert_equal(found, _make(loads.sources(), method="tsne", kept=NOWHERE))


def test_make_maps__torn_files_are_computed_again(loads: Loads, cache_home: Path) -> None:
    first = _make(loads.sources())
    for file in (cache_home / "dvme" / "maps").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    second = _make(loads.sources())
    assert not any(item.is_kept for item in second)
    _assert_equal(first, second)
    assert all(item.is_kept for item in _make(_unreadable(loads.sources())))


def test_make_maps__nowhere_to_keep_them(loads: Loads, tmp_path: Path, cache_home: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = Kept(tmp_path / "file" / "maps")
    first, second = (_make(loads.sources(), kept=kept) for _ in range(2))
    assert not any(item.is_kept for item in second)
    _assert_equal(first, second)
    assert not cache_home.exists()


def test_make_maps__one_embedding_twice_is_one_map(loads: Loads) -> None:
    one, other = _make(loads.sources("first", "first"), method="tsne", kept=NOWHERE)
    np.testing.assert_array_equal(one.positions, other.positions)


def test_make_maps__tells_its_progress(loads: Loads) -> None:
    told: list[tuple[str, int, int]] = []
    _make(loads.sources(), progress=lambda *step: told.append(step))
    assert told == [("pca maps", done, 3) for done in range(4)]


@pytest.mark.parametrize("method", METHODS)
def test_make_maps__five_rows_are_enough(loads: Loads, method: str) -> None:
    few = Loads({name: values[:5] for name, values in loads.embeddings.items()})
    found = _make(few.sources(), method=method, labels=LABELS[:5], groups=GROUPS[:5])
    assert all(np.isfinite(item.positions).all() for item in found)
    assert all(item.quality.n_neighbours == 2 for item in found)


@pytest.mark.parametrize("method", METHODS)
def test_make_maps__equal_embeddings_are_named(loads: Loads, method: str) -> None:
    loads.embeddings["second"] = np.ones((N, 8), dtype=np.float32)
    with pytest.raises(DataError, match=r"^all 60 second embeddings are equal; there is nothing to map$"):
        _make(loads.sources("first", "second"), method=method)


LARGE = {"most": 40}


def test_make_maps__of_many_rows_a_sample_is_laid_out(loads: Loads) -> None:
    reduced = {name: _reduced(values) for name, values in loads.embeddings.items()}
    sample = proportional_sample(reduced["first"], 40, 3)
    initial = reduced["first"][sample, :2].astype(np.float64)
    raw = [place(values, sample, "tsne", initial=initial, seed=3) for values in reduced.values()]
    found = _make(loads.sources(), method="tsne", seed=3, **LARGE)
    for item, positions in zip(found, raw, strict=True):
        np.testing.assert_array_equal(item.positions, aligned(positions, raw[0]))
        assert (item.quality.n_laid_out, item.quality.n_measured) == (40, 40)


def _reduced(values: NDArray[Any]) -> NDArray[np.float32]:
    unit = unit_rows(values)
    return components_of(iter([unit]), COMPONENTS).scores(unit)


def test_make_maps__pca_takes_all_rows_however_many(loads: Loads) -> None:
    few = _make(loads.sources(), kept=NOWHERE)
    many = _make(loads.sources(), kept=NOWHERE, **LARGE)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one.positions, aligned(other.positions, one.positions), atol=1e-4)
        assert (one.quality.n_laid_out, one.quality.n_measured) == (None, None)
        assert (other.quality.n_laid_out, other.quality.n_measured) == (None, 40)


def test_make_maps__as_many_as_are_laid_out_are_few(loads: Loads) -> None:
    _assert_equal(_make(loads.sources(), method="tsne", most=N), _make(loads.sources(), method="tsne", kept=NOWHERE))


def test_make_maps__many_rows_are_never_held_together(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _make(loads.sources("first"), kept=NOWHERE, **LARGE)
    monkeypatch.setattr(components, "BLOCK", 25)
    sizes: list[int] = []

    def read(rows: NDArray[Any]) -> NDArray[Any]:
        sizes.append(len(rows))
        return np.asarray(loads.embeddings["first"][rows])

    in_blocks = _make([Source("first", "first", read)], labels=GROUPS, kept=NOWHERE, **LARGE)  # none has a label
    assert sizes == [25, 25, 10, 25, 25, 10, 25, 15]  # twice all, and those that are measured
    np.testing.assert_allclose(whole[0].positions, in_blocks[0].positions, atol=1e-5)


def test_make_maps__many_rows_are_measured_on_those_drawn(loads: Loads) -> None:
    labels = np.where(np.arange(N) % 5 == 0, LABELS, "").astype(object)  # 12 labels, all of which vote
    (found,) = _make(loads.sources("first"), labels=labels, **LARGE)
    unit, positions = unit_rows(loads.embeddings["first"]), found.positions
    drawn = measured_rows(labels, ALL, ALL, 40, 0)
    among = drawn.rows[drawn.is_among]
    trusted, preserved = neighbourhoods(unit[among], positions[among], 15, np.arange(40))
    known = np.flatnonzero(labels != "")
    accuracy, n_asked = knn_accuracy(unit, labels, GROUPS, known, known)
    quality = found.quality
    assert quality.trustworthiness == pytest.approx(trusted, abs=1e-6)
    assert quality.preservation == pytest.approx(preserved)
    assert (quality.knn_accuracy, quality.n_asked) == (accuracy, n_asked) == (accuracy, 12)


def test_make_maps__kept_maps_of_many_rows_are_of_one_sample_size(loads: Loads, cache_home: Path) -> None:
    few = _make(loads.sources("first"), method="tsne")
    old = key_of("positions", 1, "tsne", "digest of first", "digest of first", 0, settings("tsne"))
    assert (cache_home / "dvme" / "maps" / f"{old}.npz").is_file()  # as before maps of many rows were made
    many = _make(loads.sources("first"), method="tsne", **LARGE)
    assert not many[0].is_kept
    again = _make(_unreadable(loads.sources("first")), method="tsne", **LARGE)
    assert again[0].is_kept
    _assert_equal(many, again)
    assert not _make(loads.sources("first"), method="tsne", most=41)[0].is_kept
    _assert_equal(few, _make(_unreadable(loads.sources("first")), method="tsne"))


def test_make_maps__many_equal_embeddings_are_named(loads: Loads) -> None:
    loads.embeddings["second"] = np.ones((N, 8), dtype=np.float32)
    with pytest.raises(DataError, match=r"^all 60 second embeddings are equal; there is nothing to map$"):
        _make(loads.sources("first", "second"), method="tsne", **LARGE)
