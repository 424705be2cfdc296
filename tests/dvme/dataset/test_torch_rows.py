"""Rows for training: each embedding beside its own class, whoever reads it, and another view in each epoch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import dvme
from dvme.errors import DataError, OptionError
from dvme_cache import EmbeddingCache

FAILED, PRUNED, UNLABELLED = 3, 7, 11
N_ROWS = 20
CLASSES = ("high", "low", "middle")
Write = Callable[..., Path]


def _expected(cache: Path, *, is_labelled: bool = True) -> list[int]:
    out = {FAILED, PRUNED, UNLABELLED} if is_labelled else {FAILED, PRUNED}
    return [image for image in range(N_ROWS) if image not in out]


def test_items__are_the_rows_and_their_classes(cache: Path) -> None:
    data, store = dvme.EmbeddingDataset(cache, "a"), EmbeddingCache.open(cache)
    images = _expected(cache)
    assert (len(data), data.classes, data.n_views, data.n_left_out) == (len(images), CLASSES, 1, 2)
    assert data.data.images.tolist() == [f"{image}.png" for image in images]
    values, labels = store.embeddings("a").read(np.array(images)), store.column("label")[images]
    for (features, target), row, label in zip(data, values, labels, strict=True):  # ends by its IndexError
        assert (features.dtype, target.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(features.numpy(), row)
        assert data.classes[target] == label
    assert torch.equal(data[-1][0], data[len(images) - 1][0])


def test_items__of_several_backbones_and_without_targets(cache: Path) -> None:
    data = dvme.open(cache).torch(["b", "a"], targets=False)
    images = _expected(cache, is_labelled=False)
    assert (data.backbones, data.classes) == (("b", "a"), ())
    assert data.data.images.tolist() == [f"{image}.png" for image in images]
    item = data[4]
    assert [*item] == ["b", "a"]
    assert [own.shape for own in item.values()] == [(3,), (4,)]
    assert {own.dtype for own in item.values()} == {torch.float32}
    assert item["a"][0] == images[4]


def test_split__keeps_the_classes_of_the_whole(cache: Path) -> None:
    """The part lacks a class, and its targets stay those of the cache."""
    whole = dvme.open(cache)
    part = whole.at((whole.labels == "middle") | (whole.labels == "low"))
    data = part.torch("a", split="test")
    assert set(data.data.splits.tolist()) == {"test"}
    assert data.classes == CLASSES
    assert [data.classes[target] for _, target in data] == data.data.labels.tolist()
    with pytest.raises(DataError, match="has no image with a label and an embedding of a in its val part"):
        whole.torch("a", split="val")
    with pytest.raises(DataError, match="split 'tset' is not known"):
        whole.torch("a", split="tset")
    with pytest.raises(DataError, match=r"no backbone of .* is named; it has a, b, late"):
        whole.torch([])
    with pytest.raises(DataError, match=r"has no image with an embedding of late$"):
        whole.torch("late", targets=False)


def test_targets__of_several_findings(tmp_path: Path, write_embeddings: Write) -> None:
    labels = ["|Effusion|Mass|", "|", "|Mass=?|", "", "|Effusion=|"]
    path = write_embeddings(tmp_path / "c.zarr", {"a": np.ones((5, 2), np.float32)}, label=labels)
    data = dvme.EmbeddingDataset(path, "a")
    assert data.classes == ("Effusion", "Mass")
    found = torch.stack([target for _, target in data])
    nan = np.nan
    np.testing.assert_array_equal(found.numpy(), np.array([[1, 1], [0, 0], [0, nan], [nan, 0]], dtype=np.float32))


def _shown(data: dvme.EmbeddingDataset, order: NDArray[np.int64] | None = None) -> dict[int, int]:
    """Image to the view that is shown."""
    places = np.arange(len(data)) if order is None else order
    firsts = [int(features[0]) for features, _ in (data[int(place)] for place in places)]
    return {first % 100: first // 100 for first in firsts}


def test_views__another_one_in_each_epoch_and_the_same_in_any_order(cache: Path) -> None:
    data = dvme.EmbeddingDataset(cache, "a", views=True)
    assert (data.n_views, len(data)) == (3, len(_expected(cache)))
    first = _shown(data)
    for usual in ("flip+rotate+crop", "train:flip+rotate+crop"):  # the second as messages of a study have it
        assert _shown(dvme.EmbeddingDataset(cache, "a", views=usual)) == first
    assert set(first) == set(_expected(cache))
    assert _shown(data, np.random.default_rng(0).permutation(len(data))) == first
    data.set_epoch(1)
    assert _shown(data) != first
    assert _shown(dvme.EmbeddingDataset(cache, "a", views=True, seed=1)) != first
    data.set_epoch(0)
    assert _shown(data) == first
    counts = np.zeros((3, len(data)), dtype=np.int64)
    for epoch in range(300):
        data.set_epoch(epoch)
        counts[data._views_of(np.arange(len(data))), np.arange(len(data))] += 1
    assert counts.min() > 60  # of 100 that are expected, with a deviation of 8


def test_views__plain_unless_asked_for_and_refused_where_there_are_none(cache: Path) -> None:
    assert set(_shown(dvme.EmbeddingDataset(cache, "a")).values()) == {0}
    with pytest.raises(DataError, match=r"has no views of b; run dvme extract IMAGES .* --backbones b --views 2"):
        dvme.EmbeddingDataset(cache, "b", views=True)
    with pytest.raises(DataError, match=r"has no views by rotate\+crop of a"):
        dvme.EmbeddingDataset(cache, "a", views="rotate+crop")
    with pytest.raises(OptionError, match="a@view=1 is a view already"):
        dvme.EmbeddingDataset(cache, "a@view=1", views=True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:This DataLoader will create:UserWarning")
def test_data_loader__two_workers_read_what_one_process_reads(cache: Path) -> None:
    """Workers that stay hear of the epoch."""
    data = dvme.EmbeddingDataset(cache, "a", views=True)
    options = {"batch_size": 4, "num_workers": 2, "persistent_workers": True, "multiprocessing_context": "fork"}
    loader, seen = DataLoader(data, **options), []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        batches = list(loader)
        alone = list(DataLoader(data, batch_size=4))
        assert [len(target) for _, target in batches] == [4, 4, 4, 4, 1]
        for (features, target), (own, its) in zip(batches, alone, strict=True):
            assert torch.equal(features, own)
            assert torch.equal(target, its)
        seen.append(torch.cat([features for features, _ in batches]))
    assert not torch.equal(*seen)


def test_pickle__a_worker_that_is_started_anew_opens_it_again(cache: Path) -> None:
    data = dvme.EmbeddingDataset(cache, ["a", "b"], views=False)
    again = pickle.loads(pickle.dumps(data))
    for (features, target), (own, its) in zip(data, again, strict=True):
        assert torch.equal(target, its)
        assert all(torch.equal(features[name], own[name]) for name in ("a", "b"))
