"""What masks are called, and where they may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvme.errors import OptionError
from dvme.prediction.mask_files import AREAS, check_masks_folder, file_names


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["a.png", "sub/b.jpg"], ["a", "sub/b"]),
        (["/data/x/a.png", "/data/y/b.tif"], ["x/a", "y/b"]),
        (["a.png", "a.jpg", "b.png"], ["a.png", "a.jpg", "b"]),
        (["A.png", "a.png"], ["A.png~", "a.png~"]),
        (["s.dcm/frame=0", "s.dcm/frame=1"], ["s.dcm/frame=0", "s.dcm/frame=1"]),
        (["patient.12", "../up.png"], ["patient.12", "_/up"]),
        (["a.png/1.png", "a.jpg"], ["a.png/1", "a~"]),
        (['q:"?.png', "areas.csv/1.png"], ["q___", "areas.csv_/1"]),
    ],
)
def test_file_names__by_hand(ids: list[str], names: list[str]) -> None:
    """What is cut off behind ~ is a digest."""
    found = file_names(ids)
    assert ["~".join([own.partition("~")[0], ""]) if "~" in own else own for own in found] == names
    lower = [f"{own}.png".casefold() for own in found]
    assert len(set(lower)) == len(lower)
    assert not any(other.startswith(f"{own}/") for own in lower for other in lower)


def test_file_names__long_ones_are_cut_and_stay_apart() -> None:
    found = file_names(["ä" * 300 + "1.png", "ä" * 300 + "2.png"])
    assert len(set(found)) == 2
    assert max(len(own.encode()) for own in found) < 160


def test_check_masks_folder__replaces_masks_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("mine")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / AREAS).write_text("theirs")
    (tmp_path / "file").write_text("a file")
    assert check_masks_folder(tmp_path / "masks", "h", force=True) == tmp_path / "masks"
    for place, force, said in [
        ("masks", False, "is there already; name another folder, or pass force=True"),
        ("images", True, "holds no masks that dvme predicted"),
        ("file", True, "is a file; name another folder"),
        ("new.csv", False, "is the name of a file, and h makes a mask of each image; name a folder"),
    ]:
        with pytest.raises(OptionError, match=said):
            check_masks_folder(tmp_path / place, "h", force=force)
