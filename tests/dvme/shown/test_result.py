"""How results look, and that none of them is pages long."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any

import pandas as pd
import pytest

from dvme.shown.result import MOST_LINES, Shown, some_lines

RESULTS = {
    "dvme.adaptation.adapt": ("AdaptReport",),
    "dvme.data.samples": ("Samples",),
    "dvme.dataset.rows": ("Rows",),
    "dvme.explanation.explain": ("ExplainReport",),
    "dvme.extraction.extract": ("ExtractReport",),
    "dvme.extraction.plan": ("ExtractPlan",),
    "dvme.heads.saved_head": ("SavedHead",),
    "dvme.prediction.predict": ("PredictReport",),
    "dvme.report.result": ("ReportResult",),
    "dvme.report.viz": ("VizReport",),
    "dvme.sets.building": ("BuiltManifest",),
    "dvme.sets.catalogue": ("PublicSet",),
    "dvme.study.comparison": ("CompareReport",),
    "dvme.study.design.manifest": ("SubsetManifest",),
    "dvme.study.design.subsets": ("SubsetReport",),
    "dvme.study.outcome": ("StudyReport",),
    "dvme.study.run": ("Run",),
    "dvme.upkeep.export": ("ExportReport",),
    "dvme.upkeep.imported": ("ImportReport",),
    "dvme.upkeep.info": ("CacheSummary",),
    "dvme.upkeep.label": ("LabelReport",),
    "dvme.upkeep.prune": ("PruneReport",),
    "dvme.upkeep.verify": ("RepairReport", "VerifyReport"),
}


@dataclass(frozen=True, repr=False)
class Counted(Shown):
    counts: dict[str, int]

    def _lines(self) -> list[str]:
        return [f"{len(self.counts)} counted <here>", *self.counts]

    def _records(self) -> list[dict[str, Any]]:
        return [{"name": name, "n": n} for name, n in self.counts.items()]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in RESULTS.items() for name in names])
def test_results__show_themselves(module: str, name: str) -> None:
    """A dataclass makes its own repr unless it is told not to."""
    kind = getattr(import_module(module), name)
    assert is_dataclass(kind)
    assert issubclass(kind, Shown)
    assert kind.__repr__ is Shown.__repr__


def test_repr__a_few_lines() -> None:
    assert repr(Counted({"a": 1})) == "Counted: 1 counted <here>\n  a"
    long = repr(Counted({f"{index}": index for index in range(40)})).splitlines()
    assert len(long) == MOST_LINES + 1
    assert long[-1] == f"  and {41 - MOST_LINES} more lines"


def test_forms__are_of_the_same_records() -> None:
    counted = Counted({"a": 1, "b": 2000})
    pd.testing.assert_frame_equal(counted.to_frame(), pd.DataFrame({"name": ["a", "b"], "n": [1, 2000]}))
    assert "| b | 2,000 |" in counted.to_markdown()
    assert "\\caption{2 counted \\textless{}here\\textgreater{}}" in counted.to_latex()
    assert "\\caption{Other words}\n\\label{t}" in counted.to_latex(caption="Other words", label="t")
    assert "caption" not in counted.to_latex(caption="")
    shown = counted._repr_html_()
    assert "<b>2 counted &lt;here&gt;</b><br>a<br>b" in shown
    assert shown.count("<tr>") == 3


def test_some_lines__says_how_many_more() -> None:
    assert some_lines(["a", "b"], 2) == ["a", "b"]
    assert some_lines(["a", "b", "c"], 2) == ["a", "b", "and 1 more"]
