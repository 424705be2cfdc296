from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dvme.data import Columns, load_samples
from dvme.data.manifest import manifest_samples
from dvme.errors import DataError

WriteManifest = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three empty image files beside the manifest: listing opens none of them."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    return tmp_path


def write_parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "manifest.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return path


def message_of(path: Path, columns: Columns | None = None) -> str:
    """The one line with which a manifest is refused."""
    with pytest.raises(DataError) as caught:
        manifest_samples(path, columns or Columns())
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text or "listed twice" in text or "split" in text
    return text


def test_manifest_samples__csv_with_default_columns(folder: Path, write_manifest: WriteManifest) -> None:
    rows = [["b.png", "dog", "Train", "p1"], ["a.png", " cat ", "testing", "p2"], ["c.png", "", "", ""]]
    samples = manifest_samples(write_manifest(rows, ["image", "label", "split", "group"]), Columns())
    assert samples.ids == ["b.png", "a.png", "c.png"]
    assert samples.paths == [folder / "b.png", folder / "a.png", folder / "c.png"]
    assert samples.labels == ["dog", "cat", ""]
    assert samples.splits == ["train", "test", ""]
    assert samples.groups == ["p1", "p2", ""]


def test_manifest_samples__image_column_alone(folder: Path, write_manifest: WriteManifest) -> None:
    samples = manifest_samples(write_manifest([["a.png"], ["b.png"]], ["image"]), Columns())
    assert (samples.labels, samples.splits, samples.groups) == (["", ""], ["", ""], ["", ""])


def test_manifest_samples__tsv(folder: Path) -> None:
    path = folder / "manifest.tsv"
    path.write_text("image\tlabel\na.png\tcat, striped\nb.png\tdog\n")
    assert manifest_samples(path, Columns()).labels == ["cat, striped", "dog"]


def test_manifest_samples__own_column_names(folder: Path, write_manifest: WriteManifest) -> None:
    path = write_manifest(
        [["a.png", "x", "3", "valid", "p9"]], ["file", "label", "grade", "fold", "patient"], name="own.csv"
    )
    columns = Columns(image="file", label="grade", split="fold", group="patient")
    samples = manifest_samples(path, columns)
    assert (samples.ids, samples.labels, samples.splits, samples.groups) == (["a.png"], ["3"], ["val"], ["p9"])


def test_manifest_samples__parquet(folder: Path) -> None:
    path = write_parquet(folder, image=["a.png", "b.png"], label=["cat", None], split=["val", "train"])
    samples = manifest_samples(path, Columns())
    assert (samples.ids, samples.labels, samples.splits) == (["a.png", "b.png"], ["cat", ""], ["val", "train"])


@pytest.mark.parametrize("values", [[0, 1, 2], [0.0, 1.0, 2.0]])
def test_manifest_samples__parquet_integer_labels(folder: Path, values: list[Any]) -> None:
    path = write_parquet(folder, image=["a.png", "b.png", "c.png"], label=values)
    assert manifest_samples(path, Columns()).labels == ["0", "1", "2"]


def test_manifest_samples__parquet_integer_labels_with_a_missing_one(folder: Path) -> None:
    path = write_parquet(folder, image=["a.png", "b.png", "c.png"], label=[0, None, 12])
    assert pd.read_parquet(path)["label"].dtype == "float64"  # so that pandas would print 0.0
    assert manifest_samples(path, Columns()).labels == ["0", "", "12"]


def test_manifest_samples__parquet_fractions_and_categories(folder: Path) -> None:
    image = ["a.png", "b.png", "c.png"]
    path = write_parquet(folder, image=image, label=[0.5, None, 1.0])
    assert manifest_samples(path, Columns()).labels == ["0.5", "", "1.0"]
    path = write_parquet(folder, image=image, label=pd.Categorical(["NA", None, "x"]))
    assert manifest_samples(path, Columns()).labels == ["", "", "x"]
    assert manifest_samples(path, Columns(na_values="")).labels == ["NA", "", "x"]


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_manifest_samples__parquet_number_beyond_64_bits(folder: Path) -> None:
    path = write_parquet(folder, image=["a.png", "b.png"], label=["x", "y"], score=[1e20, 2.0])
    assert manifest_samples(path, Columns()).labels == ["x", "y"]


