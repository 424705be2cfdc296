from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme
from dvme.errors import OptionError
from dvme.report.finding_columns import NO_NUMBERS, check_finding, finding_columns
from dvme.report.page_maps import colours

LABELS = np.array(["|Mass|", "|Edema|Mass=?|", "", "|", "|Mass|Edema=|", "|Mass=0.5|"], dtype=object)


def test_finding_columns__by_hand() -> None:
    found = {name: column.tolist() for name, column in finding_columns(LABELS).items()}
    assert found == {
        "Mass": ["yes", "uncertain", "", "no", "yes", "uncertain"],
        "Edema": ["no", "yes", "", "no", "", "no"],
        "label": ["Mass", "Edema", "", "No Finding", "Mass", "No Finding"],
    }
    assert list(found) == ["Mass", "Edema", "label"]  # the most frequent colours first
    assert list(finding_columns(LABELS, "Edema")) == ["Edema", "Mass", "label"]


@pytest.mark.parametrize(("labels", "step"), [(LABELS, "choose from Edema, Mass"), (np.array(["a", "b"]), "one class")])
def test_check_finding__one_that_is_not_there(labels: Any, step: str) -> None:
    with pytest.raises(OptionError, match=f"'Hernia'.*{step}"):
        check_finding("Hernia", labels)


def test_colours__of_a_figure() -> None:
    assert colours(LABELS, "Edema").tolist() == ["Edema: no", "Edema: yes", "", "Edema: no", "", "Edema: no"]
    assert colours(np.array(["a", "b"]), None).tolist() == ["a", "b"]


def _columns(page: Path) -> list[str]:
    return re.findall(r"<option>([^<]*)</option>", page.read_text(encoding="utf-8"))


def test_viz__offers_every_finding_to_colour_by(several: Path, tmp_path: Path) -> None:
    options = dvme.PageOptions(methods=["pca"], thumbnails=False, finding="Mass")
    report = dvme.viz(several / "c.zarr", out=tmp_path / "v.html", options=options)
    assert _columns(tmp_path / "v.html")[:4] == ["Mass", "Edema", "Effusion", "label"]
    assert report.notices == [NO_NUMBERS]
    assert all(np.isnan(each.knn_accuracy) and np.isnan(each.silhouette) for each in report.maps["pca"].values())
    with pytest.raises(OptionError, match="Hernia"):
        dvme.viz(
            several / "c.zarr", out=tmp_path / "w.html", options=dvme.PageOptions(methods=["pca"], finding="Hernia")
        )


def test_report__offers_findings_and_their_probabilities(several: Path, tmp_path: Path) -> None:
    options = dvme.PageOptions(methods=["pca"], thumbnails=False)
    dvme.write_report(several / "run", out=tmp_path / "r.html", options=options)
    offered = _columns(tmp_path / "r.html")
    assert {"Edema", "Effusion", "Mass", "p(Edema)", "p(Mass)", "prediction", "error"} <= set(offered)
    assert "wrong about" in (tmp_path / "r.html").read_text(encoding="utf-8")
