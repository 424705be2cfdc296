from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvme.data import Samples, load_samples
from dvme.data.folder import folder_samples
from dvme.errors import DataError

SaveImage = Callable[..., Path]


def rows(samples: Samples) -> list[tuple[str, str, str]]:
    return list(zip(samples.ids, samples.labels, samples.splits, strict=True))


def touch(*paths: Path) -> None:
    """Empty files: listing a folder opens none of them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folder_samples__class_folders(tmp_path: Path, save_image: SaveImage) -> None:
    for index, place in enumerate(("dog/b.png", "cat/a.png", "dog/a.jpg")):
        save_image(tmp_path / place, seed=index)
    samples = folder_samples(tmp_path)
    assert rows(samples) == [("cat/a.png", "cat", ""), ("dog/a.jpg", "dog", ""), ("dog/b.png", "dog", "")]
    assert samples.paths == [tmp_path / identity for identity in samples.ids]
    assert samples.groups == ["", "", ""]
    assert len(samples) == 3


def test_folder_samples__split_folders_in_every_spelling(tmp_path: Path) -> None:
    touch(*(tmp_path / place for place in ("train/cat/1.png", "valid/dog/2.png", "Testing/cat/3.png")))
    assert rows(folder_samples(tmp_path)) == [
        ("Testing/cat/3.png", "cat", "test"),
        ("train/cat/1.png", "cat", "train"),
        ("valid/dog/2.png", "dog", "val"),
    ]


@pytest.mark.parametrize(
    ("folder", "split"),
    [("training", "train"), ("VAL", "val"), ("validation", "val"), ("test", "test"), ("Train", "train")],
)
def test_folder_samples__spelling_of_one_split(tmp_path: Path, folder: str, split: str) -> None:
    touch(tmp_path / folder / "cat" / "1.png")
    assert rows(folder_samples(tmp_path)) == [(f"{folder}/cat/1.png", "cat", split)]


def test_folder_samples__split_with_unlabelled_images(tmp_path: Path) -> None:
    touch(*(tmp_path / place for place in ("train/cat/1.png", "train/dog/2.png", "test/3.png")))
    assert rows(folder_samples(tmp_path)) == [
        ("test/3.png", "", "test"),
        ("train/cat/1.png", "cat", "train"),
        ("train/dog/2.png", "dog", "train"),
    ]


def test_folder_samples__images_deeper_than_the_class(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "patient7" / "1.png", tmp_path / "dog" / "2.png")
    assert rows(folder_samples(tmp_path)) == [("cat/patient7/1.png", "cat", ""), ("dog/2.png", "dog", "")]


def test_folder_samples__flat_folder(tmp_path: Path) -> None:
    touch(tmp_path / "b.png", tmp_path / "a.TIFF")
    assert rows(folder_samples(tmp_path)) == [("a.TIFF", "", ""), ("b.png", "", "")]


def test_folder_samples__stray_images_beside_class_folders(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.png", tmp_path / "dog" / "2.png", tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"mixes 2 images in class folders with 1 outside .*stray\.png.*manifest"):
        folder_samples(tmp_path)


def test_folder_samples__split_folders_beside_another_folder(tmp_path: Path) -> None:
    touch(*(tmp_path / place for place in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "extra/4.png")))
    with pytest.raises(DataError):
        folder_samples(tmp_path)


def test_folder_samples__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no images \(it is empty\)"):
        folder_samples(tmp_path)


def test_load_samples__missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        load_samples(tmp_path / "nowhere")


def test_folder_samples__other_kinds_of_files_are_named(tmp_path: Path) -> None:
    touch(*(tmp_path / "scans" / f"{index}.mha" for index in range(3)), tmp_path / "notes.txt")
    with pytest.raises(DataError) as caught:
        folder_samples(tmp_path)
    assert "but 3 files of kind .mha; dvme reads " in str(caught.value)
    assert " png " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_samples__hidden_files_and_folders(tmp_path: Path) -> None:
    hidden = ("cat/._1.png", ".thumbs/cat/1.png", "__MACOSX/cat/1.png", "cat/.old/1.png")
    touch(*(tmp_path / place for place in hidden), tmp_path / "cat" / "1.png")
    assert folder_samples(tmp_path).ids == ["cat/1.png"]


def test_folder_samples__files_that_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.png", tmp_path / "cat" / "1.txt", tmp_path / "Thumbs.db")
    assert rows(folder_samples(tmp_path)) == [("cat/1.png", "cat", "")]


def test_folder_samples__symlink_loop_terminates(tmp_path: Path) -> None:
    touch(tmp_path / "cat" / "1.png", tmp_path / "dog" / "2.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dog" / "self").symlink_to(tmp_path / "dog", target_is_directory=True)
    assert rows(folder_samples(tmp_path)) == [("cat/1.png", "cat", ""), ("dog/2.png", "dog", "")]


def test_folder_samples__linked_class_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "1.png", tmp_path / "images" / "dog" / "2.png")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert rows(folder_samples(tmp_path / "images")) == [("cat/1.png", "cat", ""), ("dog/2.png", "dog", "")]


@pytest.mark.parametrize(
    ("place", "given"),
    [("", set()), ("benign", {"label"}), ("train/benign", {"label", "split"}), ("train", {"split"})],
)
def test_folder_samples__knows_what_its_folders_tell(place: str, given: set[str], tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "a.png").touch()
    assert folder_samples(tmp_path).given == given


@pytest.mark.parametrize(
    ("places", "labels"),
    [
        (("top/cat/1.png", "top/dog/2.png"), ["cat", "dog"]),
        (("top/more/cat/1.png", "top/more/dog/2.png"), ["cat", "dog"]),
        (("top/train/cat/1.png", "top/test/dog/2.png"), ["dog", "cat"]),
        (("root/1.png", "root/2.png"), ["", ""]),  # called as the root is
        (("root/cat/1.png", "root/cat/2.png"), ["cat", "cat"]),
        (("cat/1.png", "cat/2.png"), ["cat", "cat"]),
        (("cat/1.png", "cat/more/2.png"), ["cat", "cat"]),
        (("cat/patient7/1.png", "cat/patient7/2.png"), ["cat", "cat"]),
        (("cat/train/1.png", "cat/test/2.png"), ["cat", "cat"]),
        (("train/cat/1.png", "train/dog/2.png"), ["cat", "dog"]),
        (("top/train/cat/1.png", "top/train/dog/2.png"), ["cat", "dog"]),
    ],
)
def test_folder_samples__a_folder_around_everything_is_no_class(
    places: tuple[str, ...], labels: list[str], tmp_path: Path
) -> None:
    touch(*(tmp_path / "root" / place for place in places))
    samples = folder_samples(tmp_path / "root")
    assert samples.labels == labels
    assert samples.ids == sorted(places)  # names stay
    through = [line for line in samples.remarks if "looked through" in line]
    top = {("top/more/cat/1.png", "top/more/dog/2.png"): "top/more", ("root/1.png", "root/2.png"): "root"}
    named = top.get(places, places[0].split("/")[0]) if places[0].startswith(("top", "root")) else None
    assert through == ([f"all images lie in {named}/, which is no class and is looked through"] if named else [])


def test_folder_samples__empty_classes_below_a_folder_around_everything(tmp_path: Path) -> None:
    touch(tmp_path / "top" / "cat" / "1.png", tmp_path / "top" / "dog" / "2.png", tmp_path / "top" / "bird" / "x.txt")
    (tmp_path / "other").mkdir()
    assert folder_samples(tmp_path).remarks == (
        "all images lie in top/, which is no class and is looked through",
        "1 file of other kinds (1 .txt) passed over",
        "a folder holds no image: top/bird, but 1 file of other kinds (1 .txt)",
    )
