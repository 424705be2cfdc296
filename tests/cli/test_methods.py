"""`dvme methods` as it is typed."""

from __future__ import annotations

from pathlib import Path

from command_line import assert_refused, run, strict

import dvme


def test_methods__printed_written_and_as_json(small_study: Path, tmp_path: Path) -> None:
    report = dvme.methods(small_study / "run")
    printed = run("methods", small_study / "run")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout == f"{report.text}\n\n{report.bibtex}\n"
    assert printed.stderr == "3 places marked [cite], to be filled in by hand: dvme knows of no work to cite there\n"
    place = tmp_path / "methods.md"
    written = run("methods", small_study / "run", "--out", place)
    assert written.stdout == f"{len(report.keys)} references and 5 paragraphs are in {place}\n"
    assert place.read_text(encoding="utf-8") == report.markdown
    as_json = strict(run("methods", small_study / "run", "--json").stdout)
    assert as_json == report.to_json()


def test_methods__refusals(small_study: Path, tmp_path: Path) -> None:
    (tmp_path / "m.md").write_text("mine")
    assert_refused(run("methods", small_study / "run", "--out", tmp_path / "m.md"), "is there already", "--force")
    assert (tmp_path / "m.md").read_text() == "mine"
    assert_refused(run("methods", small_study / "c.zarr"), "is a cache; dvme sweep")
    assert_refused(run("methods", tmp_path), "is not a run")
