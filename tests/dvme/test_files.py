from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from command_line import assert_refused, run

from dvme.errors import OptionError
from dvme.files import check_destination, check_folder, new_folder, whole


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


def test_check_folder__what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "in it").mkdir(parents=True)
    for name in ("empty", "new", "new/deep/one"):
        assert check_folder(tmp_path / name) == tmp_path / name
    assert check_folder(tmp_path / "full", force=True) == tmp_path / "full"
    with pytest.raises(OptionError, match="full is there already; name another folder, or remove it"):
        check_folder(tmp_path / "full")
    for name in ("file", "file/deep/one"):
        with pytest.raises(OptionError, match="file is there already and is a file; pass --elsewhere"):
            check_folder(tmp_path / name, step="pass --elsewhere", force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check__a_place_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OptionError, match=r"cannot be written to \(Permission denied\); name another place"):
        check_folder(tmp_path / "a")
    with pytest.raises(OptionError, match=r"cannot be written to \(Permission denied\); name another place"):
        check_destination(tmp_path / "a", (), force=True)
    tmp_path.chmod(0o755)


def _fill(folder: Path, text: str) -> None:
    with new_folder(folder, force=True) as aside:
        for name in ("a", "deep/b"):
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_text(text)


def _texts(folder: Path) -> set[str]:
    return {(folder / name).read_text() for name in ("a", "deep/b")}


@pytest.mark.parametrize("n_renames", [0, 1, 2])
def test_new_folder__killed_while_it_replaces(tmp_path: Path, n_renames: int) -> None:
    """Before the old one is moved, between the two renames, and before what was replaced is deleted."""
    place = tmp_path / "x"
    _fill(place, "old")
    child = os.fork()
    if not child:
        rename, done = Path.rename, list[Path]()

        def dying(path: Path, target: Path) -> Path:
            if len(done) == n_renames:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(path)
            return rename(path, target)

        Path.rename = dying  # type: ignore[method-assign, assignment]
        if n_renames == 2:
            os.rmdir = os.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        _fill(place, "new")
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert _texts(whole(place)) == {"new" if n_renames == 2 else "old"}
    with pytest.raises(OptionError, match="x is there already"):
        check_folder(place)
    _fill(place, "newer")
    assert _texts(place) == {"newer"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_new_folder__a_replacement_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path / "x", "old")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == ".x.partial":
            raise OSError(5, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        _fill(tmp_path / "x", "new")
    assert _texts(tmp_path / "x") == {"old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_new_folder__what_another_puts_there_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "x") as aside:  # noqa: PT012
        (aside / "a").write_text("new")
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "theirs").write_text("theirs")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["x", "theirs"]


def test_new_folder__is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path / "x", "old")
    events: list[int | str] = []
    fsync, rename = os.fsync, Path.rename

    def syncing(descriptor: int) -> None:
        events.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renaming(path: Path, target: Path) -> Path:
        events.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "rename", renaming)
    _fill(tmp_path / "x", "new")
    new = {path.stat().st_ino for path in (tmp_path / "x", *(tmp_path / "x").rglob("*"))}
    first = events.index("x")
    assert len(new) == 4
    assert new <= set(events[:first])
    assert events[first:] == ["x", ".x.partial", tmp_path.stat().st_ino]
