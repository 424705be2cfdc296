from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from own_head import Centroids

import dvme
from dvme.errors import DataError, OptionError
from dvme.runtime import silent
from dvme.study.design.matching import matched
from dvme.study.design.named import named_backbones
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.subsets import draw_design
from dvme_cache import EmbeddingCache, Fingerprint
from dvme_cache.embeddings import Embeddings
from dvme_cache.tables import ColumnTables

N = 40
LABELS = ["benign", "malignant"] * 20
Write = Callable[..., Path]


@pytest.fixture
def features() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=(N, 4)).astype(np.float32), "b": rng.normal(size=(N, 6)).astype(np.float16)}


@pytest.fixture
def cache(tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]) -> Path:
    groups = [f"p{row // 2}" for row in range(N)]
    return write_embeddings(tmp_path / "c.zarr", features, label=LABELS, group=groups)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each column, and each backbone's embeddings, are read from now on."""
    found: Counter[str] = Counter()
    columns, embeddings = ColumnTables._read, Embeddings.read

    def column(self: ColumnTables, generation: str, name: str, *rest: Any) -> Any:
        found[name] += 1
        return columns(self, generation, name, *rest)

    def features(self: Embeddings, rows: Any) -> Any:
        found[f"{self.dim} values"] += 1
        return embeddings(self, rows)

    monkeypatch.setattr(ColumnTables, "_read", column)
    monkeypatch.setattr(Embeddings, "read", features)
    return found


def test_take__everybody_with_a_label_and_every_embedding(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]
) -> None:
    """Who is left out is counted by the reason; who was removed from the cache is nobody's loss."""
    features["a"][[4, 5]] = np.nan
    features["b"][[5, 6]] = np.nan
    path = write_embeddings(tmp_path / "c.zarr", features, label=["", "", *LABELS[2:]])
    with EmbeddingCache.writing(path) as store:
        rows = store.samples.add([bytes([255 - n]) * 16 for n in range(3)], [f"new{n}.png" for n in range(3)])
        store.update_columns(rows, {"label": ["benign"] * 3})
        store.samples.prune(np.array([1]))
    snapshot = Snapshot.take(EmbeddingCache.open(path), ["a", "b"])
    assert snapshot.rows.tolist() == [2, 3, *range(7, N)]
    assert snapshot.left_out == {"without an embedding": 3, "not extracted yet": 3, "without a label": 1}
    assert snapshot.images.tolist() == [f"{row}.png" for row in snapshot.rows]
    assert snapshot.labels.tolist() == [LABELS[row] for row in snapshot.rows]
    assert [bytes(own) for own in snapshot.ids] == [(row + 1).to_bytes(8, "big") * 2 for row in snapshot.rows.tolist()]
    np.testing.assert_array_equal(snapshot.read("b"), features["b"][snapshot.rows])
    alone = Snapshot.take(EmbeddingCache.open(path), ["a"])
    assert alone.left_out == {"without an embedding": 2, "not extracted yet": 3, "without a label": 1}


def test_take__nobody(tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]) -> None:
    features["a"][:] = np.nan
    path = write_embeddings(tmp_path / "c.zarr", features, label=LABELS)
    with pytest.raises(
        DataError, match=r"of a, b \(40 without an embedding\); no image has one of a: leave it out of backbones$"
    ):
        Snapshot.take(EmbeddingCache.open(path), ["a", "b"])
    with EmbeddingCache.writing(tmp_path / "d.zarr") as store:
        store.ensure_embeddings("a", Fingerprint({}), dim=4, dtype="float32", provenance={})
    with pytest.raises(DataError, match=r"has no labelled row with an embedding of a \(empty"):
        Snapshot.take(EmbeddingCache.open(tmp_path / "d.zarr"), ["a"])


@pytest.mark.parametrize(
    ("columns", "step"),
    [
        ({}, r"MANIFEST with label='COLUMN' adds labels$"),
        (
            {"mask": ["{}", *[""] * (N - 1)]},
            r"images have masks: name a head of these, such as heads=\['segment-linear'\]$",
        ),
    ],
)
def test_take__without_a_label_says_how_they_are_told(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]], columns: dict[str, list[str]], step: str
) -> None:
    store = EmbeddingCache.open(write_embeddings(tmp_path / "c.zarr", features, **columns))
    with pytest.raises(DataError, match=r"no labelled row with an embedding of a \(40 without a label\); .*" + step):
        Snapshot.take(store, ["a"])


