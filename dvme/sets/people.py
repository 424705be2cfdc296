"""Ages and sexes as publishers write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from dvme.data.samples import MISSING
from dvme.text import counted, first_few

OLDEST = 120
"""Years; who is older is a slip of the pen."""
AGE = re.compile(r"0*(\d+)(?:\.0*)?\s*([YMWD]?)", re.IGNORECASE)
"""`57`, `57.0`, and DICOM's `057Y`, `011M`, `003W`, `010D`."""
PER_YEAR = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


def ages(cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """Whole years, "" for what is no age of a person; and a line on those, if any."""
    counts = Counter(cells)
    years = {cell: _years(cell) for cell in counts}
    odd = {cell: count for cell, count in counts.items() if cell and not years[cell]}
    line = f"{counted(sum(odd.values()), 'impossible age')} left empty: {first_few(map(repr, odd))}"
    return [years[cell] for cell in cells], [line] if odd else []


def sexes(cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """M and F, "" for anything else; and a line on what else there is, if anything."""
    odd = {cell: count for cell, count in Counter(cells).items() if cell.casefold() not in SEXES}
    line = f"{counted(sum(odd.values()), 'image')} of a patient of unknown sex: {first_few(map(repr, odd))}"
    return [SEXES.get(cell.casefold(), MISSING) for cell in cells], [line] if odd else []


def _years(cell: str) -> str:
    found = AGE.fullmatch(cell)
    age = int(found[1]) // PER_YEAR[found[2].upper()] if found else OLDEST + 1
    return f"{age}" if age <= OLDEST else MISSING