def test_manifest_samples__csv_integer_labels(folder: Path, write_manifest: WriteManifest) -> None:
    path = write_manifest([["a.png", 0], ["b.png", ""], ["c.png", "007"]], ["image", "label"])
    assert manifest_samples(path, Columns()).labels == ["0", "", "007"]


@pytest.mark.parametrize("word", ["NA", "null", "NULL", "nan", "NaN", "None", "N/A", "n/a", "#N/A", "<NA>"])
def test_manifest_samples__what_programs_write_where_there_is_no_value(
    folder: Path, write_manifest: WriteManifest, word: str
) -> None:
    rows = [["a.png", word, word, word, word], ["b.png", f"{word} ", "p1", "train", "F"], ["c.png", "x", word, "", ""]]
    path = write_manifest(rows, ["image", "label", "group", "split", "sex"])
    samples = manifest_samples(path, Columns(keep="sex"))
    assert (samples.labels, samples.groups, samples.splits) == (["", "", "x"], ["", "p1", ""], ["", "train", ""])
    assert samples.kept == {"sex": ["", "F", ""]}
    said = "counts as a cell without a value; where it is a name, pass na_values=''"
    assert samples.remarks[1:] == tuple(
        f"column {name!r}: {word!r} ({rows}) {said}"
        for name, rows in (("label", "2 rows"), ("split", "1 row"), ("group", "2 rows"), ("sex", "1 row"))
    )
    assert pd.read_csv(path)["group"].isna().tolist() == [True, False, True]  # pandas takes these words alike
    path = write_manifest([row[:3] for row in rows], ["image", "label", "group"])
    asked = manifest_samples(path, Columns(na_values=""))
    assert (asked.labels, asked.groups) == ([word, word, "x"], [word, "p1", word])
    assert len(asked.remarks) == 1


def test_manifest_samples__words_of_ones_own_for_no_value(folder: Path, write_manifest: WriteManifest) -> None:
    rows = [["a.png", "9", "M"], ["b.png", "unk, or so", "U"], ["c.png", "NA", "F"]]
    path = write_manifest(rows, ["image", "label", "sex"])
    samples = manifest_samples(path, Columns(keep="sex", na_values='9,"unk, or so",U'))
    assert (samples.labels, samples.kept["sex"]) == (["", "", "NA"], ["M", "", "F"])
    assert manifest_samples(path, Columns(na_values=["9"])).labels == ["", "unk, or so", "NA"]
    assert "'9' (1 row) and 'unk, or so' (1 row) counts" in samples.remarks[1]


def test_manifest_samples__cells_of_findings(folder: Path, write_manifest: WriteManifest) -> None:
    rows = [["a.png", "TRUE", "no", "#N/A"], ["b.png", "f", "Yes", "-1"], ["c.png", "nan", "unk", "1.0"]]
    path = write_manifest(rows, ["image", "A", "B", "C"])
    samples = manifest_samples(path, Columns(label="A,B,C", na_values="unk"))
    assert samples.labels == ["|A|C=|", "|B|C=?|", "|A=|B=|C|"]
    assert "'unk' in row 3; a finding is 1, 0, -1" in message_of(path, Columns(label="A,B,C"))
    path = write_manifest([["a.png", "x;y"], ["b.png", "unk"], ["c.png", "NA"]], ["image", "label"])
    samples = manifest_samples(path, Columns(label_separator=";", na_values=["unk"]))
    assert samples.labels == ["|x|y|", "", ""]


def test_columns__a_class_of_the_order_is_no_missing_value() -> None:
    columns = Columns().with_classes(["None", "Mild"])
    assert set(Columns().na_values) - set(columns.na_values) == {"None"}
    assert Columns().with_classes(None) == Columns()


def test_manifest_samples__byte_order_mark(folder: Path) -> None:
    path = folder / "excel.csv"
    path.write_bytes("\ufeffimage,label\r\na.png,Café\r\n".encode())
    samples = manifest_samples(path, Columns())
    assert (samples.ids, samples.labels) == (["a.png"], ["Café"])


def test_manifest_samples__image_root(tmp_path: Path, folder: Path, write_manifest: WriteManifest) -> None:
    (tmp_path / "lists").mkdir()
    path = write_manifest([["a.png", "x"]], ["image", "label"], name="lists/manifest.csv")
    assert "names 1 file that does not exist" in message_of(path)
    assert load_samples(path, image_root=str(folder)).paths == [folder / "a.png"]


