from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dvme
from dvme.errors import DataError, OptionError
from dvme.places import open_cache
from dvme.study.design import near
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.subsets import draw_design, inspect
from dvme_cache import MissingEmbeddingsError

N = 160
LABELS = np.arange(N) % 2
NAMES = [str(label) for label in LABELS]
BRIEF = SubsetOptions(sizes=("10", "30", "full"), n_folds=3)
Write = Callable[..., Path]
Make = Callable[..., NDArray[Any]]


@pytest.fixture
def features(make_features: Make) -> dict[str, NDArray[Any]]:
    return {"a": make_features(LABELS, 1.0, 0), "b": make_features(LABELS, 0.5, 1)}


def _content(manifest: SubsetManifest, positions: NDArray[Any]) -> set[bytes]:
    return {row.tobytes() for row in manifest.images[positions]}


def test_subsets__the_file_is_what_is_returned(tmp_path: Path, write_embeddings: Write, features: Any) -> None:
    cache = write_embeddings(tmp_path / "c.zarr", features, label=NAMES)
    told: list[tuple[str, int, int]] = []
    report = dvme.subsets(cache, tmp_path / "s.json", options=BRIEF, progress=lambda *each: told.append(each))
    assert SubsetManifest.load(tmp_path / "s.json").hash == report.manifest.hash
    assert report.path == str(tmp_path / "s.json")
    assert dvme.subsets(cache, options=BRIEF).manifest.hash == report.manifest.hash
    assert told == [("compare images", 0, 2), ("compare images", 1, 2), ("compare images", 2, 2)]
    found = report.to_json()
    assert (found["n_images"], found["n_test"], found["n_draws"], found["classes"]) == (N, 32, 3, ["0", "1"])
    train = [(each["size"], each["n_train"]) for each in found["sizes"]]
    assert train[:2] == [("10", 10), ("30", 30)]
    assert train[2][0] == "full"
    assert found["hash"] == report.manifest.hash


def test_subsets__another_lab_draws_the_same_from_its_own_file_of_the_same_images(
    tmp_path: Path, write_embeddings: Write, features: Any
) -> None:
    """A drawing depends on the rows' order; the file does not, and so it is the file that is handed on."""
    cache = write_embeddings(tmp_path / "c.zarr", features, label=NAMES)
    report = dvme.subsets(cache, tmp_path / "s.json", options=BRIEF)
    again = write_embeddings(
        tmp_path / "elsewhere.zarr", features, label=NAMES, path=[f"x/{image}.dcm" for image in range(N)]
    )
    assert dvme.subsets(again, options=BRIEF).manifest.hash == report.manifest.hash


def test_subsets__rows_without_a_label_or_an_embedding_take_no_part(
    tmp_path: Path, write_embeddings: Write, features: Any
) -> None:
    features["b"][[4, 5]] = np.nan
    cache = write_embeddings(tmp_path / "c.zarr", features, label=["", *NAMES[1:]])
    report = dvme.subsets(cache, options=BRIEF)
    assert report.n_left_out == {"without an embedding": 2, "without a label": 1}
    assert len(report.manifest.images) == N - 3
    # Of one backbone alone, its own rows.
    assert len(dvme.subsets(cache, options=BRIEF, backbones=["a"]).manifest.images) == N - 1


def test_subsets__patients_stay_together(tmp_path: Path, write_embeddings: Write, features: Any) -> None:
    groups = [f"p{row // 4}" for row in range(N)]
    cache = write_embeddings(tmp_path / "c.zarr", features, label=NAMES, group=groups)
    manifest = dvme.subsets(cache, options=BRIEF).manifest
    for draw in manifest.draws:
        sides = [{groups[row] for row in part} for part in (manifest.test, draw.train, draw.validation)]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
    assert ", grouped" in manifest.policy["plan"]


def test_subsets__a_patient_on_both_sides_of_the_users_split_is_an_error(
    tmp_path: Path, write_embeddings: Write, features: Any
) -> None:
    splits, groups = ["train"] * 120 + ["test"] * 40, [f"p{row // 7}" for row in range(N)]
    cache = write_embeddings(tmp_path / "c.zarr", features, label=NAMES, split=splits, group=groups)
    with pytest.raises(DataError, match="1 groups are in both train and test: a leak"):
        dvme.subsets(cache, options=BRIEF)


