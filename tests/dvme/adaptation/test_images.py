"""Distinct images: copies once, columns that copies agree on, and what a method cannot use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvme.adaptation.images import Images, check_images, counts_line, list_images
from dvme.adaptation.settings import settings_of
from dvme.data.sources import read_image
from dvme.errors import DataError, OptionError
from dvme.runtime import Runtime
from dvme_cache.identity import content_id


def find(manifest: Path, **said: Any) -> Images:
    return list_images(manifest, None, **said).identified(Runtime(), lambda *_: None)


def test_list_images__has_each_content_once_with_what_its_copies_agree_on(write_images: Callable[..., Path]) -> None:
    rows = [
        ("one", "a", "train", "g1"),
        ("copy", "b", "train", "g2"),
        ("two", "a", "", "g2"),
        ("three", "b", "train", "g3"),
        ("four", "b", "test", "g4"),
        ("five", "a", "train", "g4"),
    ]
    manifest = write_images(rows, {"copy": "one"})
    found = find(manifest)
    assert [each.path.name for each in found.work] == ["one.png", "two.png", "three.png"]
    assert [each.row for each in found.work] == [0, 1, 2]
    assert found.contents.tobytes() == b"".join(content_id(each.path.read_bytes()) for each in found.work)
    assert found.labels.tolist() == ["", "a", "b"], "copies disagree on the first"
    assert found.parts.tolist() == ["train", "", "train"]
    assert found.groups.tolist() == [0, 0, 1], "a copy links two groups"
    assert found.has_groups
    assert found.n_files == 6
    assert (
        counts_line(found)
        == "3 images of 2 groups to train on; left out: 1 test image and 1 other image of their groups"
    )


def test_list_images__says_what_is_trained_on(pairs: Path, class_folders: Path) -> None:
    everything = find(pairs, transductive=True)
    assert (
        counts_line(everything)
        == "24 images of 12 groups to train on, 4 of a declared test part among them (transductive)"
    )
    assert counts_line(find(class_folders, without_test=True)) == "36 images to train on"
    assert find(class_folders, without_test=True).remarks[-1].startswith("no image has a group: of patients with test")
    with pytest.raises(DataError, match="does not say which images are for testing"):
        find(class_folders)


def test_without__takes_out_rows_and_says_why(pairs: Path) -> None:
    found = find(pairs)
    assert found.without({}) is found
    less = found.without({1: "torn", 3: "empty"})
    assert len(less) == len(found) - 2
    assert [each.row for each in less.work] == list(range(len(less)))
    assert less.contents.tobytes() == b"".join(each.digest for each in less.work)
    assert less.groups.max() == 9
    assert less.remarks[-1] == f"2 images cannot be used and left out, such as {found.work[1].path}: torn"
    assert less.unread == {str(found.work[1].path): "torn", str(found.work[3].path): "empty"}


def test_check_images__refuses_what_a_method_learns_nothing_from(
    pairs: Path, class_folders: Path, write_images: Callable[..., Path]
) -> None:
    paired, folders = find(pairs), find(class_folders, without_test=True)
    for method in ("simclr", "micle", "gmml", "supervised"):
        check_images(paired, settings_of(method, seed=0))
    with pytest.raises(DataError, match=r"micle pairs two images of a group, and no image has a group; .*group"):
        check_images(folders, settings_of("micle", seed=0))
    with pytest.raises(DataError, match="micle pairs two images of a group, and no image has a group"):
        list_images(class_folders, None, without_test=True, method="micle")  # before any file is read
    singles = find(write_images([(f"s{i}", "a", "train" if i else "test", f"g{i}") for i in range(4)], name="s.csv"))
    with pytest.raises(DataError, match=r"every group has one image; .* or pass method='simclr'"):
        check_images(singles, settings_of("micle", seed=0))
    one = find(
        write_images([("x", "a", "test", "g0"), ("y", "a", "train", "g1"), ("z", "a", "train", "g1")], name="o.csv")
    )
    with pytest.raises(DataError, match="all images are of one group"):
        check_images(one, settings_of("simclr", seed=0))
    with pytest.raises(
        OptionError, match=r"supervised learns labels, those of test images too; leave out transductive"
    ):
        check_images(find(pairs, transductive=True), settings_of("supervised", seed=0))
    bare = find(write_images([(f"b{i}", "", "train" if i else "test", "") for i in range(4)], name="b.csv"))
    with pytest.raises(DataError, match="none of 3 images has one"):
        check_images(bare, settings_of("supervised", seed=0))
    for method in ("simclr", "micle", "supervised"):
        assert list_images(pairs, None, method=method).n_at_most == len(paired)


def test_list_images__leaves_out_the_groups_of_test_images_that_are_missing_or_cannot_be_read(
    write_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        ("gone", "a", "test", "g0"),
        ("torn", "a", "test", "g1"),
        ("of-gone", "a", "train", "g0"),
        ("of-torn", "b", "train", "g1"),
        ("other", "b", "train", "g2"),
    ]
    manifest = write_images(rows)
    (manifest.parent / "gone.png").unlink()
    listed = list_images(manifest, None, skip_missing=True)  # a test part is declared, though only one file is there

    def read(path: Path) -> Any:
        if path.stem == "torn":
            raise PermissionError(13, "denied")
        return read_image(path)

    monkeypatch.setattr("dvme.data.hashing.read_image", read)
    found = listed.identified(Runtime(), lambda *_: None)
    assert [each.path.stem for each in found.work] == ["other"]
    assert list(found.unread) == ["torn.png"]
    assert (found.leak.n_test, found.leak.n_related) == (0, 2)
    assert counts_line(found) == (
        "1 image of 1 group to train on; left out: 2 images of groups whose test images are not there"
    )
    (manifest.parent / "torn.png").unlink()
    alone = list_images(manifest, None, skip_missing=True).identified(Runtime(), lambda *_: None)
    assert [each.path.stem for each in alone.work] == ["other"], "where no test file is there at all"
    with pytest.raises(OptionError, match="declares 2 test images"):
        list_images(manifest, None, skip_missing=True, without_test=True)
