"""Masks of a manifest: every kind of them as planes, and each refusal in one line."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import dvme
from dvme.data import Columns, Samples, load_samples
from dvme.data.masks import VOID, Masks
from dvme.errors import DataError

Save = Callable[..., Path]
Manifest = Callable[..., Path]

LEFT = np.array([[1, 1, 0, 0, 0, 0]] * 4)
RIGHT = LEFT[:, ::-1]
NONE = np.zeros((4, 6), dtype=int)
REAL = Path(__file__).parents[5] / "shared" / "data" / "nuclei_dsb2018"


def masks_of(manifest: Path, **columns: Any) -> Masks:
    return Masks.of(np.array(samples_of(manifest, **columns).kept["mask"], dtype=object))


def samples_of(manifest: Path, **columns: Any) -> Samples:
    return load_samples(manifest, Columns(**{"mask": "mask"} | columns))


def planes(masks: Masks) -> list[NDArray[np.uint8]]:
    return [masks.read(position) for position in range(len(masks))]


def refusal(manifest: Path, **columns: Any) -> str:
    with pytest.raises(DataError) as caught:
        samples_of(manifest, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("on", [1, 255, 7])
def test_two_values__are_one_class_called_as_the_column(save: Save, manifest: Manifest, on: int) -> None:
    save("m/0.png", LEFT * on)
    save("m/1.png", NONE)
    masks = masks_of(manifest(mask=["m/0.png", "m/1.png", ""]))
    assert (masks.names, masks.is_exclusive, len(masks)) == (("mask",), True, 3)
    assert [plane.tolist() for plane in planes(masks.at(np.array([0, 1])))] == [[LEFT.tolist()], [NONE.tolist()]]
    np.testing.assert_array_equal(masks.presence, [[1.0], [0.0], [np.nan]])
    assert masks.sizes.tolist() == [[4, 6], [4, 6], [0, 0]]
    with pytest.raises(DataError, match="has no mask"):
        masks.read(2)


def test_two_values__of_one_bit_and_of_eight_are_the_same(save: Save, manifest: Manifest) -> None:
    save("0m.png", LEFT * 255)
    Image.fromarray(RIGHT.astype(np.uint8) * 255).convert("1").save(save("1m.png", NONE))
    masks = masks_of(manifest(lung=["0m.png", "1m.png"]), mask="lung")
    assert masks.names == ("lung",)
    assert [plane[0].tolist() for plane in planes(masks)] == [LEFT.tolist(), RIGHT.tolist()]


def test_label_image__has_a_class_of_each_value(save: Save, manifest: Manifest) -> None:
    save("a.png", LEFT + 2 * RIGHT)
    save("b.png", 2 * LEFT)
    samples = samples_of(manifest(mask=["a.png", "b.png"]))
    masks = Masks.of(np.array(samples.kept["mask"]))
    assert (masks.names, masks.is_exclusive) == (("class 1", "class 2"), True)
    assert masks.read(0).tolist() == [LEFT.tolist(), RIGHT.tolist()]
    assert masks.presence.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    said = "masks of column 'mask': 2 images; 0 = background, 1 = class 1, 2 = class 2; mask_classes names them, "
    assert said + "mask_void those that count for nothing" in samples.remarks


@pytest.mark.parametrize("is_palette", [False, True])
def test_label_image__with_names_and_void(save: Save, manifest: Manifest, is_palette: bool) -> None:
    values = LEFT * 1 + RIGHT * 3
    values[0, 2] = 2
    save("a.png", values, is_palette=is_palette)
    masks = masks_of(manifest(mask=["a.png"]), mask_classes={"1": "lung", "3": "heart"}, mask_void=2)
    assert masks.names == ("lung", "heart")
    lung, heart = LEFT.copy(), RIGHT.copy()
    lung[0, 2] = heart[0, 2] = VOID
    assert masks.read(0).tolist() == [lung.tolist(), heart.tolist()]


def test_label_image__of_16_bits_and_several_values_of_one_class(save: Save, manifest: Manifest) -> None:
    values = LEFT * 40_000 + RIGHT * 300
    save("a.png", values, dtype=np.uint16)
    save("b.tif", values, dtype=np.uint16)
    masks = masks_of(manifest(mask=["a.png", "b.tif"]), mask_classes="0=background,*=nucleus")
    assert masks.names == ("nucleus",)
    assert all(plane.tolist() == [(LEFT + RIGHT).tolist()] for plane in planes(masks))
    named = masks_of(manifest(mask=["a.png", "b.tif"]), mask_classes="300=x,40000=lung,0=Background")
    assert named.names == ("x", "lung")
    assert named.read(0).tolist() == [RIGHT.tolist(), LEFT.tolist()]


@pytest.mark.parametrize("cell", ["m", "m/*.png", "m/a_*.png|m/b_1.png", "{}/m/*.png"])
def test_one_file_per_instance__is_joined(save: Save, manifest: Manifest, tmp_path: Path, cell: str) -> None:
    save("m/a_1.png", LEFT * 255)
    save("m/b_1.png", RIGHT * 255)
    save("m/a_2.png", NONE)
    (tmp_path / "m" / "notes.txt").write_text("by hand")
    masks = masks_of(manifest(mask=[cell.format(tmp_path)]), mask_classes="255=nucleus")
    assert masks.names == ("nucleus",)
    assert masks.read(0).tolist() == [(LEFT + RIGHT).tolist()]


def test_one_file_per_instance__may_have_any_value(save: Save, manifest: Manifest) -> None:
    save("m/1.png", LEFT * 1)
    save("m/2.png", RIGHT * 2)
    assert masks_of(manifest(mask=["m"])).read(0).tolist() == [(LEFT + RIGHT).tolist()]


def test_one_file_per_instance__void_yields_to_the_class(save: Save, manifest: Manifest) -> None:
    halo = 255 * LEFT
    halo[:, 2:4] = 9
    save("m/1.png", halo)
    save("m/2.png", 255 * np.roll(LEFT, 2, axis=1))  # on the void pixels of the other
    masks = masks_of(manifest(mask=["m", "m/1.png"]), mask_void=9)
    assert masks.read(0)[0].tolist() == [[1, 1, 1, 1, 0, 0]] * 4
    assert masks.read(1)[0].tolist() == [[1, 1, VOID, VOID, 0, 0]] * 4


def test_runs__of_one_row_and_of_several(manifest: Manifest, write_manifest: Callable[..., Path]) -> None:
    path = manifest(mask=["1 8", "-1", ""])
    masks = masks_of(path)
    assert [plane.tolist() for plane in planes(masks.at(np.array([0, 1])))] == [[LEFT.tolist()], [NONE.tolist()]]
    rows = [["0.png", "1 4", "x"], ["1.png", "-1", "y"], ["0.png", "17 8", "x"], ["0.png", "", ""]]
    joined = samples_of(write_manifest(rows, ["image", "mask", "label"], "runs.csv"))
    assert (joined.ids, joined.labels) == (["0.png", "1.png"], ["x", "y"])
    assert "4 rows are of 2 images; masks of one image are joined" in joined.remarks
    found = Masks.of(np.array(joined.kept["mask"])).read(0)[0]
    assert found.tolist() == (np.array([[1, 0, 0, 0, 1, 1]] * 4)).tolist()
    assert "differs for 1 image: 0.png" in refusal(
        write_manifest([*rows, ["0.png", "", "y"]], ["image", "mask", "label"])
    )


def test_runs__that_are_relative_as_siim_has_them(manifest: Manifest) -> None:
    # From pixel 0 on 4 pixels, 12 after these are left out, and then 8: the first and the two last columns.
    masks = masks_of(manifest(mask=["0 4 12 8"]), mask_encoding="siim")
    assert masks.read(0)[0].tolist() == [[1, 0, 0, 0, 1, 1]] * 4


def test_structures__may_overlap_and_lack(save: Save, manifest: Manifest) -> None:
    save("l.png", LEFT * 255)
    save("h.png", (LEFT + RIGHT))
    path = manifest(lung=["l.png", "l.png", ""], heart=["h.png", "", ""])
    masks = masks_of(path, mask="lung,heart")
    assert (masks.names, masks.is_exclusive) == (("lung", "heart"), False)
    assert masks.read(0).tolist() == [LEFT.tolist(), (LEFT + RIGHT).tolist()]
    assert masks.read(1).tolist() == [LEFT.tolist(), np.full((4, 6), VOID).tolist()]
    np.testing.assert_array_equal(masks.presence, [[1.0, 1.0], [1.0, np.nan], [np.nan, np.nan]])


def test_files__are_found_as_images_are(save: Save, manifest: Manifest, tmp_path: Path) -> None:
    save("M/A.png", LEFT)
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        archive.write(tmp_path / "M" / "A.png", "in/b.png")
    samples = samples_of(manifest(mask=["m\\a.png", "masks.zip/in/b.png", f"{tmp_path}/M/A.png"]))
    assert all(plane.tolist() == [LEFT.tolist()] for plane in planes(Masks.of(np.array(samples.kept["mask"]))))
    assert any("1 mask found under another spelling" in line for line in samples.remarks)


def test_grey__may_come_as_equal_colours_or_with_alpha(save: Save, manifest: Manifest) -> None:
    save("rgb.png", np.stack([LEFT * 255] * 3, axis=-1))
    Image.fromarray(LEFT.astype(np.uint8) * 255).convert("LA").save(save("la.png", NONE))
    Image.fromarray(LEFT.astype(np.uint8) * 255).convert("RGBA").save(save("rgba.png", NONE))
    masks = masks_of(manifest(mask=["rgb.png", "la.png", "rgba.png"]))
    assert all(plane.tolist() == [LEFT.tolist()] for plane in planes(masks))


def test_sizes__are_of_the_upright_image(save: Save, manifest: Manifest) -> None:
    path = manifest(mask=["m.png"])
    exif = Image.Exif()
    exif[274] = 6
    save("0.png", np.zeros((6, 4)), exif=exif)  # lies on its side: 4 rows of 6 once it is upright
    save("m.png", LEFT)
    assert masks_of(path).sizes.tolist() == [[4, 6]]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("gone.png", "0.png: there is no file gone.png"),
        ("C:\\m\\0.png", "0.png (a path of a Windows machine"),
        ("gone_*.png", "the pattern gone_*.png has no file; write -1 where no pixel is of the class"),
        ("empty", "the folder empty has no file"),
        ("text.png", "text.png: not an image"),
        ("nothing.png", "nothing.png: is an empty file"),
        ("large.png", "large.png is 6 x 5 pixels, and the image is 6 x 4; give masks of that size"),
        ("colour.png", "is a colour image, and no palette says which class a colour is"),
        ("void.png", "nothing but void"),
        ("1 25", "a run ends at pixel 25, and the image has 24 (6 x 4)"),
        ("1 2 3", "these have 3 numbers"),
        ("float.tif", "has values from 0.0 to 0.5; the values of a mask are whole"),
    ],
)
def test_mask__that_cannot_be_used_is_named(
    save: Save, manifest: Manifest, tmp_path: Path, cell: str, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "nothing.png").touch()
    save("large.png", np.zeros((5, 6)))
    save("colour.png", np.arange(72).reshape(4, 6, 3))
    save("void.png", np.full((4, 6), 9))
    save("float.tif", LEFT * 0.5, dtype=np.float32)
    save("fine.png", LEFT)
    line = refusal(manifest(mask=[cell, "fine.png"]), mask_void=9)
    assert said in line
    assert "manifest.csv: the masks of 1 of 2 images cannot be used: 0.png: " in line
    assert line.endswith("; mend them, or leave the cell empty where the mask is not known")


def test_masks__that_cannot_be_used_are_counted(manifest: Manifest) -> None:
    line = refusal(manifest(mask=[f"gone{at}.png" for at in range(5)]))
    assert "the masks of 5 of 5 images cannot be used" in line
    assert "2.png: there is no file gone2.png and 2 more; mend them" in line


def test_values__that_no_class_has_are_named(save: Save, manifest: Manifest) -> None:
    save("a.png", LEFT + 3 * RIGHT)
    save("b.png", 3 * RIGHT)
    line = refusal(manifest(mask=["a.png", "b.png"]), mask_classes="0=background,1=lung")
    assert "2 masks with values that no class has, such as that of 0.png: 3 (2 images)" in line
    assert "mask_classes" in line
    assert "mask_void=3" in line


def test_values__that_are_no_classes(save: Save, manifest: Manifest) -> None:
    save("a.png", np.arange(24).reshape(4, 6) * 100, dtype=np.uint16)
    many = np.arange(24).reshape(4, 6)
    path = manifest(mask=["a.png"] + [f"{at}m.png" for at in range(15)])
    for at in range(15):
        save(f"{at}m.png", many + 24 * at, dtype=np.uint16)
    line = refusal(path)
    assert "which are no classes" in line
    assert "mask_classes='0=background,*=mask'" in line


def test_values__of_jpeg_files_are_not_believed(save: Save, manifest: Manifest) -> None:
    values = np.zeros((4, 6))
    values[1:3, 2:4] = 255
    save("a.jpg", values, quality=30)
    assert "whose compression has changed its values: 0.png; save masks as PNG" in refusal(manifest(mask=["a.jpg"]))
    save("flat.jpg", np.full((4, 6), 255))
    assert masks_of(manifest(mask=["flat.jpg"])).read(0).all()


def test_several_files__are_one_class(save: Save, manifest: Manifest) -> None:
    save("a.png", LEFT)
    save("b.png", 2 * RIGHT)
    line = refusal(manifest(mask=["a.png|b.png"]), mask_classes="1=lung,2=heart")
    assert "are one class together" in line
    assert "mask_classes='0=background,*=lung'" in line


def test_structures__are_of_two_values(save: Save, manifest: Manifest) -> None:
    save("a.png", LEFT + 2 * RIGHT)
    line = refusal(manifest(lung=["a.png"], heart=["a.png"]), mask=["lung", "heart"])
    assert "column 'lung' has masks of the values 0, 1, 2" in line


def test_image__that_cannot_be_read_costs_only_its_runs(save: Save, manifest: Manifest, tmp_path: Path) -> None:
    save("m.png", LEFT)
    path = manifest(mask=["m.png", "1 4"])
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_text("not a picture")
    samples = samples_of(path)
    assert [bool(cell) for cell in samples.kept["mask"]] == [True, False]
    assert any("1 image without a mask, for the image cannot be read" in line for line in samples.remarks)


def test_masks__need_a_manifest_and_its_column(save: Save, manifest: Manifest, tmp_path: Path) -> None:
    path = manifest(mask=["-1"])
    assert "has no column 'masks'" in refusal(path, mask="masks")
    assert "mask needs a manifest file" in refusal(tmp_path)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "0.png", "0.png")
    assert "mask needs a manifest file" in refusal(tmp_path / "images.zip")


def test_reading__again_is_checked(save: Save, manifest: Manifest) -> None:
    files = [save(name, LEFT) for name in ("a.png", "b.png", "c.png")]
    masks = masks_of(manifest(mask=["a.png", "b.png|c.png", "c.png"]))
    save("a.png", RIGHT)
    with pytest.raises(
        DataError, match=r"a\.png has changed since the cache read it; dvme cache label CACHE MANIFEST --mask-col"
    ):
        masks.read(0)
    files[1].unlink()
    with pytest.raises(DataError, match=r"b\.png cannot be read: .*dvme cache label"):
        masks.read(1)
    files[2].write_text("not a picture")
    with pytest.raises(DataError, match=r"c\.png has changed .*not an image.*dvme cache label"):
        masks.read(2)


def test_reading__again_of_several_files_says_how_many(save: Save, manifest: Manifest) -> None:
    save("m/1.png", LEFT)
    save("m/2.png", NONE)
    masks = masks_of(manifest(mask=["m"]))
    save("m/2.png", RIGHT)
    with pytest.raises(DataError, match=r"the mask of 2 files such as .*1\.png has changed since the cache read it"):
        masks.read(0)


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the real nuclei are not beside the project: ../shared/data/nuclei_dsb2018"
)
def test_nuclei__are_as_pillow_reads_them() -> None:
    samples = load_samples(REAL / "manifest.csv", dvme.Columns(mask="mask", mask_classes="0=background,255=nucleus"))
    masks = Masks.of(np.array(samples.kept["mask"], dtype=object))
    assert masks.names == ("nucleus",)
    assert len(masks) == len(samples)
    assert (masks.presence == 1.0).all()
    for position in range(0, len(masks), 10):
        name = Path(samples.ids[position]).name
        direct = np.asarray(Image.open(REAL / "masks" / name)) > 0
        assert (masks.read(position)[0] == direct).all()