def test_manifest_samples__absolute_paths(folder: Path, write_manifest: WriteManifest) -> None:
    samples = manifest_samples(write_manifest([[folder / "a.png"]], ["image"]), Columns(), Path("/nowhere"))
    assert samples.paths == [folder / "a.png"]
    assert samples.ids == [str(folder / "a.png")]


@pytest.mark.parametrize(
    ("columns", "named", "option"),
    [
        (Columns(image="file"), "'file'", "image"),
        (Columns(label="grade"), "'grade'", "label"),
        (Columns(split="fold"), "'fold'", "split"),
        (Columns(group="patient"), "'patient'", "group"),
    ],
)
def test_manifest_samples__missing_column(
    folder: Path, write_manifest: WriteManifest, columns: Columns, named: str, option: str
) -> None:
    path = write_manifest([["a.png", "x"]], ["image", "kind"])
    text = message_of(path, columns)
    assert f"has no column {named}; it has: image, kind; choose one with {option}" in text


def test_manifest_samples__no_image_column(folder: Path, write_manifest: WriteManifest) -> None:
    text = message_of(write_manifest([["a.png", "x"]], ["path", "label"]))
    assert "has no column 'image'; it has: path, label; choose one with image" in text


def test_manifest_samples__missing_files_are_counted_and_a_few_named(
    folder: Path, write_manifest: WriteManifest
) -> None:
    rows = [[f"{index}.png"] for index in range(5)] + [["a.png"]]
    text = message_of(write_manifest(rows, ["image"]))
    assert "names 5 files that do not exist: " in text
    assert str(folder / "2.png") in text
    assert str(folder / "3.png") not in text
    assert ", ...; mend the paths or pass image_root" in text


def test_manifest_samples__no_rows(write_manifest: WriteManifest) -> None:
    assert "has no rows; list one image per row" in message_of(write_manifest([], ["image", "label"]))


def test_manifest_samples__row_without_an_image(folder: Path, write_manifest: WriteManifest) -> None:
    rows = [["a.png", "x"], ["", "y"], ["", "z"]]
    assert "has 2 rows without an image, the first in row 2" in message_of(write_manifest(rows, ["image", "label"]))


def test_manifest_samples__image_listed_twice(folder: Path, write_manifest: WriteManifest) -> None:
    path = write_manifest([["a.png", "x"], ["b.png", "x"], ["a.png ", "y"]], ["image", "label"])
    assert "image a.png is listed twice" in message_of(path)


