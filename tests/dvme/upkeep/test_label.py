"""Relabelling: what the manifest says, no more, and only if all of it can be used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dvme.cache import label
from dvme.data import Columns
from dvme.errors import DataError, OptionError
from dvme_cache import CacheNotFoundError, EmbeddingCache, content_id

MakeCache = Callable[..., Path]
Refused = Callable[..., Any]
Write = Callable[..., Path]


def columns(path: Path) -> dict[str, list[str]]:
    cache = EmbeddingCache.open(path)
    return {name: cache.column(name).tolist() for name in cache.tables.columns}


def test_label__changes_what_the_manifest_names(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    before, digest = columns(cache), content_id(b"image 2").hex()
    manifest = write_manifest(
        [["0.png", "new", "Training"], [digest, "", "val"], ["/data/3.png", "a", ""]], ["image", "label", "split"]
    )
    report = label(cache, manifest)
    after = columns(cache)
    assert after["label"] == ["new", before["label"][1], "", "a"]
    assert after["split"] == ["train", "", "val", ""]
    assert after["path"] == before["path"]
    assert (report.n_rows, report.n_untouched) == (3, 1)
    assert report.n_changed == {"label": 2, "split": 2}
    assert report.task.classes == ("a", 'b, "c"\n', "new")
    assert report.task.n_unlabelled == 1
    assert report.to_json()["task"]["kind"] == "multiclass"


def test_label__leaves_columns_alone_that_the_manifest_lacks(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    before = columns(cache)
    report = label(cache, write_manifest([["1.png", "p7"]], ["image", "group"]))
    assert report.n_changed == {"group": 1}
    assert columns(cache) == {**before, "group": ["", "p7", "", ""]}


def test_label__touches_no_embedding(make_cache: MakeCache, write_manifest: Write, contents: Any) -> None:
    cache = make_cache(range(100))
    embeddings = {path: path.read_bytes() for path in (cache / "embeddings").rglob("*") if path.is_file()}
    label(cache, write_manifest([["1.png", "x"]], ["image", "label"]))
    assert {path: path.read_bytes() for path in (cache / "embeddings").rglob("*") if path.is_file()} == embeddings


def test_label__other_and_further_columns(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(range(3))
    table = pd.DataFrame({"file": ["0.png", "1.png"], "grade": [3, 4], "site": ["x", None], "age": [1.0, None]})
    table.to_parquet(tmp_path / "m.parquet")
    chosen = Columns(image="file", label="grade", group="site", keep=["age", "site"])
    report = label(cache, tmp_path / "m.parquet", columns=chosen)
    assert report.n_changed == {"label": 2, "group": 1, "age": 1, "site": 1}
    after = columns(cache)
    assert after["label"][:2] == ["3", "4"]
    assert (after["group"], after["age"], after["site"]) == (["x", "", ""], ["1", "", ""], ["x", "", ""])


def test_label__relative_paths_start_at_the_manifest_or_at_image_root(
    make_cache: MakeCache, write_manifest: Write, tmp_path: Path
) -> None:
    cache = make_cache(range(3), root=tmp_path / "pictures")
    manifest = write_manifest([["pictures/1.png", "x"]], ["image", "label"])
    assert label(cache, manifest).n_changed == {"label": 1}
    manifest = write_manifest([["./1.png", "y"]], ["image", "label"])
    assert label(cache, manifest, image_root=tmp_path / "pictures").n_changed == {"label": 1}


def test_label__pruned_rows_do_not_count(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    with EmbeddingCache.writing(cache) as store:
        store.samples.prune(np.array([3]))
    report = label(cache, write_manifest([["1.png", "x"]], ["image", "label"]))
    assert report.n_untouched == 2
    assert sum(report.task.counts) == 3


def test_label__twice_changes_nothing(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(3))
    manifest = write_manifest([["1.png", "x"]], ["image", "label"])
    label(cache, manifest)
    files = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert label(cache, manifest).n_changed == {"label": 0}
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("rows", "names", "options", "parts"),
    [
        ([["9.png", "x"]], ["image", "label"], {}, ["m.csv names 1 image that", "does not hold: 9.png;"]),
        ([["1.png", "x"], ["1.png", "y"]], ["image", "label"], {}, ["m.csv names 1 image more than once: 1.png;"]),
        ([["1.png", "holdout"]], ["image", "split"], {}, ["1 row whose split is not known: holdout; use test, "]),
        ([["1.png", "x"]], ["file", "label"], {}, ["m.csv has no column 'image'", "choose one with image"]),
        ([["1.png", "x"]], ["image", "grade"], {}, ["has no column label, split or group (it has: image, grade)"]),
        (
            [["1.png", "x"]],
            ["image", "label"],
            {"columns": Columns(split="s")},
            ["no column 's'", "choose one with split"],
        ),
        ([["", "x"], ["1.png", "x"]], ["image", "label"], {}, ["has 1 row without an image, the first in row 1"]),
        ([], ["image", "label"], {}, ["m.csv has no rows"]),
        (
            [["1.png", "x"]],
            ["image", "path"],
            {"columns": Columns(keep=["path"])},
            ["keep=['path'] is not possible (path is where"],
        ),
        (
            [["1.png", "x"]],
            ["image", "label"],
            {"columns": Columns(keep=["label"])},
            ["keep=['label'] is not possible (it has an option"],
        ),
        (
            [["1.png", "x"]],
            ["image", "a"],
            {"columns": Columns(keep=["b"])},
            ["has no column 'b'; it has: image, a; choose one with"],
        ),
        (
            [["1.png", "x"]],
            ["image", "a"],
            {"columns": Columns(keep=["a", "a"])},
            ["keep gives some columns twice: a;"],
        ),
        (
            [["1.png", "x"]],
            ["image", "ü" * 99],
            {"columns": Columns(keep=["ü" * 99])},
            ["with a name that no cache can keep"],
        ),
    ],
)
def test_label__is_refused_in_one_line(
    rows: list[list[str]],
    names: list[str],
    options: dict[str, Any],
    parts: list[str],
    make_cache: MakeCache,
    write_manifest: Write,
    refused: Refused,
) -> None:
    cache, manifest = make_cache(range(3)), write_manifest(rows, names, name="m.csv")
    with refused(*parts):
        label(cache, manifest, **options)


def test_label__no_manifest_and_no_cache(
    make_cache: MakeCache, write_manifest: Write, tmp_path: Path, refused: Refused
) -> None:
    cache = make_cache(range(3))
    with refused("images is not a manifest; give a file of .csv, .tsv or .jsonl"):
        label(cache, tmp_path / "images")
    with refused("cannot read the manifest", "none.csv"):
        label(cache, tmp_path / "none.csv")
    manifest = write_manifest([["1.png", "x"]], ["image", "label"])
    with pytest.raises(CacheNotFoundError):
        label(tmp_path / "none.zarr", manifest)
    assert not (tmp_path / "none.zarr").exists()


def test_label__order_of_classes(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    rows = [[f"{n}.png", name] for n, name in enumerate(["none", "mild", "severe", "mild"])]
    manifest = write_manifest(rows, ["image", "label"])
    report = label(cache, manifest, class_order=["none", "mild", "moderate", "severe"])
    assert report.class_order == EmbeddingCache.open(cache).class_order == ("none", "mild", "moderate", "severe")
    assert (report.task.classes, report.task.counts) == (("none", "mild", "severe"), (1, 2, 1))
    assert label(cache, class_order=["severe", "mild", "none"]).task.classes == ("severe", "mild", "none")
    assert label(cache, manifest).task.classes == ("severe", "mild", "none")  # kept
    assert label(cache, class_order=[]).task.classes == ("mild", "none", "severe")
    assert EmbeddingCache.open(cache).class_order == ()


def test_label__order_that_lacks_a_label_changes_nothing(
    make_cache: MakeCache, write_manifest: Write, refused: Refused
) -> None:
    cache = make_cache(range(4))
    first = write_manifest([[f"{n}.png", "none"] for n in range(4)], ["image", "label"])
    label(cache, first, class_order=["none", "mild"])
    second = write_manifest([["1.png", "worst"], ["2.png", "mild"]], ["image", "label"])
    with refused("class_order (mild < worst) lacks 'none'; name all classes with class_order, the lowest first"):
        label(cache, second, class_order=["mild", "worst"])
    with refused(f"the class order of {cache} (none < mild) lacks 'worst'"):
        label(cache, second)
    assert label(cache, second, class_order=["none", "mild", "worst"]).task.counts == (2, 1, 1)
    with refused("nothing to change in", "name a manifest of labels, or pass class_order"):
        label(cache)


def test_label__copies_that_agree(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    digest = content_id(b"image 2").hex()
    rows = [["1.png", "x", "p"], ["2.png", "y", ""], [digest, "y", "q"], ["1.png", "x", "p"], ["/data/2.png", "", "q"]]
    report = label(cache, write_manifest(rows, ["image", "label", "group"]))
    assert (report.n_rows, report.n_untouched) == (2, 2)
    after = columns(cache)
    assert [(after["label"][row], after["group"][row]) for row in (1, 2)] == [("x", "p"), ("y", "q")]


def test_label__copies_that_disagree_are_named(make_cache: MakeCache, write_manifest: Write, refused: Refused) -> None:
    cache = make_cache(range(4))
    before = columns(cache)
    rows = [["1.png", "x"], ["2.png", "y"], ["/data/2.png", "z"], ["1.png", "x"]]
    manifest = write_manifest(rows, ["image", "label"])
    with refused("names 1 image more than once: /data/2.png (the same as 2.png); what they say differs, keep one"):
        label(cache, manifest)
    assert columns(cache) == before


def test_label__columns_by_other_capitals_are_said(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    report = label(cache, write_manifest([["1.png", "none", "3"]], [" Image", "LABEL", "age"]), columns={"keep": "Age"})
    assert report.n_changed == {"label": 1, "Age": 1}
    assert report.remarks[0] == "columns used of manifest.csv: image = 'Image', label = 'LABEL', Age = 'age'"
    assert report.remarks[1].startswith("'none' is a class like any other, of 1 image")


def test_label__a_number_that_the_cache_writes_in_another_way(
    make_cache: MakeCache, write_manifest: Write, refused: Refused
) -> None:
    cache = make_cache(range(4))
    label(cache, write_manifest([["1.png", "12"], ["2.png", "x"]], ["image", "group"]))
    manifest = write_manifest([["2.png", "12.0"]], ["image", "group"])
    with refused("groups '12' and '12.0' are the same number ('12' is what the cache has)"):
        label(cache, manifest)
    label(cache, write_manifest([["1.png", "12.0"]], ["image", "group"]))
    assert columns(cache)["group"][1] == "12.0"


def test_label__a_pipe_among_the_images_is_not_waited_for(
    make_cache: MakeCache, tmp_path: Path, write_manifest: Write, refused: Refused
) -> None:
    cache = make_cache(range(4))
    os.mkfifo(tmp_path / "pipe.png")
    manifest = write_manifest([["pipe.png", "x"]], ["image", "label"])
    with refused("does not hold: pipe.png"):
        label(cache, manifest)


def test_label__reads_the_classes_of_before_as_findings(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    label(
        cache,
        write_manifest(
            [["0.png", "Mass;Edema"], ["1.png", "none"], ["2.png", "Mass"], ["3.png", ""]], ["image", "label"]
        ),
    )
    report = label(cache, columns=Columns(label_separator=";", no_finding="None"))
    assert columns(cache)["label"] == ["|Mass|Edema|", "|", "|Mass|", ""]
    assert (report.manifest, report.n_rows, report.n_changed, report.n_untouched) == (None, 3, {"label": 3}, 0)
    assert report.task.is_multilabel
    assert report.task.classes == ("Edema", "Mass")
    assert report.remarks[0] == "findings are the classes of before, parted at ';': 1 image had several in one"
    with pytest.raises(DataError, match="are findings already"):
        label(cache, columns=Columns(label_separator=";"))


def test_label__rereads_nothing_that_is_not_there(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(2))
    label(cache, write_manifest([["0.png", ""], ["1.png", ""]], ["image", "label"]))
    with pytest.raises(DataError, match="has no label to read anew"):
        label(cache, columns=Columns(label_separator=";"))
    with pytest.raises(OptionError, match="only a manifest has a column of the group"):
        label(cache, columns=Columns(label_separator=";", group="patient"))
    with pytest.raises(OptionError, match=r"only a manifest has columns to keep; .*leave out keep=\['sex'\]"):
        label(cache, columns=Columns(label_separator=";", keep="sex"))
    with pytest.raises(OptionError, match="separator is empty"):
        label(make_cache(range(2), name="d.zarr"), columns=Columns(label_separator=" "))


def test_label__findings_beside_classes_are_refused(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(4))
    before = columns(cache)
    manifest = write_manifest([["0.png", "Mass;Edema"]], ["image", "label"])
    with pytest.raises(DataError, match="some images may have several findings, others have one class"):
        label(cache, manifest, columns=Columns(label_separator=";"))
    assert columns(cache) == before


FINDINGS = Columns(label=["Edema", "Mass", "Nodule"])


def test_label__findings_that_the_manifest_lacks_stay_as_they_are(make_cache: MakeCache, write_manifest: Write) -> None:
    """By hand: Edema is told anew of rows 0 and 3; Hernia is new, and so unknown for row 1; row 3 had no label."""
    cache = make_cache(range(4))
    rows = [["0.png", "0", "1", "-1"], ["1.png", "1", "0", ""], ["2.png", "", "", ""], ["3.png", "", "", ""]]
    label(cache, write_manifest(rows, ["image", "Edema", "Mass", "Nodule"]), columns=FINDINGS)
    assert columns(cache)["label"] == ["|Mass|Nodule=?|", "|Edema|Nodule=|", "", ""]
    assert EmbeddingCache.open(cache).class_order == ("Edema", "Mass", "Nodule")
    second = write_manifest([["0.png", "1", "0"], ["2.png", "", ""], ["3.png", "1", ""]], ["image", "Hernia", "Edema"])
    report = label(cache, second, columns=Columns(label="Hernia,Edema"))
    assert columns(cache)["label"] == [
        "|Mass|Nodule=?|Hernia|",
        "|Edema|Nodule=|Hernia=|",
        "",
        "|Edema=|Mass=|Nodule=|Hernia|",
    ]
    assert report.class_order == EmbeddingCache.open(cache).class_order == ("Edema", "Mass", "Nodule", "Hernia")
    assert (report.n_changed, report.n_changed_findings) == ({"label": 2}, {"Hernia": 2})
    assert report.remarks[-1] == "new to the cache, and unknown for images with a label from before: Hernia"
    third = write_manifest([["0.png", "1", ""], ["1.png", "1", "1"]], ["image", "Edema", "Mass"])
    report = label(cache, third, columns=Columns(label="Edema,Mass"))
    assert columns(cache)["label"][:2] == ["|Edema|Mass=|Nodule=?|Hernia|", "|Edema|Mass|Nodule=|Hernia=|"]
    assert report.n_changed_findings == {"Edema": 1, "Mass": 2}
    assert report.class_order == ("Edema", "Mass", "Nodule", "Hernia")


def test_label__findings_to_classes_and_back_drop_the_list(make_cache: MakeCache, write_manifest: Write) -> None:
    cache = make_cache(range(2))
    grades = write_manifest([["0.png", "mild"], ["1.png", "none"]], ["image", "label"], name="g.csv")
    label(cache, grades, class_order=["none", "mild"])
    findings = write_manifest([["0.png", "1", "0", ""], ["1.png", "0", "0", "1"]], ["image", "Edema", "Mass", "Nodule"])
    report = label(cache, findings, columns=FINDINGS)
    assert report.class_order == ("Edema", "Mass", "Nodule")
    assert report.remarks[-1].endswith("the order of the classes of before (none < mild) is dropped")
    report = label(cache, grades)
    assert report.class_order == EmbeddingCache.open(cache).class_order == ()
    assert report.remarks[-1] == "labels are classes now: the findings of before (Edema, Mass, Nodule) are dropped"


@pytest.mark.parametrize("options", [{"dicom": "age"}, {"frame": "each"}])
def test_label__what_only_headers_tell(make_cache: MakeCache, write_manifest: Write, options: dict[str, str]) -> None:
    cache = make_cache(range(2))
    manifest = write_manifest([["0.png", "x"]], ["image", "label"])
    with pytest.raises(OptionError, match="reads no images and no headers; leave out"):
        label(cache, manifest, columns=Columns(**options))
