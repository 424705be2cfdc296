"""The demo as it is typed, on few photographs of 32 pixels: that it runs is what is tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from command_line import assert_refused, run, strict
from typer.testing import Result

from dvme.demonstration import demo
from dvme_cli.demo import _sent_to

LITE = "efficientnet-lite0@size=32"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """One backbone and one head."""
    monkeypatch.setattr(demo, "BACKBONES", (LITE,))
    monkeypatch.setattr(demo, "PROBE_HEADS", ("knn",))
    monkeypatch.setattr(demo, "HEADS", ("knn",))


def test_demo__types_its_commands_and_goes_on_from_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = run("demo", folder, "--images", "200")
    assert first.exit_code == 0, first.output
    base = folder / "elpv-200"
    lines = first.stdout.splitlines()
    assert lines[0] == f"200 solar cells are listed in {base}.csv"
    assert [line for line in lines if line.startswith("$ ")] == [
        f"$ dvme extract {base}.csv {base}.zarr --backbones {LITE}",
        f"$ dvme cache label {base}.zarr {base}.csv --keep-col cell_type",
        f"$ dvme probe {base}.zarr --head knn",
        f"$ dvme sweep {base}.zarr --out {base} --head knn > {base}.txt",
        f"$ dvme report {base} --out {base}.html --force",
    ]
    assert "knn" in Path(f"{base}.txt").read_text(encoding="utf-8")
    assert lines[-1] == f"wrote {base}.html"
    again = run("demo", folder, "--images", "200", "--json")
    assert again.exit_code == 0, again.output
    report = strict(again.stdout)
    assert (report["n_images"], report["page"]) == (200, f"{base}.html")
    assert report["verdict"] in lines
    assert report["answers"]


def test_demo__a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    for options in ([], ["--json"]):
        assert_refused(run("demo", tmp_path / "demo", *options), "needs elpv-dataset: pip install 'dvme[demo]'")
    assert not (tmp_path / "demo").exists()


def test_demo__impossible_numbers_and_steps_that_fail(tmp_path: Path) -> None:
    assert_refused(run("demo", tmp_path / "demo", "--images", "50"), "or --images all")
    (tmp_path / "elpv-200.zarr").mkdir()
    (tmp_path / "elpv-200.zarr" / "0.png").write_text("no image")
    failed: Result = run("demo", tmp_path, "--images", "200")
    assert failed.exit_code == 1
    assert failed.stdout.splitlines()[-1].startswith("$ dvme extract ")
    assert failed.stderr.splitlines()[-1].startswith("error: ")


def test_sent_to__a_step_that_fails_leaves_the_older_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "table.txt"
    place.write_text("older")

    def fail() -> None:
        with _sent_to(str(place)):
            print("half a table")
            raise typer.Exit(1)

    with pytest.raises(typer.Exit):
        fail()
    assert place.read_text() == "older"
    with _sent_to(str(place)):
        print("a table")
    assert place.read_text() == "a table\n"
    assert [*tmp_path.iterdir()] == [place]
    with _sent_to(""):
        print("in the terminal")
    assert capsys.readouterr().out == "in the terminal\n"
