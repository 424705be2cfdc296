"""A backbone is not tested on what its weights were trained on, nor on images of the same patients."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme
from dvme.backbones.own.trained_on import PROVENANCE, TrainedOn, as_text
from dvme.errors import DataError
from dvme.study.design.learned import UNLABELLED
from dvme_cache import EmbeddingCache, Fingerprint

N = 60
TEST = range(40, 60)
SPLIT = ["train"] * 30 + ["val"] * 10 + ["test"] * 20
LABELS = [str(image % 2) for image in range(N)]


@pytest.fixture
def write_cache(tmp_path: Path, write_embeddings: Callable[..., Path]) -> Callable[..., Path]:
    """A cache of a published backbone and of `tuned`, whose provenance is given."""

    def write(provenance: Mapping[str, Any], groups: list[str] | None = None, name: str = "c.zarr") -> Path:
        rng = np.random.default_rng(0)
        values = (rng.normal(size=(N, 4)) + np.arange(N)[:, None] % 2).astype(np.float32)
        columns = {"label": LABELS, "split": SPLIT} | ({} if groups is None else {"group": groups})
        place = write_embeddings(tmp_path / name, {"published": values}, **columns)
        with EmbeddingCache.writing(place) as store:
            table = store.ensure_embeddings(
                "tuned", Fingerprint({"weights": "tuned"}), dim=4, dtype="float32", provenance=dict(provenance)
            )
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
        return place

    return write


def kept(images: list[int] | range, *, is_transductive: bool = False) -> dict[str, Any]:
    """What extraction keeps of a backbone that was trained on these: content ids begin with the number of the image."""
    keys, none = np.array([image + 1 for image in images], dtype=np.uint64), np.empty(0, dtype=np.uint64)
    known = TrainedOn(none, keys) if is_transductive else TrainedOn(keys, none)
    return {PROVENANCE: {"images": as_text(known), "is_transductive": is_transductive}}


def probe(cache: Path, **options: Any) -> Any:
    options = {"backbones": ["published", "tuned"], "n_folds": 2} | options
    return dvme.probe(cache, heads=["linear@strengths=0.01:0.1"], progress=dvme.silent, **options)


def test_check_learned__its_own_test_images(write_cache: Callable[..., Path]) -> None:
    cache = write_cache(kept([0, 5, 41, 59, 100]))
    expected = (
        "tuned was trained or chosen on 2 of 20 test images; leave it out of backbones, or hold those images out of "
        "the test part"
    )
    with pytest.raises(DataError) as refused:
        probe(cache)
    assert str(refused.value) == expected
    assert probe(cache, backbones=["published"]).cells, "only who takes part is asked"


def test_check_learned__training_images_are_said_where_their_labels_were_learned(
    write_cache: Callable[..., Path],
) -> None:
    report = probe(write_cache(kept(range(35))))
    (line,) = [line for line in report.notices if "learned" in line]
    assert line.startswith("tuned learned the labels of 35 of 40 images to train and to choose on: ")
    seen = {PROVENANCE: kept(range(35), is_transductive=True)[PROVENANCE] | {"is_transductive": False}}
    report = probe(write_cache(seen, name="seen.zarr"))
    assert not [line for line in report.notices if "learned" in line or "trained" in line], "without labels"


def test_check_learned__labels_once_learned_are_refused_of_a_transductive_backbone(
    write_cache: Callable[..., Path],
) -> None:
    known = TrainedOn(np.array([42], dtype=np.uint64), np.array([43], dtype=np.uint64))
    cache = write_cache({PROVENANCE: {"images": as_text(known), "is_transductive": True}})
    with pytest.raises(DataError, match="trained or chosen on 1 of 20 test images"):
        probe(cache)


def test_check_learned__images_of_the_same_patients(write_cache: Callable[..., Path]) -> None:
    """Of groups of five, one image of 40 to 44 was trained on, which takes no part in the study."""
    groups = [f"p{image // 5}" for image in range(N)]
    cache = write_cache(kept([3, 40]), groups)
    with EmbeddingCache.writing(cache) as store:
        store.update_columns([40], {"label": [""]})
    with pytest.raises(DataError, match=r"on 0 of 19 test images and on others of the groups of 4 more; leave"):
        probe(cache)


def test_check_learned__transductive_is_said_everywhere_in_the_same_words(
    write_cache: Callable[..., Path], tmp_path: Path
) -> None:
    cache, run = write_cache(kept(range(30, 50), is_transductive=True)), tmp_path / "run"
    options = dvme.SubsetOptions(sizes=("12", "full"), n_folds=2)
    report = dvme.sweep(cache, run, heads=["linear@strengths=0.01:0.1"], options=options, progress=dvme.silent)
    line = f"tuned saw 10 of 20 test images {UNLABELLED}"
    assert line in report.notices
    assert line not in report.asides
    assert line in json.loads((run / "summary.json").read_text())["notices"]
    page = tmp_path / "page.html"  # an anonymous one leaves out all other notices of a study
    dvme.write_report(run, out=page, options=dvme.PageOptions(anonymous=True, methods=("pca",)), progress=dvme.silent)
    assert line in page.read_text()


@pytest.mark.parametrize(
    ("provenance", "line"),
    [
        ({"spec": {"trained_on": "/gone/own.ids"}}, "the cache does not say on which"),
        ({PROVENANCE: {"images": "AAAA", "is_transductive": False}}, "is torn"),
        ({PROVENANCE: {}}, "the cache does not say on which"),
    ],
)
def test_check_learned__what_cannot_be_known_is_refused(
    write_cache: Callable[..., Path], provenance: dict[str, Any], line: str
) -> None:
    with pytest.raises(DataError, match=line):
        probe(write_cache(provenance))


def test_check_learned__images_of_another_site(write_cache: Callable[..., Path], tmp_path: Path) -> None:
    """A site's images are not the study's: cached ids are moved by 100 there."""
    cache = write_cache({})
    site = tmp_path / "site.zarr"
    values = np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32)
    with EmbeddingCache.writing(site) as store:
        ids = [(image + 101).to_bytes(8, "big") * 2 for image in range(N)]
        rows = store.samples.add(ids, [f"{image}.png" for image in range(N)])
        store.update_columns(rows, {"label": LABELS})
        for name, of in (("published", {}), ("tuned", kept([100, 101, 102]))):
            mark = Fingerprint({"weights": name})
            table = store.ensure_embeddings(name, mark, dim=4, dtype="float32", provenance=of)
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
    with pytest.raises(DataError, match="on 3 of 60 test images at site; leave it out of backbones, or leave"):
        probe(cache, test=[site])
