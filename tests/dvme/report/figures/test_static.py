import importlib
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from plotly.graph_objects import Figure

import dvme.report.figures.static
from dvme.errors import OptionError
from dvme.report import class_counts, save_figures

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
needs_kaleido = pytest.mark.skipif(importlib.util.find_spec("kaleido") is None, reason="kaleido is not installed")
needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="no chromium or Chrome on the path to draw figures with"
)


@pytest.fixture
def figure() -> Figure:
    return class_counts({"train": {"cats & <dogs>": 3}, "test": {"cats & <dogs>": 1}})


@needs_kaleido
@needs_browser
def test_save_figures__one_file_each(tmp_path: Path, figure: Figure) -> None:
    folder = tmp_path / "new" / "figures"
    second = Figure(figure).update_traces(visible="legendonly", selector={"name": "test"})
    paths = save_figures({"a": figure, "b": second}, folder)
    assert paths == [folder / "a.svg", folder / "b.svg"]
    assert sorted(folder.iterdir()) == paths
    drawn, hidden = ([each.text for each in ElementTree.parse(path).iter()] for path in paths)
    assert "cats & <dogs>" in drawn
    assert "test" in drawn
    assert "test" not in hidden


@needs_kaleido
@needs_browser
@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), pytest.param("pdf", b"%PDF", marks=pytest.mark.slow)])
def test_save_figures__other_kinds(tmp_path: Path, figure: Figure, kind: str, magic: bytes) -> None:
    (path,) = save_figures({"a": figure}, tmp_path, kind=kind)
    assert path.read_bytes().startswith(magic)


@needs_kaleido
def test_save_figures__no_browser(tmp_path: Path, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    (tmp_path / "a.svg").write_text("old")
    with pytest.raises(OptionError, match="install chromium or Chrome") as caught:
        save_figures({"a": figure}, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
    assert (tmp_path / "a.svg").read_text() == "old"


def test_save_figures__no_kaleido(tmp_path: Path, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(dvme.report.figures.static, "import_module", absent)
    with pytest.raises(OptionError, match=r"figures need kaleido: pip install 'dvme\[figures\]'"):
        save_figures({"a": figure}, tmp_path)


def test_save_figures__refuses(tmp_path: Path, figure: Figure) -> None:
    with pytest.raises(OptionError, match="'jpg'; choose one of svg, png, pdf"):
        save_figures({"a": figure}, tmp_path, kind="jpg")
    with pytest.raises(OptionError, match="not the name of a file"):
        save_figures({"../a": figure}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is a file"):
        save_figures({"a": figure}, tmp_path / "file")


def test_report__names_are_found_without_plotly() -> None:
    report = importlib.import_module("dvme.report")
    assert set(report.__all__) <= set(dir(report))
    for name in report.__all__:
        assert callable(getattr(report, name))
    with pytest.raises(AttributeError, match="nothing"):
        _ = report.nothing
