from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from dvme.demonstration.solar_cells import ALL, DEFECT, all_cells, check_packages, some_cells, write_manifest
from dvme.errors import EnvironmentMismatchError, OptionError


def test_all_cells__are_the_photographs(solar_cells: list[tuple[Path, str]]) -> None:
    found = all_cells()
    assert [Path(path) for path, _, _ in found] == [path for path, _ in solar_cells]
    assert {label for _, label, _ in found} == set(DEFECT.values())
    assert {kind for _, _, kind in found} == {"mono", "poly"}
    assert Path(found[0][0]).is_file()
    assert some_cells(ALL) == some_cells(f"{len(found)}") == found


def test_some_cells__have_the_shares_of_the_whole() -> None:
    every, some = all_cells(), some_cells("400")
    assert some == some_cells("400") == sorted(some)
    assert len(set(some)) == 400
    shares = Counter(label for _, label, _ in every)
    for label, count in Counter(label for _, label, _ in some).items():
        assert abs(count - 400 * shares[label] / len(every)) < 1
    assert len(some_cells("2620")) == 2620


@pytest.mark.parametrize("images", ["0", "199", "2621", "2625", "-1", "some", "", "3.5"])
def test_some_cells__numbers_that_are_not_possible(images: str) -> None:
    with pytest.raises(OptionError, match="pass a number from 200 to 2,620, or images='all'"):
        some_cells(images)


def test_write_manifest__a_row_for_each(tmp_path: Path) -> None:
    cells = [("a,b.png", "0%", "mono"), ("c.png", "67%", "poly")]
    write_manifest(tmp_path / "m.csv", cells)
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        assert [*csv.reader(file)] == [["image", "label", "cell_type"], *map(list, cells)]
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_check_packages__names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages("elpv_dataset")
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(EnvironmentMismatchError) as caught:
        check_packages("elpv_dataset", "numpy", "no_such_module")
    assert f"{caught.value}" == "the demo needs elpv-dataset, no-such-module: pip install 'dvme[demo]'"
    with pytest.raises(EnvironmentMismatchError):
        all_cells()
