"""The manifest of a study of several findings: chest X-rays of NIH ChestX-ray14, with uncertain cells.

    python examples/chest_xrays.py DATA/chest_xray_nih/manifest.csv --out nih.csv

The table that is read has the columns image, findings (`Effusion|Mass`, or `No Finding`), patient, age, sex and view.
The one that is written has a column for each finding: 1, 0, or -1 where it is uncertain. NIH's labels were read off
reports by a program. A report that names a pneumonia, and no opacity that would show it, leaves open which one the
reader saw. So there Consolidation and Infiltration are uncertain, not absent.

Source: Wang et al. 2017; Irvin et al. 2019 for -1.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

SIGNS = ("Consolidation", "Infiltration")
KEPT = ("patient", "age", "sex", "view")


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="the table with a column of findings")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write")
    arguments = parser.parse_args()
    with arguments.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [set(row["findings"].split("|")) - {"No Finding"} for row in rows]
    names = sorted(set().union(*found))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *KEPT, *names])
        for row, own in zip(rows, found, strict=True):
            image = (arguments.table.parent / row["image"]).resolve()
            writer.writerow([image, *(row[name] for name in KEPT), *(cell(name, own) for name in names)])
    n_uncertain = sum(cell(name, own) == -1 for own in found for name in SIGNS)
    print(f"{len(rows):,} images with {len(names)} findings in {arguments.out}; {n_uncertain:,} cells are uncertain")


def cell(name: str, found: set[str]) -> int:
    """1, 0 or -1 of one finding, given all that an image has."""
    if name in found:
        return 1
    return -1 if name in SIGNS and "Pneumonia" in found and not found & set(SIGNS) else 0


if __name__ == "__main__":
    main()