def test_manifest_samples__unknown_split(folder: Path, write_manifest: WriteManifest) -> None:
    assert "split 'holdout' is not known" in message_of(write_manifest([["a.png", "holdout"]], ["image", "split"]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("latin.csv", "image,label\na.png,Café\n".encode("latin-1")),
        ("ragged.csv", b"image,label\na.png,x\nb.png,y,z\n"),
        ("quote.csv", b'image,label\na.png,x\n"b.png,y\n'),
        ("junk.parquet", b"no Parquet in here"),
        ("empty.parquet", b""),
    ],
)
def test_manifest_samples__unreadable_file(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    assert "cannot read the manifest" in message_of(path)


def test_manifest_samples__trailing_separator_in_every_row(folder: Path) -> None:
    path = folder / "trailing.csv"
    path.write_text("image,label\na.png,cat,\nb.png,dog,\n")
    try:
        found = manifest_samples(path, Columns()).ids
    except DataError as error:  # a refusal is fine as long as it does not take the labels for images
        found = [] if "do not exist" in str(error) else ["a.png", "b.png"]
    assert found == ["a.png", "b.png"]


def test_manifest_samples__cell_too_long_for_a_file_name(folder: Path, write_manifest: WriteManifest) -> None:
    path = write_manifest([["a.png", "No focal consolidation. " * 20]], ["file", "image"])
    with pytest.raises(DataError, match="does not exist"):
        manifest_samples(path, Columns())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image;label;patient\na.png;x, or y;p1\n"),
        ("a.csv", '"image";"label, if any";patient\na.png;"x, or y";p1\n'),
        ("a.csv", "image\tlabel\tpatient\na.png\tx, or y\tp1\n"),
        ("a.tsv", "image;label;patient\na.png;x, or y;p1\n"),
    ],
)
def test_manifest_samples__separators(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    columns = Columns(label="label, if any" if "if any" in text else None, group="patient")
    samples = manifest_samples(folder / name, columns)
    assert (samples.labels, samples.groups) == (["x, or y"], ["p1"])


def test_manifest_samples__knows_which_columns_it_has(folder: Path, write_manifest: WriteManifest) -> None:
    assert manifest_samples(write_manifest([["a.png"]], ["image"]), Columns()).given == frozenset()
    path = write_manifest([["a.png", "", "p1"]], ["image", "label", "patient"])
    assert manifest_samples(path, Columns()).given == {"label"}
    assert manifest_samples(path, Columns(group="patient")).given == {"label", "group"}


def test_manifest_samples__missing_files_are_left_out_where_the_user_says_so(
    folder: Path, write_manifest: WriteManifest
) -> None:
    path = write_manifest([["a.png", "x"], ["gone/1.png", "y"], ["b.png", "z"], ["2.png", "y"]], ["image", "label"])
    assert "or leave them out with skip_missing=True" in message_of(path)
    samples = load_samples(path, skip_missing=True)
    assert (samples.ids, samples.labels, samples.missing) == (["a.png", "b.png"], ["x", "z"], ("gone/1.png", "2.png"))
    path = write_manifest([["1.png"]], ["image"])
    with pytest.raises(DataError, match="there is no other image"):
        load_samples(path, skip_missing=True)


def test_manifest_samples__a_link_to_nowhere_is_missing(folder: Path, write_manifest: WriteManifest) -> None:
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    path = write_manifest([["a.png"], ["link.png"]], ["image"])
    assert load_samples(path, skip_missing=True).missing == ("link.png",)


def test_manifest_samples__what_cannot_be_reached_is_not_missing(
    folder: Path, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def failing(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if Path(path).name == "b.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, *args, **named)

    monkeypatch.setattr(os, "stat", failing)
    path = write_manifest([["a.png"], ["b.png"]], ["image"])
    samples = load_samples(path, skip_missing=True)
    assert (samples.ids, samples.missing) == (["a.png", "b.png"], ())  # to be named when it is read


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_manifest_samples__what_is_no_file(folder: Path, write_manifest: WriteManifest, kind: str) -> None:
    os.mkfifo(folder / "x.png") if kind == "pipe" else (folder / "x.png").mkdir()
    path = write_manifest([["a.png"], ["x.png"]], ["image"])
    with pytest.raises(DataError, match=rf"x\.png is a {kind}.*, no image file; mend the manifest"):
        manifest_samples(path, Columns())


def test_manifest_samples__columns_that_could_be_the_labels(folder: Path) -> None:
    names = [f"{index}.png" for index in range(8)]
    for name in names:
        (folder / name).touch()
    path = write_parquet(
        folder,
        image=names,
        diagnosis=list("abcabcab"),
        sex=[*"mfmfmfm", None],
        seen=[1] * 8,
        identity=list(range(8)),
        boxes=[[1, 2]] * 8,
    )
    lines = manifest_samples(path, Columns()).remarks
    assert lines[1] == (
        "no labels: manifest.parquet has no column 'label'; columns that could be it: sex (2 values), "
        "diagnosis (3 values); name one with label"
    )
    (line,) = manifest_samples(path, Columns(label="sex")).remarks
    assert line == (
        "columns used of manifest.parquet: image, label = 'sex'; not used: diagnosis, seen, identity, boxes"
    )


def test_manifest_samples__points_at_columns_of_splits_and_patients(folder: Path) -> None:
    path = write_parquet(
        folder,
        image=["a.png", "b.png", "c.png"],
        label=list("xyx"),
        test=[1, 0, 0],
        view=["train", "PA", None],
        usage=["Training", "valid", "NA"],
        fold=["test", "train", "val"],
        Patient_ID=["p1", "p1", None],
    )
    split, group = manifest_samples(path, Columns()).remarks[1:]
    assert split == "column 'usage' says train, val or test and is not used; split='usage' takes these parts"
    assert group.startswith("column 'Patient_ID' seems to tell patients and is not used; group='Patient_ID' keeps")
    assert len(manifest_samples(path, Columns(split="fold", group="patient_id")).remarks) == 1
    kept = manifest_samples(path, Columns(split="fold", keep=["Patient_ID"]))
    assert len(kept.remarks) == 1
    assert len(manifest_samples(path, Columns(), images_only=True).remarks) == 1


def test_manifest_samples__every_patient_with_one_image_is_not_worth_a_line(
    folder: Path, write_manifest: WriteManifest
) -> None:
    rows = [["a.png", "x", "1", "train"], ["b.png", "y", "2", "train"]]
    path = write_manifest(rows, ["image", "label", "subject", "part"])
    assert len(manifest_samples(path, Columns()).remarks) == 1


def test_manifest_samples__a_split_of_another_kind_is_named_with_its_column(
    folder: Path, write_manifest: WriteManifest
) -> None:
    text = message_of(write_manifest([["a.png", "3"]], ["image", "Split"]))
    assert "column 'Split' of " in text
    assert "split '3' is not known" in text


def test_manifest_samples__further_columns_are_exact_text(folder: Path, write_manifest: WriteManifest) -> None:
    rows = [["a.png", "F", "007", "x"], ["b.png", "", "42", "y"]]
    manifest = write_manifest(rows, ["image", "Sex", "age", "site"])
    samples = manifest_samples(manifest, Columns(keep=("sex", "age")))
    assert samples.kept == {"sex": ["F", ""], "age": ["007", "42"]}
    assert samples.only([1]).kept == {"sex": [""], "age": ["42"]}
    assert samples.remarks[0] == "columns used of manifest.csv: image, sex = 'Sex', age; not used: site"
    assert manifest_samples(manifest, Columns(keep="sex, age")).kept == samples.kept
    assert manifest_samples(manifest, Columns(keep="sex"), images_only=True).kept == {}


def test_manifest_samples__a_further_column_of_a_missing_image_goes_with_it(
    folder: Path, write_manifest: WriteManifest
) -> None:
    manifest = write_manifest([["gone.png", "F"], ["b.png", "M"]], ["image", "sex"])
    assert manifest_samples(manifest, Columns(keep="sex"), skip_missing=True).kept == {"sex": ["M"]}


def test_manifest_samples__further_columns_are_refused_in_one_line(folder: Path, write_manifest: WriteManifest) -> None:
    manifest = write_manifest([["a.png", "F", "x"]], ["image", "sex", "label"])
    assert "has no column 'race'; it has: image, sex, label; choose one with keep" in message_of(
        manifest, Columns(keep="race")
    )
    for keep, said in (("label", "(it has an option of its own)"), ("path", "(path is where dvme extract found the")):
        with pytest.raises(DataError, match=rf"^keep=\['{keep}'\] is not possible") as caught:
            manifest_samples(manifest, Columns(keep=keep))
        assert said in str(caught.value)
    with pytest.raises(DataError, match="is a folder, keep needs a manifest file"):
        load_samples(folder, Columns(keep="sex"))


@pytest.mark.parametrize("named", ["Edema", "Edem*"])
def test_manifest_samples__one_column_with_uncertain_cells_is_one_finding(folder: Path, named: str) -> None:
    images = [f"{n}.png" for n in range(4)]
    for image in images:
        (folder / image).touch()
    manifest = write_parquet(folder, image=images, Edema=[1.0, -1.0, 0.0, None])
    samples = manifest_samples(manifest, Columns(label=named))
    assert samples.labels == ["|Edema|", "|Edema=?|", "|", ""]
    assert samples.findings == ("Edema",)
    assert samples.remarks[1].startswith("column 'Edema' has cells of -1, and is read as one finding: 1 has it")
    binary = write_parquet(folder, image=images, Edema=[1.0, 1.0, 0.0, None])
    assert manifest_samples(binary, Columns(label=named)).labels == ["1", "1", "0", ""]
    by_default = write_parquet(folder, image=images, label=[1, -1, 0, 1])
    assert manifest_samples(by_default, Columns()).labels == ["1", "-1", "0", "1"]


def test_manifest_samples__the_column_of_no_finding_is_said(folder: Path) -> None:
    (folder / "0.png").touch()
    manifest = write_parquet(folder, image=["0.png"], Edema=[1], Effusion=[0], Emphysema=[0])
    samples = manifest_samples(manifest, Columns(label="E*", no_finding="emphysema"))
    assert samples.findings == ("Edema", "Effusion")
    assert samples.remarks[1:] == (
        "column 'Emphysema' is no finding: 1 in it says that the image has none (no_finding='Emphysema')",
    )
