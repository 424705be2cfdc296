"""What a study may have found of subgroups and patients, as plain values."""

from __future__ import annotations

from dvme.stats.intervals import Comparison, Interval
from dvme.study.by_subgroup import BySubgroup, Division, SubgroupGap, SubgroupScore
from dvme.study.per_unit import PerUnit, PerUnitScore, Side

NAN = float("nan")
NOTHING = Interval(NAN, NAN, NAN)


def some_subgroups(evil: str = "") -> BySubgroup:
    """A column with a gap, one whose largest gap is none, and one of which a subgroup is too small."""

    def score(name: str, value: float, n: int) -> SubgroupScore:
        return SubgroupScore(name + evil, n, n - 2, None, Interval(value, value - 0.05, value + 0.04), "")

    def gap(better: str, worse: str, value: float, p: float) -> SubgroupGap:
        interval = Interval(value, value - 0.1, value + 0.2)
        return SubgroupGap(better + evil, worse + evil, Comparison(interval, p, NAN, NAN), p)

    few = SubgroupScore("[60, 90]", 4, 3, None, NOTHING, "no finding that 3 patients have and 3 have not")
    single = SubgroupScore("F" + evil, 40, 38, 7, Interval(0.7, 0.6, 0.8), "")
    lone = "1 of 2 subgroups have a score; a gap is between two"
    return BySubgroup(
        method="a + linear",
        metric="auc",
        unit="group",
        divisions=(
            Division("sex", "", ("A", "B"), (score("F", 0.9, 40), score("M", 0.7, 60)), gap("F", "M", 0.2, 0.001), ""),
            Division("sex", "A", (), (single, single), gap("M", "F", 0.05, 0.4), ""),
            Division("sex", "B", (), (single, few), None, lone),
            Division("view", "", ("A",), (score("AP", 0.6, 50), score("PA", 0.61, 50)), gap("PA", "AP", 0.01, 0.9), ""),
            Division("age", "", ("A",), (score("[0, 60)", 0.8, 90), few), None, lone),
        ),
        remarks=(f"6 test images without age{evil}",),
    )


def some_patients(evil: str = "") -> PerUnit:
    """Two findings, of which one is too rare."""
    one, other = Side(80, None, Interval(0.8, 0.7, 0.9), ""), Side(100, None, Interval(0.75, 0.65, 0.85), "")
    few = Side(80, 2, NOTHING, "2 patients with it, 78 without; it takes 3")
    rows = (
        PerUnitScore("auc", "", other, one),
        PerUnitScore("auc", "A", Side(100, 30, other.score, ""), Side(80, 20, one.score, "")),
        PerUnitScore("auc", "B", few, few),
    )
    said = f"1 patient with conflicting labels (p7{evil}): left out of the finding in question"
    return PerUnit(
        "a + linear", "patient", "max", "drop", "patient", 100, 80, 15, ("A",), rows, {"A": [f"p7{evil}"]}, (said,)
    )