def test_named_backbones__all_or_those_asked_for_once_each(tmp_path: Path, cache: Path) -> None:
    store = EmbeddingCache.open(cache)
    assert named_backbones(store, None) == ["a", "b"]
    assert named_backbones(store, ["b", "a", "b"]) == ["b", "a"]
    with (
        EmbeddingCache.writing(tmp_path / "e.zarr") as empty,
        pytest.raises(OptionError, match="has no embeddings yet"),
    ):
        named_backbones(empty, None)


def test_named_backbones__dense_features_are_left_out_and_refused_by_name(
    tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]
) -> None:
    dense = {"a@dense=last": features["a"], "b@view=1": features["b"]}
    store = EmbeddingCache.open(write_embeddings(tmp_path / "c.zarr", features | dense))
    assert named_backbones(store, None) == ["a", "b"]
    with pytest.raises(OptionError, match=r"a@dense=last has dense features, this takes one vector .* such as a, b"):
        named_backbones(store, ["a", "a@dense=last"])
    assert named_backbones(store, ["a", "a@dense=last"], may_be_dense=True) == ["a", "a@dense=last"]
    assert named_backbones(store, None, may_be_dense=True) == ["a", "b"]
    store = EmbeddingCache.open(write_embeddings(tmp_path / "d.zarr", dense))
    with pytest.raises(OptionError, match="dense features only: a@dense=last, b@view=1; masks take"):
        named_backbones(store, None)
    assert named_backbones(store, None, may_be_dense=True) == ["a@dense=last"]


@pytest.mark.parametrize("n_relabelled", [1, 2])
def test_take__labels_groups_and_order_are_of_one_moment(
    cache: Path, monkeypatch: pytest.MonkeyPatch, n_relabelled: int
) -> None:
    """Somebody labels the cache anew, with other classes, patients and order, between any two reads."""
    moments = [
        {"label": "c", "group": "q", "split": "test", "order": ("c", "x")},
        {"label": "d", "group": "r", "split": "train", "order": ("d", "y")},
        {"label": "e", "group": "s", "split": "val", "order": ("e", "z")},
    ]

    def relabel(moment: dict[str, Any]) -> None:
        with EmbeddingCache.writing(cache) as store:
            columns = {name: [moment[name]] * N for name in ("label", "group", "split")}
            store.update_columns(np.arange(N), columns, class_order=moment["order"])

    relabel(moments[0])
    for skipped in (0, 1, 3):
        left, read = [skipped], ColumnTables._read

        def meanwhile(*given: Any, left: list[int] = left, read: Any = read) -> Any:
            left[0] -= 1
            if left[0] == -1:
                for moment in moments[1 : 1 + n_relabelled]:
                    relabel(moment)
            return read(*given)

        with monkeypatch.context() as patch:
            patch.setattr(ColumnTables, "_read", meanwhile)
            snapshot = Snapshot.take(EmbeddingCache.open(cache), ["a"])
        found = {"label": set(snapshot.labels), "group": set(snapshot.groups), "split": set(snapshot.splits)}
        assert all(len(own) == 1 for own in found.values())
        assert {name: own.pop() for name, own in found.items()} | {"order": snapshot.class_order} in moments
        relabel(moments[0])


def test_take__reads_each_column_once(cache: Path, reads: Counter[str]) -> None:
    Snapshot.take(EmbeddingCache.open(cache), ["a", "b"])
    assert reads == {"label": 1, "split": 1, "group": 1, "path": 1}


def test_study__reads_each_column_and_each_embedding_once(tmp_path: Path, cache: Path, reads: Counter[str]) -> None:
    """From the search for copies to the last head."""
    dvme.probe(cache, heads=[Centroids(), Centroids(name="fused", is_fusion=True)], n_folds=2, out=tmp_path / "run")
    assert reads == {"label": 1, "split": 1, "group": 1, "path": 1, "4 values": 1, "6 values": 1}


def test_read__is_held_where_all_of_it_fits(
    cache: Path, features: dict[str, NDArray[Any]], reads: Counter[str]
) -> None:
    n_bytes = N * (4 * 4 + 6 * 2)
    taken = Snapshot.take(EmbeddingCache.open(cache), ["a", "b"])
    assert (taken.n_bytes, taken.size_of("b")) == (n_bytes, N * 12)
    for most, expected in ((n_bytes, 1), (n_bytes - 1, 2), (0, 2)):
        reads.clear()
        snapshot = taken.holding(most)
        for _ in range(2):
            np.testing.assert_array_equal(snapshot.read("a"), features["a"])
        assert reads["4 values"] == expected
    held = taken.holding(n_bytes)
    held.read("a")
    held.read("b")
    reads.clear()
    held.forget(["b"])
    held.read("b")
    held.read("a")
    assert reads == {"4 values": 1}


