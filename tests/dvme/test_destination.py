from __future__ import annotations

from pathlib import Path

import pytest
from command_line import assert_refused, run

from dvme.destination import check_destination
from dvme.errors import OptionError


def test_check_destination__a_new_file_or_one_to_replace(tmp_path: Path) -> None:
    (tmp_path / "old.CSV").write_text("old")
    for force in (False, True):
        assert check_destination(tmp_path / "new.csv", (".csv",), force=force) == tmp_path / "new.csv"
    assert check_destination(str(tmp_path / "old.CSV"), (".json", ".csv"), force=True) == tmp_path / "old.CSV"
    assert (tmp_path / "old.CSV").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "force", "message"),
    [
        ("p.txt", True, r"p\.txt does not end in \.csv or \.parquet; name such a file"),
        ("folder.csv", True, r"folder\.csv is a folder; name a file"),
        ("old.csv", False, r"old\.csv is there already; name another file, or pass force=True"),
        ("no/p.csv", True, "no is not a folder; make it first"),
        ("folder", True, r"folder is a folder; name a file"),
        ("old.csv/p.csv", True, r"old\.csv is not a folder"),
    ],
)
def test_check_destination__anywhere_else(tmp_path: Path, name: str, force: bool, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises(OptionError, match=message):
        check_destination(tmp_path / name, (".csv", ".parquet"), force=force)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("viz c.zarr --out", "x.html"),
        ("report run --out", "x.html"),
        ("predict head c.zarr --out", "x.csv"),
        ("explain head c.zarr --out", "x.json"),
        ("explain head c.zarr --full-map", "x.npy"),
        ("subsets c.zarr --out", "x.json"),
        ("cache export c.zarr", "x.h5"),
    ],
)
def test_commands__all_refuse_alike_before_they_look_at_anything(tmp_path: Path, command: str, name: str) -> None:
    """Neither cache, run nor head are there: the destination comes first, in the same words."""
    (tmp_path / name).write_text("mine")
    (tmp_path / f"d{name}").mkdir()
    asked = command.split()
    assert_refused(run(*asked, tmp_path / name), f"{name} is there already; name another file, or pass --force")
    assert_refused(run(*asked, tmp_path / "no" / name, "--force"), "no is not a folder; make it first")
    assert_refused(run(*asked, tmp_path / f"d{name}", "--force"), f"d{name} is a folder; name a file")
    assert (tmp_path / name).read_text() == "mine"
    assert "there already" not in run(*asked, tmp_path / name, "--force").output
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, f"d{name}"])
