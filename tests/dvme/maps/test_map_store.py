from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dvme.maps.map_store import Kept, default_folder, key_of

KEY = key_of("a map")
POSITIONS = np.arange(12, dtype=np.float32).reshape(6, 2)


def _written(folder: Path) -> Path:
    Kept(folder).write(KEY, positions=POSITIONS, n=np.asarray(3))
    (file,) = folder.iterdir()
    return file


def test_kept__reads_what_was_written(tmp_path: Path) -> None:
    _written(tmp_path / "maps")
    found = Kept(tmp_path / "maps").read(KEY)
    assert found is not None
    assert set(found) == {"positions", "n"}
    assert found["n"].item() == 3
    assert found["positions"].dtype == np.float32
    np.testing.assert_array_equal(found["positions"], POSITIONS)


def test_kept__is_plain_npz_for_others(tmp_path: Path) -> None:
    with np.load(_written(tmp_path / "maps")) as archive:
        np.testing.assert_array_equal(archive["positions"], POSITIONS)


def test_kept__nothing_is_absent(tmp_path: Path) -> None:
    assert Kept(tmp_path / "maps").read(KEY) is None
    _written(tmp_path / "maps")
    assert Kept(tmp_path / "maps").read(key_of("another")) is None


def test_kept__every_torn_file_counts_as_absent(tmp_path: Path) -> None:
    file = _written(tmp_path)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert Kept(tmp_path).read(KEY) is None, length
    file.write_bytes(whole)
    assert Kept(tmp_path).read(KEY) is not None


def test_kept__every_flipped_byte_counts_as_absent(tmp_path: Path) -> None:
    file = _written(tmp_path)
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x41
        file.write_bytes(flipped)
        assert Kept(tmp_path).read(KEY) is None, place


def test_kept__foreign_files_count_as_absent(tmp_path: Path) -> None:
    file = _written(tmp_path)
    np.savez(file, positions=POSITIONS)
    assert Kept(tmp_path).read(KEY) is None
    file.write_text("not a zip, and longer than a seal is")
    assert Kept(tmp_path).read(KEY) is None
    file.unlink()
    file.mkdir()
    assert Kept(tmp_path).read(KEY) is None


def test_kept__a_file_of_another_key_counts_as_absent(tmp_path: Path) -> None:
    other = key_of("another")
    file = _written(tmp_path)
    file.rename(tmp_path / file.name.replace(KEY, other))
    assert len(list(tmp_path.iterdir())) == 1
    assert Kept(tmp_path).read(other) is None


def test_kept__a_folder_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    Kept(tmp_path / "file" / "maps").write(KEY, positions=POSITIONS)
    assert Kept(tmp_path / "file" / "maps").read(KEY) is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_kept__a_disk_that_is_full_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    Kept(tmp_path).write(KEY, positions=POSITIONS)
    assert not list(tmp_path.iterdir())


def test_kept__other_errors_are_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        Kept(tmp_path).write(KEY, positions=np.array([None]), allow_pickle=False)  # type: ignore[arg-type]


def test_default_folder__follows_xdg(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_folder() == cache_home / "dvme" / "maps"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_folder() == Path("/home/someone/.cache/dvme/maps")


def test_default_folder__of_a_user_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor a list of users knows it
    assert default_folder() is None
    kept = Kept(default_folder())
    kept.write(KEY, positions=np.zeros((2, 2)))
    assert kept.read(KEY) is None


def test_key_of__every_part_counts() -> None:
    assert len(KEY) == 32
    int(KEY, 16)
    assert key_of("a", 1, {"x": 1, "y": 2.5}) == key_of("a", 1, {"y": 2.5, "x": 1})
    parts: list[tuple[object, ...]] = [("a",), ("b",), ("a", "b"), ("ab",), (["a", "b"],), ("a", None), ("a", 0), (1,)]
    assert len({key_of(*some) for some in parts}) == len(parts)
    with pytest.raises(TypeError):
        key_of(object())
    assert json.loads(json.dumps(KEY)) == KEY


def test_write__for_its_owner_alone(tmp_path: Path) -> None:
    """Thumbnails of patients may be among what is kept."""
    kept = Kept(tmp_path / "own")
    kept.write("key", values=np.arange(3))
    (file,) = (tmp_path / "own").iterdir()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "own", file)] == [0o700, 0o600]
