from __future__ import annotations

from pathlib import Path

import pytest

import dvme
from dvme.errors import DataError, UnknownNameError
from dvme.report import learning_curve


def test_figures__take_the_folder_of_a_run_and_the_name_of_a_table(clear: Path, tmp_path: Path) -> None:
    report = dvme.report.read_summary(clear / "run")
    assert learning_curve(str(clear / "run")).to_json() == learning_curve(report).to_json()
    assert dvme.report.gains(clear / "run").to_json() == dvme.report.gains(report).to_json()
    with pytest.raises(UnknownNameError, match="'truong' is not a published table"):
        learning_curve(report, published="truong")
    with pytest.raises(DataError, match="is not a run"):
        learning_curve(tmp_path)
