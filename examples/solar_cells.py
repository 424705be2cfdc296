"""The data of `make demo`: photographs of solar cells as a manifest that dvme reads.

2,624 electroluminescence images of solar cells, each rated for the likelihood of a defect: 0, 33, 67 or
100 per cent. From the package elpv-dataset (CC BY-NC-SA 4.0), which stays where pip put it.

Source: Buerhop-Lutz et al. 2018; Deitsch et al. 2019; Deitsch et al. 2021.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from pathlib import Path

DEFECT = {"0.0": "0%", "0.3333333333333333": "33%", "0.6666666666666666": "67%", "1.0": "100%"}
SEED = 0


def main() -> None:
    """Write the manifest of all images, or of a stratified sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="800", help="how many, or `all`")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write")
    arguments = parser.parse_args()
    rows = all_cells()
    if arguments.images != "all":
        if not arguments.images.isdigit() or not 0 < int(arguments.images) <= len(rows):
            parser.error(f"--images {arguments.images}: give a number from 1 to {len(rows)}, or `all`")
        rows = stratified_sample(rows, int(arguments.images))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "cell_type"])
        writer.writerows(rows)
    print(f"{len(rows):,} solar cells listed in {arguments.out}")


def all_cells() -> list[tuple[str, str, str]]:
    """(path, defect likelihood, mono- or polycrystalline) of every cell."""
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise SystemExit("the photographs are not installed; run: pip install 'dvme[demo]'")
    data = Path(package.origin).parent / "data"
    cells = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
    return [(str(data / name), DEFECT[likelihood], kind) for name, likelihood, kind in cells]


def stratified_sample(rows: list[tuple[str, str, str]], size: int) -> list[tuple[str, str, str]]:
    """A seeded sample with the class shares of the whole."""
    if size == len(rows):
        return rows
    from sklearn.model_selection import train_test_split

    sample, _ = train_test_split(rows, train_size=size, stratify=[row[1] for row in rows], random_state=SEED)
    return sorted(sample)


if __name__ == "__main__":
    main()
