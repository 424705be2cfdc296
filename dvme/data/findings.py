"""Several findings per image, and what is known of each, as one label: `|Effusion|Edema=?|Mass=|Nodule=0.7|`.

A finding that is named is there, and one that is not named is absent. `=?`: a reader was uncertain. `=`: nobody knows.
A number: this part of the readers saw it. `|` is an image without any finding. A label that begins with no bar is the
one class of its image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from dvme.data.natural import natural_key
from dvme.data.samples import MISSING, NOTHING
from dvme.data.uncertainty import UNCERTAIN_VALUE
from dvme.defaults import NO_FINDING
from dvme.errors import DataError, OptionError, parameter
from dvme.text import EXAMPLES, counted, first_few, some_of

BETWEEN, OF = "|", "="
UNCERTAIN = "?"
CELLS: Mapping[str, float] = {
    **dict.fromkeys(("1", "yes", "true", "y", "t", "positive"), 1.0),
    **dict.fromkeys(("0", "no", "false", "n", "f", "negative"), 0.0),
    **dict.fromkeys(("-1", "?", "u", "uncertain"), UNCERTAIN_VALUE),
    **dict.fromkeys((MISSING, *NOTHING), math.nan),
}
"""What is written in a column of one finding."""


@dataclass(frozen=True)
class Findings:
    """The labels of N images that may have several."""

    texts: list[str]
    """(N,) see above; "" for an image of which nothing is known."""
    names: tuple[str, ...]
    """L findings: columns in their order, others in natural order."""
    remarks: tuple[str, ...] = ()
    """What was read as what, a line each."""


def from_separated(cells: Sequence[str], separator: str, no_finding: str = NO_FINDING, source: str = "") -> Findings:
    """Findings that stand in one cell, such as `Effusion;Mass`.

    Args:
        cells: (N,) texts; one that is empty, or says nan, None and the like, has no label.
        separator: what stands between the findings.
        no_finding: what a cell without any says.
        source: for messages.

    Raises:
        DataError: if a finding has a sign in its name that stands between findings here.
        OptionError: if the separator is empty.
    """
    if not separator.strip():
        raise OptionError("the label separator is empty; pass for example " + parameter("label_separator", "|"))
    texts, counts, empty, n_both = [], Counter[str](), Counter[str](), 0
    for cell in cells:
        if cell.strip().casefold() in NOTHING - {no_finding.casefold()}:
            empty[cell.strip()] += 1
            texts.append(MISSING)
            continue
        every = dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip())
        own = [name for name in every if name.casefold() != no_finding.casefold()]
        n_both += bool(own) and len(own) < len(every)
        counts.update(own)
        texts.append(joined(own) if cell.strip() else MISSING)
    _check_names(counts, source)
    names = tuple(sorted(counts, key=natural_key))
    shown = some_of([repr(cell) for cell in sorted(empty)])
    without = (f"{counted(empty.total(), 'image')} without a label, for the cell says {shown}",) if empty else ()
    return Findings(texts, names, _remarks(n_both, no_finding) + without)


def from_columns(columns: Mapping[str, Sequence[str]], no_finding: str = NO_FINDING, source: str = "") -> Findings:
    """Findings with a column each, of 1, 0, -1 (uncertain), a part of the readers, or nothing (unknown).

    Args:
        columns: name to (N,) cells. That of `no_finding` is no finding: where it is 1, empty cells beside it are 0.
        no_finding: its name.
        source: for messages.

    Raises:
        DataError: naming the column and the row of a cell that is none of these.
    """
    read = {name: _cells(name, cells, source) for name, cells in columns.items()}
    nothing = next((read.pop(name) for name in list(read) if name.casefold() == no_finding.casefold()), None)
    if not read:
        raise DataError(f"{source}: {no_finding!r} is no finding; name the columns of findings too")
    _check_names(read, source)
    values = np.stack(list(read.values()), axis=1)
    n_both = 0
    if nothing is not None:
        is_clear = nothing == 1.0
        n_both = int((is_clear & (values > 0.0).any(axis=1)).sum())
        values[is_clear] = np.where(np.isnan(values[is_clear]), 0.0, values[is_clear])
    names = tuple(read)
    return Findings([_text(names, row) for row in values], names, _remarks(n_both, no_finding))


def is_one_finding(cells: Iterable[str]) -> bool:
    """Whether a column has -1, which no class is called, and nothing but 1, 0 and empty cells beside it."""
    said = {cell.strip().casefold() for cell in cells}
    try:
        values = {float(cell) for cell in said if not math.isnan(CELLS.get(cell, 0.0))}
    except ValueError:
        return False
    return UNCERTAIN_VALUE in values and values <= {UNCERTAIN_VALUE, 0.0, 1.0}


def matching_columns(wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """The columns that names or patterns such as `finding_*` mean, each once; a name that is none stays as it is."""
    found: list[str] = []
    for name in wanted:
        own = [column for column in there if fnmatchcase(column, name)] if set("*?[") & set(name) else []
        found += own or [name]
    return list(dict.fromkeys(found))


def parsed(texts: Iterable[str], names: Sequence[str]) -> NDArray[np.float32]:
    """(N, L) of (N,) labels: 1, 0, a part of the readers, UNCERTAIN_VALUE, or nan where nobody knows.

    Raises:
        KeyError: if a finding is none of the names.
    """
    place = {name: position for position, name in enumerate(names)}
    rows = list(texts)
    values = np.zeros((len(rows), len(names)), dtype=np.float32)
    for own, text in zip(values, rows, strict=True):
        for part in _parts(text):
            name, _, said = part.partition(OF)
            own[place[name]] = 1.0 if part == name else _value(said)
    return values


def are_findings(labels: Iterable[str]) -> bool:
    """Whether these labels, "" for none, are those of images that may have several.

    Raises:
        DataError: if some are, and others are the one class of their image.
    """
    distinct = set(labels) - {MISSING}
    plain = {label for label in distinct if not label.startswith(BETWEEN)}
    if plain and len(plain) < len(distinct):
        raise DataError(
            f"some images may have several findings, others have one class ({first_few(map(repr, sorted(plain)))}); "
            "label all of them in one way with dvme cache label"
        )
    return bool(distinct) and not plain


def tells_findings(labels: Iterable[str]) -> bool:
    """Whether any of these labels is that of an image that may have several."""
    return any(label.startswith(BETWEEN) for label in labels)


def names_in(labels: Iterable[str]) -> set[str]:
    """Every finding that these labels name, or every class, where they are plain; "" is no label."""
    distinct = set(labels) - {MISSING}
    return {
        name
        for label in distinct
        for name in ([part.partition(OF)[0] for part in _parts(label)] if label.startswith(BETWEEN) else [label])
    }


def finding_names(labels: Iterable[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """Findings in their order: all that are given, then those that occur besides, in natural order."""
    return (*given, *sorted(names_in(labels) - set(given), key=natural_key))


def parts_of(label: str) -> list[str] | None:
    """What a label writes of each finding that it names; None of a label that tells no findings."""
    return _parts(label) if label.startswith(BETWEEN) else None


def joined(parts: Sequence[str]) -> str:
    """The label that writes this of findings: the reverse of `parts_of`."""
    return BETWEEN + "".join(part + BETWEEN for part in parts)


def _parts(label: str) -> list[str]:
    return [part for part in label.split(BETWEEN) if part]


def _value(said: str) -> float:
    return math.nan if not said else UNCERTAIN_VALUE if said == UNCERTAIN else float(said)


def _text(names: Sequence[str], row: NDArray[np.float64]) -> str:
    if np.isnan(row).all():
        return MISSING
    parts = [
        name if value == 1.0 else f"{name}{OF}{_said(value)}" for name, value in zip(names, row, strict=True) if value
    ]
    return joined(parts)


def _said(value: float) -> str:
    return MISSING if math.isnan(value) else UNCERTAIN if value == UNCERTAIN_VALUE else f"{value:g}"


def _cells(name: str, cells: Sequence[str], source: str) -> NDArray[np.float64]:
    known: dict[str, float] = {}
    for row, cell in enumerate(cells, start=1):
        if cell not in known:
            known[cell] = _cell(name, row, cell, source)
    return np.array([known[cell] for cell in cells])


def _cell(name: str, row: int, cell: str, source: str) -> float:
    said = cell.strip().casefold()
    if said in CELLS:
        return CELLS[said]
    try:
        value = float(said)
    except ValueError:
        value = math.inf
    if value == UNCERTAIN_VALUE or 0.0 <= value <= 1.0:
        return value
    raise DataError(
        f"column {name!r} of {source} has {cell!r} in row {row}; a finding is 1, 0, -1 (uncertain), a part such as "
        "0.67, or empty (unknown)"
    )


def _check_names(names: Iterable[str], source: str) -> None:
    odd = [name for name in names if not name or {BETWEEN, OF} & set(name)]
    if odd:
        raise DataError(
            f"{source}: a finding cannot be called {first_few(map(repr, odd), EXAMPLES)}, for {BETWEEN} and {OF} stand "
            "between findings in a cache; rename it, or name another separator with " + parameter("label_separator")
        )


def _remarks(n_both: int, no_finding: str) -> tuple[str, ...]:
    if not n_both:
        return ()
    return (f"{counted(n_both, 'image')} with {no_finding!r} and a finding: the finding counts",)
