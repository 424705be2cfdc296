from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pixel_backbone import pixel_backbone

import dvme
from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode_image
from dvme.errors import DataError
from dvme.extraction.decoding import Work
from dvme.extraction.pictures import check_unchanged, read_pictures
from dvme.runtime import Runtime, silent
from dvme.training.pictures import Pictures
from dvme_cache import EmbeddingCache, content_id

PLENTY = 1 << 30
TWO = Runtime(workers=2)
SPECS = {
    "even": Preprocess(resize=16, crop=12),
    "odd": Preprocess(resize=17, crop=10),
    "grey": Preprocess(resize=17, crop=12, mean=(0.5,), std=(0.5,), interpolation="bicubic"),
    "squashed": Preprocess(resize=15, crop=14, mode="squash"),
}


def spec_of(preprocess: Preprocess, name: str = "net") -> BackboneSpec:
    return replace(get_spec("random"), name=name, preprocess=preprocess)


def work_of(paths: list[Path]) -> list[Work]:
    """In the order of the paths; the rows of a cache are in another one, and have gaps."""
    rows = random.Random(1).sample(range(1000), len(paths))
    return [Work(row, path, content_id(path.read_bytes())) for row, path in zip(rows, paths, strict=True)]


def read(work: list[Work], preprocess: Preprocess, *, runtime: Runtime = TWO, most_bytes: int = PLENTY) -> Pictures:
    return read_pictures(work, spec_of(preprocess), runtime, lambda *_: None, most_bytes)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes, modes and kinds of file."""
    rng = np.random.default_rng(2)
    for number, size in enumerate([(40, 31), (23, 40), (16, 16), (17, 90), (64, 33)]):
        colours = rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / f"{number}.png")
        Image.fromarray(colours[:, :, 0]).save(tmp_path / f"{number} grey.png")
        Image.fromarray(colours).save(tmp_path / f"{number}.jpg", quality=90)
    Image.fromarray(rng.integers(0, 60_000, size=(30, 41), dtype=np.uint16)).save(tmp_path / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colours).save(tmp_path / "turned.jpg", exif=turned)
    return sorted(path for path in tmp_path.iterdir() if path.is_file())


@pytest.mark.parametrize("name", SPECS)
def test_read_pictures__crops_are_the_bits_of_each_image_by_itself(name: str, paths: list[Path]) -> None:
    preprocess = SPECS[name]
    found = read(work_of(paths), preprocess)
    expected = np.stack([crop_image(decode_image(path.read_bytes()), preprocess) for path in paths])
    np.testing.assert_array_equal(found.crops, expected)
    assert found.crops.dtype == found.squares.dtype == np.uint8
    side, channels = preprocess.resize, preprocess.channels
    assert found.squares.shape == (len(paths), side, side, channels)
    assert found.n_bytes == len(paths) * channels * (side**2 + preprocess.crop**2)


@pytest.mark.parametrize("name", SPECS)
def test_read_pictures__squares_have_the_crops_in_their_middle(name: str, paths: list[Path]) -> None:
    """To a pixel, for two odd margins are rounded one by one."""
    preprocess = SPECS[name]
    found = read(work_of(paths), preprocess)
    margin, inner = (preprocess.resize - preprocess.crop) / 2, slice(1, -1)
    starts = range(int(margin - 0.5), int(margin + 1) + 1)
    for crop, square in zip(found.crops, found.squares, strict=True):
        parts = (_part(square, top, left, preprocess.crop) for top in starts for left in starts)
        assert any(np.array_equal(part[inner, inner], crop[inner, inner]) for part in parts if part.shape == crop.shape)


def _part(square: NDArray[Any], top: int, left: int, side: int) -> NDArray[Any]:
    return square[top : top + side, left : left + side]


def test_read_pictures__a_crop_of_all_is_held_once(paths: list[Path]) -> None:
    found = read(work_of(paths), Preprocess(resize=12, crop=12))
    assert found.squares is found.crops


def test_read_pictures__are_what_extraction_has_embedded(class_folders: Path, tmp_path: Path) -> None:
    """Of a backbone whose embedding is the picture itself."""
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[pixel_backbone(tmp_path)], progress=silent)
    store = EmbeddingCache.open(cache)
    embeddings = store.embeddings("pixels")
    rows = np.array([30, 2, 17])
    addresses, ids = store.column("path"), store.samples.ids
    work = [Work(row, Path(addresses[row]), ids[row].tobytes()) for row in rows.tolist()]
    spec = replace(get_spec("random"), preprocess=Preprocess(resize=14, crop=12, mean=(0.0,), std=(1.0,)))
    found = read_pictures(work, spec, TWO, lambda *_: None, PLENTY)
    shown = np.rint(255 * embeddings.read(rows)).astype(np.uint8).reshape(3, 12, 12, 1)
    np.testing.assert_array_equal(found.crops, shown)


def test_read_pictures__tells_how_far_it_is(paths: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    read_pictures(work_of(paths), spec_of(SPECS["even"]), TWO, lambda *said: told.append(said), PLENTY)
    assert told == [(done, len(paths)) for done in range(len(paths) + 1)]


def test_read_pictures__reads_images_above_the_usual_limit_but_not_above_ones_own(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.data.images.MAX_PIXELS", 100)
    work = work_of(paths)
    assert len(read(work, SPECS["even"]).crops) == len(paths)
    with pytest.raises(DataError, match=r"17 of 17 images cannot be trained on; the first is .*0 grey\.png: .*pixels"):
        read(work, SPECS["even"], runtime=replace(TWO, max_pixels=100))


def gone(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    Image.new("RGB", (30, 30)).save(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


AGAIN = "run dvme extract again, which"


@pytest.mark.parametrize(
    ("spoil", "reason", "step"),
    [
        (gone, "cannot be read: No such file or directory", f"make it readable there, or {AGAIN} finds moved files"),
        (a_folder, "cannot be read: a folder, no file", f"make it readable there, or {AGAIN} finds moved files"),
        (changed, "not what was embedded any more", f"{AGAIN} embeds what it is now"),
    ],
)
def test_read_pictures__refuses_what_is_not_there_as_it_was(
    spoil: Callable[[Path], None], reason: str, step: str, paths: list[Path]
) -> None:
    work = work_of(paths)
    for path in (paths[9], paths[4]):
        spoil(path)
    with pytest.raises(DataError) as caught:
        read(work, SPECS["odd"])
    assert str(caught.value) == f"2 of 17 images cannot be trained on; the first is {paths[4]}: {reason}; {step}"
    with pytest.raises(DataError) as again:
        check_unchanged(work, TWO, lambda *_: None)
    assert str(again.value) == str(caught.value)


def test_check_unchanged__content_that_is_no_picture_has_not_changed(paths: list[Path]) -> None:
    paths[5].write_text("no picture")
    told: list[tuple[int, int]] = []
    check_unchanged(work_of(paths), TWO, lambda *said: told.append(said))
    assert told[-1] == (len(paths), len(paths))


def test_read_pictures__refuses_what_is_no_picture(paths: list[Path]) -> None:
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    paths[5].write_text("no picture")
    Image.new("L", (600, 10)).save(paths[7])
    with pytest.raises(DataError, match=r"^3 of 17 images cannot be trained on; the first is .*\.png: ") as caught:
        read(work_of(paths), SPECS["odd"])
    message = str(caught.value)
    assert message.endswith("; mend or replace it, and run dvme extract again")
    assert f"{paths[3]}: " in message
    assert "\n" not in message


def test_read_pictures__refuses_more_than_memory_before_it_reads_any(tmp_path: Path) -> None:
    work, each = [Work(row, tmp_path / "none.png", bytes(16)) for row in range(1000)], 3 * (16**2 + 12**2)
    with pytest.raises(DataError) as caught:
        read(work, SPECS["even"], most_bytes=1000 * each - 1)
    assert str(caught.value) == (
        "the pixels of 1,000 images for net take 1,200,000 bytes and may take 1,199,999, enough for 999; "
        "choose fewer images or a smaller size, or pass more as memory"
    )
    with pytest.raises(DataError, match="1,000 of 1,000 images cannot be trained on"):
        read(work, SPECS["even"], most_bytes=1000 * each)
    assert read([], SPECS["even"], most_bytes=0).crops.shape == (0, 12, 12, 3)


@pytest.mark.parametrize("name", ["odd", "grey"])
def test_read_pictures__what_memory_does_not_hold_lies_in_a_file_that_nobody_sees(
    name: str, paths: list[Path], tmp_path: Path
) -> None:
    expected, folder = read(work_of(paths), SPECS[name]), tmp_path / "a" / "b"
    found = read_pictures(work_of(paths), spec_of(SPECS[name]), TWO, lambda *_: None, 1000, folder)
    np.testing.assert_array_equal(found.crops, expected.crops)
    np.testing.assert_array_equal(found.squares, expected.squares)
    assert (found.crops.flags.owndata, list(folder.iterdir())) == (False, [])
    rows = np.array([3, 1, 1])
    assert found.square(rows).equal(expected.square(rows))
    assert found.plain(rows).equal(expected.plain(rows))


def test_read_pictures__more_than_memory_and_disk_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("dvme.extraction.pictures.shutil.disk_usage", lambda _: usage._replace(free=7))
    work = [Work(row, tmp_path / "none.png", bytes(16)) for row in range(9)]
    with pytest.raises(DataError, match=r"memory may hold 99 and the disk of .* has 7 left; make room there, choose"):
        read_pictures(work, spec_of(SPECS["even"]), TWO, lambda *_: None, 99, tmp_path)


def test_read_pictures__what_cannot_be_used_is_told_and_the_others_move_up(paths: list[Path]) -> None:
    work = work_of(paths)
    whole = read(work, SPECS["even"])
    paths[1].write_bytes(b"no picture")
    paths[4].unlink()
    broken = [*work[:1], replace(work[1], digest=content_id(b"no picture")), *work[2:]]
    unusable: dict[int, str] = {}
    found = read_pictures(broken, spec_of(SPECS["even"]), TWO, lambda *_: None, PLENTY, None, unusable)
    kept = [row for row in range(len(work)) if row not in {1, 4}]
    np.testing.assert_array_equal(found.crops, whole.crops[kept])
    np.testing.assert_array_equal(found.squares, whole.squares[kept])
    assert sorted(unusable) == [1, 4]
    assert "cannot be read" in unusable[4]
    with pytest.raises(DataError, match="1 of 1 image cannot be trained on"):
        read_pictures(broken[1:2], spec_of(SPECS["even"]), TWO, lambda *_: None, PLENTY, None, unusable)