def test_at__some_images_in_another_order(cache: Path, features: dict[str, NDArray[Any]]) -> None:
    """What was read of all of them is not taken for theirs."""
    whole = Snapshot.take(EmbeddingCache.open(cache), ["a", "b"]).holding(2**20)
    whole.read("a")
    some = whole.at(np.array([30, 2, 5]))
    assert (len(some), some.rows.tolist()) == (3, [30, 2, 5])
    np.testing.assert_array_equal(some.read("a"), features["a"][[30, 2, 5]])
    assert some.labels.tolist() == [LABELS[row] for row in (30, 2, 5)]
    assert some.images.tolist() == ["30.png", "2.png", "5.png"]
    assert whole.numbered_groups(np.array([30, 31, 2])) == [1, 1, 0]
    assert whole.notices == []


def test_notices__no_groups(tmp_path: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]) -> None:
    path = write_embeddings(tmp_path / "g.zarr", features, label=LABELS)
    snapshot = Snapshot.take(EmbeddingCache.open(path), ["a"])
    (line,) = snapshot.notices
    assert "group" in line
    assert snapshot.numbered_groups(np.arange(3)) is None


def test_matched__images_in_the_order_of_the_manifest(
    tmp_path: Path, cache: Path, write_embeddings: Write, features: dict[str, NDArray[Any]]
) -> None:
    """Another lab's cache has them in another, and further ones."""
    snapshot = Snapshot.take(EmbeddingCache.open(cache), ["a", "b"]).at(np.arange(30))
    manifest = draw_design(snapshot, dvme.SubsetOptions(sizes=("full",), n_folds=2), silent).subsets
    order = np.random.default_rng(1).permutation(N).tolist()
    groups = [f"p{row // 2}" for row in range(N)]
    there = write_embeddings(tmp_path / "d.zarr", features, order=order, label=LABELS, group=groups)
    same, found, lines = matched(Snapshot.take(EmbeddingCache.open(there), ["a", "b"]), manifest, "s.json")
    assert (same.hash, lines) == (manifest.hash, [])
    assert found.images.tolist() == [f"{image}.png" for image in range(30)]
    np.testing.assert_array_equal(found.read("a"), features["a"][:30])


def test_matched__refused(tmp_path: Path, cache: Path, write_embeddings: Write, features: Any) -> None:
    snapshot = Snapshot.take(EmbeddingCache.open(cache), ["a", "b"])
    manifest = draw_design(snapshot, dvme.SubsetOptions(sizes=("full",), n_folds=2), silent).subsets
    with pytest.raises(DataError, match=r"2 of the 40 images of s.json are not in .* with a label and every embedding"):
        matched(snapshot.at(np.arange(2, N)), manifest, "s.json")
    other = replace(snapshot, labels=np.array(["malignant", *LABELS[1:]], dtype=object))
    with pytest.raises(DataError, match=r"1 image of s.json have another label in .* \(0.png\)"):
        matched(other, manifest, "s.json")
    joined = replace(snapshot, groups=np.full(N, "one", dtype=object))
    with pytest.raises(DataError, match="are in both test and train: a leak"):
        matched(joined, manifest, "s.json")


@pytest.mark.parametrize(
    ("order", "is_given", "n_lines"),
    [((), False, 0), (("benign", "malignant"), True, 0), (("malignant", "benign"), False, 1)],
)
def test_matched__the_order_of_the_manifest_counts(
    cache: Path, order: tuple[str, ...], is_given: bool, n_lines: int
) -> None:
    """That it means something is known from now on where the cache has the same."""
    snapshot = Snapshot.take(EmbeddingCache.open(cache), ["a"])
    manifest = draw_design(snapshot, dvme.SubsetOptions(sizes=("full",), n_folds=2), silent).subsets
    found, _, lines = matched(replace(snapshot, class_order=order), manifest, "s.json")
    assert (found.classes, found.targets.is_order_given) == (("benign", "malignant"), is_given)
    assert (found.hash, len(lines)) == (manifest.hash, n_lines)
