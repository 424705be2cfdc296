from __future__ import annotations

from pathlib import Path

import pytest

import dvme
from dvme.errors import DataError, OptionError, UnknownNameError
from dvme.report import learning_curve
from dvme.study.published import published_cells


def test_figures__take_the_folder_of_a_run_and_the_name_of_a_table(clear: Path, tmp_path: Path) -> None:
    report = dvme.report.read_summary(clear / "run")
    assert learning_curve(str(clear / "run")).to_json() == learning_curve(report).to_json()
    assert dvme.report.gains(clear / "run").to_json() == dvme.report.gains(report).to_json()
    cells = published_cells("truong2021:aptos")
    by_name = learning_curve(report, published="truong2021:aptos", metric="kappa")
    assert by_name.to_json() == learning_curve(report, published=cells, metric="kappa").to_json()
    told = [trace for trace in by_name.data if str(trace.name).startswith("published: ")]
    assert sum(len(trace.y) for trace in told) == len(cells)
    with pytest.raises(OptionError, match="published as kappa, the figure shows auc; pass metric="):
        learning_curve(report, published="truong2021:aptos")
    with pytest.raises(UnknownNameError, match="'truong' is not a published table"):
        learning_curve(report, published="truong")
    with pytest.raises(DataError, match="is not a run"):
        learning_curve(tmp_path)
