"""What the commands print of a listing: whatever is left out, and why."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest
from command_line import assert_refused, run

from dvme_cache import EmbeddingCache

LITE = "efficientnet-lite0@size=32"


@pytest.fixture
def messy(class_folders: Path, tmp_path: Path) -> Path:
    """Three classes, a link to a share that is not mounted, copies, empty files and side folders."""
    (class_folders / "away").symlink_to(tmp_path / "share")
    (class_folders / "dark" / "@eaDir" / "00.png").mkdir(parents=True)
    (class_folders / "dark" / "notes.txt").touch()
    (class_folders / "nan").mkdir()
    first = class_folders / "dark" / "00.png"
    (class_folders / "dark" / "copy.png").write_bytes(first.read_bytes())
    os.link(first, class_folders / "dark" / "hard.png")
    for number in range(4):
        (class_folders / "nan" / f"{number}.png").touch()
    (class_folders / "grey" / "later.png").symlink_to(tmp_path / "later.png")
    return class_folders


def test_extract__ends_with_what_heads_lack(class_folders: Path, tmp_path: Path) -> None:
    """A flat folder has no class; where there are several, not a word of it."""
    for folder, is_enough in ((class_folders / "dark", False), (class_folders, True)):
        cache = tmp_path / f"{folder.name}.zarr"
        result = run("extract", folder, cache, "--backbones", LITE)
        assert result.exit_code == 0, result.output
        last = result.stdout.splitlines()[-1]
        step = f"heads need two classes; dvme cache label {cache} TABLE names them"
        assert last.endswith(step) is not is_enough
        assert (step in result.stdout) is not is_enough


def test_extract__says_what_it_left_out(messy: Path, tmp_path: Path) -> None:
    result = run("extract", messy, tmp_path / "c.zarr", "--backbones", LITE)
    assert result.exit_code == 0, result.output
    told = result.stderr.splitlines()
    assert told[0].startswith(
        "43 images (1 folder, archive or link NOT LISTED): multiclass, 4 classes: dark (14), grey (13)"
    )
    away = f"{messy / 'away'} (link to {tmp_path / 'share'}: No such file or directory)"
    assert f"NOT LISTED: 1 folder, archive or link of which nobody knows the images: {away}" in told[1]
    assert "1 file of other kinds (1 .txt) passed over" in told
    assert "folders passed over that systems keep beside files: 1 @eaDir" in told
    assert any(line.startswith("'nan' is a class like any other, of 4 images") for line in told)
    said = result.stdout.splitlines()
    copies = "; 5 copies stored once, such as dark/00.png = dark/copy.png = dark/hard.png"
    links = "; 1 file goes by more than one name, such as dark/00.png = dark/hard.png"
    assert said[0] == f"37 distinct images (37 new to the cache){copies}{links}"
    assert any(line.startswith("NOT LISTED: 1 folder, archive or link") for line in said)
    unread = "1 file could not be read and took no part, such as grey/later.png: cannot be read: No such file"
    assert any(line.startswith(unread) for line in said)
    listed = said[said.index("4 files (1 distinct image) have no embedding (--retry-failed decodes again):") + 1 :]
    assert all(line.startswith("  ") and ": " in line for line in listed[:4]), "the fourth takes the line of its number"
    assert "more (--json lists all)" not in "".join(listed)
    report = json.loads(run("extract", messy, tmp_path / "c.zarr", "--backbones", LITE, "--json").stdout)
    assert len(report["outcomes"][0]["reasons"]) == 5
    assert list(report["unlisted"]) == [str(messy / "away")]
    assert list(report["unread"]) == ["grey/later.png"]
    plan = run("extract", messy, tmp_path / "c.zarr", "--backbones", LITE, "--plan")
    assert "NOT LISTED" in plan.stdout
    assert "1 file could not be read" in plan.stdout
    assert_refused(run("cache", "prune", tmp_path / "c.zarr", messy, "--yes"), "NOT LISTED", "nothing was pruned")


def test_extract__a_manifest_with_gaps(
    class_folders: Path, tmp_path: Path, write_manifest: Callable[..., Path]
) -> None:
    names = sorted(path.relative_to(tmp_path).as_posix() for path in class_folders.rglob("*.png"))
    rows = [[name, name.split("/")[1], "p 1"] for name in [*names, "images/gone/1.png", "images/gone/2.png"]]
    manifest = write_manifest(rows, ["Image", "diagnosis", "Group "])
    command = ("extract", manifest, tmp_path / "c.zarr", "--backbones", LITE)
    assert_refused(run(*command), "names 2 files that do not exist", "leave them out with --skip-missing")
    result = run(*command, "--skip-missing")
    assert result.exit_code == 0, result.output
    told = result.stderr.splitlines()
    assert "2 images left out, for no file is there: images/gone/1.png and 1 more" in told
    assert "columns used of manifest.csv: image = 'Image', group = 'Group'; not used: diagnosis" in told
    assert any(
        line.endswith("columns that could be it: diagnosis (4 values); name one with --label-col") for line in told
    )
    assert "2 images left out, for no file is there: images/gone/1.png and 1 more" in result.stdout
    report = run(*command, "--skip-missing", "--label-col", "DIAGNOSIS", "--json")
    assert json.loads(report.stdout)["missing"] == ["images/gone/1.png", "images/gone/2.png"]
    assert json.loads(report.stdout)["task"]["counts"] == [12, 12, 12]


def test_prune__an_empty_mount_point_is_seen(class_folders: Path, tmp_path: Path) -> None:
    assert run("extract", class_folders, tmp_path / "c.zarr", "--backbones", LITE).exit_code == 0
    (class_folders / "dark").rename(tmp_path / "dark")
    (class_folders / "dark").mkdir()
    result = run("cache", "prune", tmp_path / "c.zarr", class_folders)
    assert "a folder holds no image: dark" in result.stdout
    assert "12 of 12 images below dark/ are gone; is it mounted?" in result.stdout


def test_extract__a_workbook_of_another_machine(class_folders: Path, tmp_path: Path) -> None:
    book, cache = openpyxl.Workbook(), tmp_path / "c.zarr"
    book.active.append(["Image", "Label", "Patient"])
    names = sorted(path.relative_to(class_folders) for path in class_folders.rglob("*.png"))[::4]
    for number, name in enumerate(names):
        level = name.parent.name if number else "None"
        book.active.append([f"{name.parent.name.upper()}\\{name.name}", level, f"{number:03}"])
    book.create_sheet("legend").append(["code", "meaning"])
    book.save(class_folders / "m.xlsx")
    given = ["--backbones", "random@size=32", "--group-col", "patient"]
    result = run("extract", class_folders / "m.xlsx", cache, *given)
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    counts = "counts as a cell without a value; where it is a name, pass --na-values ''"
    assert f"column 'Label': 'None' (1 row) {counts}" in said
    assert "sheet 'Sheet' of m.xlsx" in said
    first = f"{names[0].parent.name.upper()}\\{names[0].name} = {names[0]}"
    found = f"{len(names)} images found under another spelling of the name: {first},"
    assert any(line.startswith(found) for line in said)
    told = EmbeddingCache.open(cache)
    assert told.column("label").tolist()[0] == ""
    assert told.column("group").tolist() == [f"{number:03}" for number in range(len(names))]
    assert told.column("path").tolist() == [os.path.realpath(class_folders / name) for name in names]
    (class_folders / "again.csv.gz").write_bytes(
        gzip.compress("\n".join(["image,label", *(f"{name},None" for name in names[:2])]).encode("utf-16"))
    )
    result = run("cache", "label", cache, class_folders / "again.csv.gz", "--na-values", "")
    assert result.exit_code == 0, result.output
    assert EmbeddingCache.open(cache).column("label").tolist()[:2] == ["None", "None"]
    order = ",".join(["None", *sorted({name.parent.name for name in names})])
    result = run("extract", class_folders / "m.xlsx" / "sheet", cache, *given, "--class-order", order)
    assert result.exit_code == 0, result.output
    assert EmbeddingCache.open(cache).column("label").tolist()[0] == "None"  # a name of the order is a class
    result = run("extract", class_folders / "m.xlsx" / "sheet", cache, *given)
    assert EmbeddingCache.open(cache).column("label").tolist()[0] == "None"  # also of the order that a cache keeps
    assert_refused(run("extract", class_folders / "m.xlsx" / "other", cache, *given), "m.xlsx has no sheet 'other'")
