"""Write what the tests of a run took, from pytest's JUnit file: `python tests/durations.py RESULTS.xml OUT.md`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

N_SLOWEST = 100


def main(results: Path, out: Path) -> None:
    """Write the totals per folder and the slowest tests, longest first."""
    found = [(_file(case), _name(case), float(case.get("time", 0))) for case in _cases(results)]
    folders: Counter[str] = Counter()
    for file, _, seconds in found:
        folders[str(Path(file).parent)] += seconds
    counts = Counter(str(Path(file).parent) for file, _, _ in found)
    total = sum(folders.values())
    lines = [
        "# What the tests take",
        "",
        "Written by `make durations`. Seconds of one worker, fixtures in the test that asks for them first.",
        f"{len(found):,} tests, {total:,.0f} s in all; each worker has its part of them.",
        "",
        "| folder | tests | seconds |",
        "|---|---:|---:|",
        *(f"| {folder} | {counts[folder]:,} | {seconds:.1f} |" for folder, seconds in folders.most_common()),
        "",
        f"The {N_SLOWEST} slowest tests:",
        "",
        "| seconds | test |",
        "|---:|---|",
        *(
            f"| {seconds:.1f} | {file}::{name.replace('|', chr(92) + '|')} |"
            for file, name, seconds in sorted(found, key=lambda each: -each[2])[:N_SLOWEST]
        ),
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cases(results: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(results).getroot().iter("testcase"))


def _file(case: ElementTree.Element) -> str:
    """A test's file: pytest gives it with dots, `tests.dvme.heads.test_knn`."""
    return str(case.get("classname")).replace(".", "/") + ".py"


def _name(case: ElementTree.Element) -> str:
    """Without the group that xdist puts behind it."""
    name = str(case.get("name"))
    return name if name.rfind("@") < name.rfind("]") else name.partition("@")[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
