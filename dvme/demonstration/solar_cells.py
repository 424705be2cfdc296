"""The photographs of `dvme demo` as a manifest that dvme reads.

2,624 electroluminescence images of solar cells, each rated for the likelihood of a defect: 0, 33, 67 or
100 per cent. From the package elpv-dataset (CC BY-NC-SA 4.0), which stays where pip put it.

Source: Buerhop-Lutz et al. 2018; Deitsch et al. 2019; Deitsch et al. 2021.
"""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

from dvme.errors import EnvironmentMismatchError, OptionError, parameter
from dvme.files import written_aside
from dvme.requirements import command_of

PHOTOGRAPHS = "elpv_dataset"
COLUMNS = ("image", "label", "cell_type")
KEPT = COLUMNS[-1]
"""Whether a cell is mono- or polycrystalline."""
DEFECT = {"0.0": "0%", "0.3333333333333333": "33%", "0.6666666666666666": "67%", "1.0": "100%"}
SEED = 0
ALL = "all"
FEWEST = 200
"""Of which the rarest class has enough for a test set and five folds."""

Cell = tuple[str, str, str]
"""As COLUMNS has them."""


def write_manifest(path: Path, cells: list[Cell]) -> None:
    """Write a table with a row for each cell."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(cells)


def some_cells(images: str) -> list[Cell]:
    """So many cells, or `all`, with the class shares of the whole.

    Raises:
        OptionError: if it is no such number.
        EnvironmentMismatchError: if the photographs are not installed.
    """
    cells = all_cells()
    most = len(cells) - len(DEFECT)
    if images == ALL or images == f"{len(cells)}":
        return cells
    if not images.isdecimal() or not FEWEST <= int(images) <= most:
        step = f"pass a number from {FEWEST} to {most:,}, or "
        raise OptionError(f"{images} images are not possible; " + step + parameter("images", ALL))
    return _stratified_sample(cells, int(images))


def all_cells() -> list[Cell]:
    """Every cell.

    Raises:
        EnvironmentMismatchError: if the photographs are not installed.
    """
    check_packages(PHOTOGRAPHS)
    package = importlib.util.find_spec(PHOTOGRAPHS)
    assert package is not None
    assert package.origin is not None
    data = Path(package.origin).parent / "data"
    lines = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
    return [(str(data / name), DEFECT[likelihood], kind) for name, likelihood, kind in lines]


def check_packages(*modules: str) -> None:
    """Refuse to go on without packages of the extra `demo`. Nothing is imported.

    Raises:
        EnvironmentMismatchError: with the command that brings them.
    """
    missing = [module.replace("_", "-") for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise EnvironmentMismatchError(f"the demo needs {', '.join(missing)}: {command_of('demo')}")


def _stratified_sample(cells: list[Cell], size: int) -> list[Cell]:
    """A seeded sample with the class shares of the whole."""
    from sklearn.model_selection import train_test_split

    sample, _ = train_test_split(cells, train_size=size, stratify=[label for _, label, _ in cells], random_state=SEED)
    return sorted(sample)
