"""One row for every finding, in 80 columns, and a line that says what stands there."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run
from numpy.typing import NDArray
from rich.console import Console

import dvme
from dvme.study.outcome import StudyReport
from dvme.study.run import read_summary
from dvme_cli import reliability_table

N = 150
RUN = ("--head", "linear@strengths=0.001:0.1", "--folds", "2")


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    """Two findings that embeddings show, one of three images, and one that is uncertain or blank now and then."""
    labels = np.arange(N) % 3
    texts = []
    for image, label in enumerate(labels.tolist()):
        own = ["Mass"] * (label == 0) + ["Pleural_Thickening_and_more"] * (label == 1) + ["Hernia"] * (image in (5, 9))
        own += ["Edema=?"] if image % 5 == 0 else ["Edema="] if image % 7 == 0 else ["Edema"] * (label > 0)
        texts.append(f"|{'|'.join(own)}|" if own else "|")
    return write_embeddings(
        tmp_path_factory.mktemp("reliable") / "c.zarr", {"a": make_features(labels, 0.8, 0)}, label=texts
    )


@pytest.fixture(scope="module")
def report(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    folder = tmp_path_factory.mktemp("run") / "run"
    dvme.probe(cache, heads=["linear@strengths=0.001:0.1"], n_folds=2, out=folder, prevalence={"Mass": 0.05})
    return read_summary(folder)


def _shown(report: StudyReport, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr(reliability_table, "console", lambda: Console(file=stream, width=width))
    assert report.reliability is not None
    reliability_table.show_reliability(report.reliability)
    return stream.getvalue().splitlines()


def test_show_reliability__fits_80_columns_with_all_of_them(
    report: StudyReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _shown(report, 80, monkeypatch)
    assert max(map(len, lines)) <= 80
    for title in ("finding", "with", "AUC 95% CI", "sens. 95% CI", "spec.", "ECE>after"):
        assert title in lines[1]
    assert report.reliability is not None
    (mass,) = (each for each in report.reliability.leading.findings if each.finding == "Mass")
    (line,) = (line for line in lines if line.startswith(" Mass "))
    assert f"{mass.n_positive}/{mass.n_known}" in line
    assert f"{mass.auc.estimate:.2f} {mass.auc.low:.2f}-{mass.auc.high:.2f}" in line
    (rare,) = (line for line in lines if line.startswith(" Hernia "))
    assert "with, takes 3" in rare
    said = capsys.readouterr().out
    edema = next(each for each in report.reliability.leading.findings if each.finding == "Edema")
    assert edema.n_masked > (edema.n_uncertain or 0) > 0
    assert f"{edema.n_masked} cells are not known, {edema.n_uncertain} of them uncertain, and take no part." in said
    assert report.reliability.said() in said


def test_show_reliability__in_40_columns(report: StudyReport, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, _shown(report, 40, monkeypatch))) <= 40


def test_probe__keeps_what_was_stated(report: StudyReport) -> None:
    assert report.reliability is not None
    stated = {each.finding: each.at.stated_prevalence for each in report.reliability.leading.judged if each.at}
    assert stated["Mass"] == 0.05
    assert all(np.isnan(value) for name, value in stated.items() if name != "Mass")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prevalence", "Mas=0.1"), 1, "the study has no finding or class 'Mas'"),
        (
            ("--prevalence", "12"),
            1,
            "a prevalence of 12 is not possible; it lies between 0 and 1, 2 per cent is --",
        ),
        (("--prevalence", "Mass=much"), 2, "--prevalence Mass=much is neither a number nor"),
        (("--at", "auc=0.9"), 1, "pass --at specificity=0.9 or --at sensitivity=0.9"),
    ],
)
def test_probe__refuses(cache: Path, options: tuple[str, ...], code: int, message: str) -> None:
    done = run("probe", cache, *RUN, *options)
    assert done.exit_code == code
    if code == 1:
        assert_refused(done, message)
    else:
        assert message in " ".join(done.stderr.replace("│", " ").split())