def test_subsets__pictures_of_the_same_bits_stay_together(
    tmp_path: Path, write_embeddings: Write, make_features: Make
) -> None:
    """Two files of every picture."""
    pictures = np.repeat(np.arange(N // 2), 2)
    labels = pictures % 2
    features = {name: make_features(np.arange(N // 2) % 2, 1.0, seed)[pictures] for seed, name in enumerate("ab")}
    cache = write_embeddings(tmp_path / "c.zarr", features, label=[str(label) for label in labels])
    report = dvme.subsets(cache, options=BRIEF)
    for draw in report.manifest.draws:
        sides = [set(pictures[part].tolist()) for part in (report.manifest.test, draw.train, draw.validation)]
        assert sum(len(side) for side in sides) == N // 2
    assert report.duplicates == []


@pytest.fixture
def planted(
    tmp_path: Path, write_embeddings: Write, make_features: Make
) -> tuple[Path, list[tuple[int, int]], list[str]]:
    """The user's split, with copies of test images among the first of the training images, in the second backbone."""
    splits = ["train"] * 120 + ["test"] * 40
    rng = np.random.default_rng(0)
    features = {name: make_features(LABELS, 1.0, seed, dim=16) for seed, name in enumerate("ab")}
    blind = (100.0 + 1e-3 * rng.normal(size=(N, 16))).astype(np.float32)
    pairs = [(120 + i, i) for i in range(5)]
    for test, train in pairs:
        features["b"][train] = features["b"][test] + 1e-3 * rng.normal(size=16)
    cache = write_embeddings(tmp_path / "p.zarr", {**features, "blind": blind}, label=NAMES, split=splits)
    return cache, pairs, splits


def test_subsets__near_duplicates_across_the_split_are_listed(
    planted: tuple[Path, list[tuple[int, int]], list[str]],
) -> None:
    cache, pairs, _ = planted
    report = dvme.subsets(cache, options=BRIEF)
    found = {(each["one"], each["other"], each["side"], each["backbone"]) for each in report.duplicates}
    assert found == {(f"{test}.png", f"{train}.png", "test", "b") for test, train in pairs}
    assert all(each["cosine"] > 0.999 for each in report.duplicates)
    notices = "\n".join(report.manifest.notices)
    assert "near-duplicates were not looked for in blind: too many pairs of images" in notices
    assert "5 pairs of near-duplicates between test and training images: " in notices
    assert "dvme subsets --drop-duplicates leaves them out" in notices
    # All that train or choose are there still.
    assert len(report.manifest.draws[0].train) + len(report.manifest.draws[0].validation) == 120


def test_subsets__drop_duplicates_leaves_them_out_of_training_alone(
    planted: tuple[Path, list[tuple[int, int]], list[str]],
) -> None:
    cache, pairs, _ = planted
    whole = dvme.subsets(cache, options=BRIEF)
    options = SubsetOptions(sizes=BRIEF.sizes, n_folds=3, drop_duplicates=True)
    report = dvme.subsets(cache, options=options)
    manifest = report.manifest
    assert manifest.test.tolist() == whole.manifest.test.tolist()
    assert report.duplicates == whole.duplicates
    left = set(range(120)) - {train for _, train in pairs}
    for draw in manifest.draws:
        assert set(draw.train.tolist()) | set(draw.validation.tolist()) == left
        for size in (0, 1):  # balanced still
            counts = np.bincount(LABELS[manifest.train(draw, size)])
            assert abs(counts[0] - counts[1]) <= 1
    notices = "\n".join(manifest.notices)
    assert "5 pairs of near-duplicates between test and training images" in notices
    assert ": left out of training" in notices
    assert manifest.hash != whole.manifest.hash


def test_subsets__a_search_in_part_is_told_and_exact_finds_all(
    planted: tuple[Path, list[tuple[int, int]], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report, in the file, and in what is kept for a later look, which is not taken for all there is."""
    cache, pairs, _ = planted
    monkeypatch.setattr(near, "MANY", 100)
    monkeypatch.setattr(near, "MOST_VISITS", -1)
    snapshot, kept = Snapshot.take(open_cache(cache), ["a", "b"]), tmp_path / "seen.npz"
    drawn = draw_design(snapshot, BRIEF)
    drawn.keep(kept)
    report = dvme.subsets(cache, tmp_path / "s.json", options=BRIEF, backbones=["a", "b"])
    said = "near-duplicates searched in cells, approximately, in b: found "
    for notices in (report.notices, report.to_json()["notices"], SubsetManifest.load(tmp_path / "s.json").notices):
        line = next(line for line in notices if line.startswith(said))
        assert "pairs of a sample of 160 images (recall at least " in line
        assert "near_duplicates='exact' finds all, in about 1 s" in line
    looks = [inspect(snapshot, kept, exact=exact).similar for exact in (False, True)]
    assert [list(each.approximate) for each in looks] == [["a", "b"], []]
    exact = dvme.subsets(cache, options=replace(BRIEF, near_duplicates="exact"), backbones=["a", "b"])
    assert {(each["one"], each["other"]) for each in exact.duplicates} == {(f"{a}.png", f"{b}.png") for a, b in pairs}
    assert not any("approximately" in notice for notice in exact.notices)
    assert exact.manifest.policy["near_duplicates"] == "exact"
    assert "near_duplicates" not in report.manifest.policy


def test_subsets__several_labels(tmp_path: Path, write_embeddings: Write, features: Any) -> None:
    rng = np.random.default_rng(0)
    names = np.array(["effusion", "mass"], dtype=object)
    labels = ["|" + "".join(f"{name}|" for name in names[rng.random(2) < 0.5]) for _ in range(N)]
    cache = write_embeddings(tmp_path / "c.zarr", features, label=labels)
    manifest = dvme.subsets(cache, tmp_path / "s.json", options=SubsetOptions(sizes=("20", "full"))).manifest
    assert (manifest.classes, manifest.targets.is_multilabel) == (("effusion", "mass"), True)
    for row, label in zip(manifest.targets.values, labels, strict=True):
        assert row.tolist() == [float(f"|{name}|" in label) for name in names]
    back = dvme.sweep(cache, tmp_path / "run", heads=["knn"], subsets=tmp_path / "s.json")
    assert back.subsets == manifest.hash


def test_subsets__of_an_older_dvme_with_a_separator(tmp_path: Path, write_embeddings: Write, features: Any) -> None:
    """Its cache has the labels as they were in the table."""
    labels = [("a|b", "a", "none")[i % 3] for i in range(N)]
    new = write_embeddings(tmp_path / "new.zarr", features, label=[f"|{label}|" for label in labels])
    old = write_embeddings(tmp_path / "old.zarr", features, label=labels)
    manifest = dvme.subsets(new, options=SubsetOptions(sizes=("full",))).manifest
    replace(manifest, policy={**manifest.policy, "separator": "|"}).save(tmp_path / "s.json")
    report = dvme.sweep(old, tmp_path / "run", heads=["knn"], subsets=tmp_path / "s.json")
    assert report.task.classes == ("a", "b", "none")


def test_subsets__what_cannot_be_written_or_read(tmp_path: Path, write_embeddings: Write, features: Any) -> None:
    cache = write_embeddings(tmp_path / "c.zarr", features, label=NAMES)
    (tmp_path / "s.json").write_text("mine")
    with pytest.raises(OptionError, match="is there already; name another file, or pass force=True"):
        dvme.subsets(cache, tmp_path / "s.json", options=BRIEF)
    assert (tmp_path / "s.json").read_text() == "mine"
    with pytest.raises(OptionError, match="none is not a folder; make it first"):
        dvme.subsets(cache, tmp_path / "none" / "s.json", options=BRIEF)
    dvme.subsets(cache, tmp_path / "s.json", options=BRIEF, force=True)
    assert SubsetManifest.load(tmp_path / "s.json").sizes == ("10", "30", "full")
    with pytest.raises(MissingEmbeddingsError, match="has no dino embeddings"):
        dvme.subsets(cache, options=BRIEF, backbones=["dino"])
    with pytest.raises(OptionError, match="size 200 is more than the 102 training images of a fold; leave it out"):
        dvme.subsets(cache, options=dvme.SubsetOptions(sizes=("100", "200")))
    assert dvme.subsets(cache).manifest.sizes == ("50", "100", "full")
