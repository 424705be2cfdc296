"""Ages and sexes as publishers write them."""

from __future__ import annotations

import re
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
    years, odd = [], []
    for cell in cells:
        found = AGE.fullmatch(cell.strip())
        age = int(found[1]) // PER_YEAR[found[2].upper()] if found else OLDEST + 1
        years.append(f"{age}" if age <= OLDEST else MISSING)
        if cell.strip() and age > OLDEST:
            odd.append(cell)
    return years, [f"{counted(len(odd), 'impossible age')} left empty: {first_few(dict.fromkeys(odd))}"] if odd else []


def sexes(cells: Sequence[str]) -> tuple[list[str], list[str]]:
    """M and F, "" for anything else; and a line on what else there is, if anything."""
    found = [SEXES.get(cell.strip().casefold(), MISSING) for cell in cells]
    odd = [cell for cell, sex in zip(cells, found, strict=True) if not sex]
    said = first_few(repr(cell) for cell in dict.fromkeys(odd))
    return found, [f"{counted(len(odd), 'image')} of a patient of unknown sex ({said})"] if odd else []
