from __future__ import annotations

from pathlib import Path

import pytest

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
        ("old.csv", False, r"old\.csv is there already; name another file, or pass --force"),
        ("no/p.csv", True, "no is not a folder; make it first"),
        ("old.csv/p.csv", True, r"old\.csv is not a folder"),
    ],
)
def test_check_destination__anywhere_else(tmp_path: Path, name: str, force: bool, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "old.csv").write_text("old")
    with pytest.raises(OptionError, match=message):
        check_destination(tmp_path / name, (".csv", ".parquet"), force=force)
