"""`dvme data`: a manifest of a public set in one command, and what sets there are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_line import assert_refused, run, strict
from publishers import NIH, TABLES, pictures, put

import dvme
from dvme.sets.catalogue import SETS
from dvme_cli import data


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    table = pd.read_csv(TABLES / NIH, dtype=str, keep_default_na=False, nrows=6)
    put(tmp_path / "nih", NIH, table)
    pictures(tmp_path / "nih" / "images", table["Image Index"][:4])
    return tmp_path / "nih"


def test_data__has_a_command_for_every_set() -> None:
    assert {command.name for command in data.app.registered_commands} == {"list", *(each.name for each in SETS)}
    for each in SETS:
        shown = run("data", each.name, "--help").stdout
        assert f"manifest of {each.name}" in shown
        assert "--out" in shown


def test_list__says_what_there_is_of_every_set() -> None:
    shown = run("data", "list").stdout
    for each in SETS:
        assert f"{each.name}: {each.title}; {each.task}\n{each.size}; {each.licence}\n{each.published}\n" in shown
    assert strict(run("data", "list", "--json").stdout) == [each.to_json() for each in SETS]
    assert "chexpert: CheXpert; 13 findings" in shown


def test_build__says_what_it_wrote_and_what_it_met(nih: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    done = run("data", "nih-cxr14", nih, "--out", out)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "NIH ChestX-ray14: 4 images, 2 groups; official split: none"
    assert "2 pictures not there, and left out" in lines
    assert lines[-1].startswith(f"wrote {out}: image, label, group, study, view, ")
    assert len(dvme.load_samples(out)) == 4
    assert_refused(run("data", "nih-cxr14", nih, "--out", out), "is there already", "--force")
    again = run("data", "nih-cxr14", nih, "--out", out, "--force", "--views", "PA", "--json")
    assert strict(again.stdout) == dvme.public_set("nih-cxr14", nih, views="PA").to_json() | {"path": str(out)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nih-cxr14", "nih", "--out", "new.csv", "--views", "AP,LL"), "'LL'; there are PA (6); pass one of them"),
        (("nih-cxr14", "missing", "--out", "new.csv"), "missing is not a folder; name the one into which"),
        (("chexpert", "nih", "--out", "new.csv"), "nih has no train.csv or chexpert_train.csv; put the publisher's"),
        (("vindr", "nih", "--out", "new.csv", "--readers", "all"), "pass --readers majority or --readers shares"),
        (("padchest", "nih", "--out", "new.csv", "--labels", "x"), "pass --labels common or --labels all"),
        (("isic", "nih", "--out", "new.csv", "--edition", "2021"), "HAM10000; choose one of them with --edition 2018"),
        (("medmnist", "nih", "--out", "new.csv", "--edition", "x"), "has no x.npz; it has no .npz file"),
        (("nih-cxr14", "nih", "--out", "new.tsv"), "new.tsv does not end in .csv; name such a file"),
    ],
)
def test_build__refuses_in_one_line(
    nih: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run("data", *arguments), said)
    assert [path.name for path in tmp_path.iterdir()] == [nih.name]
