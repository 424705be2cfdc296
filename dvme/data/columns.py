"""Which columns of a table hold what; and its labels: one class for each image, or findings in one column or many."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from dvme.arguments import names as listed_names
from dvme.data.dicom.fields import FIELDS
from dvme.data.findings import from_columns, from_separated, is_one_finding, matching_columns
from dvme.data.mask_options import MaskOptions, mask_options
from dvme.data.samples import MASK, MISSING, NOTHING, STANDARD
from dvme.data.tables import Table, clean_name, find_column
from dvme.defaults import NA_VALUES, NO_FINDING
from dvme.errors import DataError, OptionError, parameter
from dvme.text import CHOICES, EXAMPLES, counted, first_few

COLUMN = {
    "image": parameter("image"),
    "label": parameter("label"),
    "split": parameter("split"),
    "group": parameter("group"),
    "keep": parameter("keep"),
    "mask": parameter("mask"),
}
"""Fields of Columns, as messages name them."""
LONGEST_NAME = 200
"""Of a folder, in which whatever is no letter or digit takes three characters."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a manifest's columns. None means: the default name, if there is such a column.

    Example:
        >>> dvme.Columns(image="file", label="grade", keep="age,sex").keep
        ('age', 'sex')
    """

    image: str | None = None
    """Paths, absolute or relative to the manifest's folder; default `image`."""
    label: str | Sequence[str] | None = None
    """Class names; default `label`. Several columns are findings, of which an image may have any number: 1 has it, 0
    has it not, -1 is uncertain, nothing is unknown. A single one is a finding where it is named here and has -1 beside
    0 and 1. A text may name several between commas, or be a pattern."""
    split: str | None = None
    """train, val or test; default `split`."""
    group: str | None = None
    """Patients; default `group`."""
    label_separator: str | None = None
    """What stands between the findings of a cell; None: a cell is one class."""
    no_finding: str = NO_FINDING
    """What a table calls an image without any finding."""
    keep: str | Sequence[str] = ()
    """Further columns to keep beside these, under the names that are given here: sex, view, age. A text may name
    several between commas."""
    mask: str | Sequence[str] = ()
    """Segmentation masks: a file, a folder or a pattern of files, several of these between bars, or runs of pixels,
    START LENGTH START LENGTH; nothing is unknown, -1 a mask without any pixel of the class. Several columns are
    structures that may overlap, each called as its column."""
    mask_classes: str | Mapping[int | str, str] | None = None
    """What values of pixels mean: "0=background,128=lung,255=heart"; "*" is any other value. None: one class, called as
    the column, of masks of two values, else a class of each value."""
    mask_void: str | int | Sequence[int] = ()
    """Values that count for nothing."""
    mask_encoding: str | None = None
    """`rle`: the column has runs, numbered from 1 on, column by column; `siim`: each START counts from the end of the
    run before. None: files, or runs as of `rle`."""
    dicom: str | Sequence[str] = ()
    """What to keep of the headers of DICOM files, whatever source lists them: names of `dvme.data.dicom.fields.FIELDS`,
    such as view, sex, age."""
    plain_ids: bool = False
    """Keep ids of patients, studies and series as headers have them, not their pseudonyms."""
    frame: str | None = None
    """`each`: every frame of a DICOM file with several is an image. None: the file is one."""
    na_values: str | Sequence[str] = NA_VALUES
    """What cells without a value say, beside nothing at all, in this spelling. A text may name several between commas;
    "" is none, so that NA is a class. In findings NA, nan and the like are unknown whatever is named here."""

    def __post_init__(self) -> None:
        """Take the names of further columns apart.

        Raises:
            ArgumentError: if they are none.
            OptionError: if headers do not tell such a thing, or frames are chosen here.
        """
        for field in ("keep", "dicom", "mask"):
            given = getattr(self, field)
            given = _between_commas(given) if isinstance(given, str) else given
            object.__setattr__(self, field, listed_names(given, field))
        unknown = [name for name in self.dicom if name not in FIELDS]
        if unknown:
            message = f" names what headers do not tell: {first_few(unknown)}; choose among {', '.join(FIELDS)}"
            raise OptionError(parameter("dicom") + message)
        if self.frame not in {None, "each"}:
            step = "; choose each, or name one frame in the name of a backbone, as in dino@frame=middle"
            raise OptionError(parameter("frame", self.frame) + " is not possible" + step)
        if self.masks.columns and self.frame:
            step = "; leave out " + COLUMN["mask"] + ", or " + parameter("frame")
            step += ": then one frame of each file is read, the first or as in dino@frame=middle, and the mask is of it"
            raise OptionError(parameter("frame", self.frame) + " makes rows that have no mask" + step)
        words = _between_commas(self.na_values) if isinstance(self.na_values, str) else self.na_values
        object.__setattr__(self, "na_values", tuple(word.strip() for word in words))

    @property
    def masks(self) -> MaskOptions:
        """How masks are read; refuses as `mask_options` does."""
        return mask_options(tuple(self.mask), self.mask_classes, self.mask_void, self.mask_encoding)

    def with_classes(self, names: Sequence[str] | None) -> Columns:
        """The same, where none of these names is a missing value."""
        return replace(self, na_values=[word for word in self.na_values if word not in (names or ())])


@dataclass(frozen=True)
class Labels:
    """What a table says of N images."""

    texts: list[str]
    """(N,) classes, or findings as `dvme.data.findings` writes them; "" is no label."""
    columns: tuple[str, ...]
    """Of the table, that were read."""
    findings: tuple[str, ...] = ()
    """In the order of their columns."""
    remarks: tuple[str, ...] = ()
    """What was read as what, a line each."""


def chosen_column(table: Table, given: str | None, default: str) -> str | None:
    """The column to use: the one asked for, which must exist, else the default, if it exists.

    Raises:
        DataError: if it does not exist, or more than one differs from it in capitals and blanks alone.
    """
    option = COLUMN[default]
    found = find_column(
        table.names, default if given is None else clean_name(given), table.source, "name one with " + option
    )
    if found is None and given is not None:
        columns = first_few(table.names, CHOICES)
        raise DataError(f"{table.source} has no column {given!r}; it has: {columns}; choose one with " + option)
    return found


def read_labels(table: Table, columns: Columns) -> Labels | None:
    """The labels; None where none are named and there is no column `label`.

    Raises:
        DataError: if a column is not there, or a cell cannot be read.
        OptionError: if several columns and a separator are given.
    """
    names, separator, source = _label_columns(table, columns.label), columns.label_separator, f"{table.source}"
    if not names:
        return None
    no_finding = [name for name in names if name.casefold() == columns.no_finding.casefold()]
    if len(names) == 1:
        texts = _finding_texts(table, names[0], columns)
        if separator is None and (columns.label is None or no_finding or not is_one_finding(texts)):
            texts, remarks = known_texts(table, names[0], columns)
            return Labels(texts, names, (), remarks)
        if separator is None:
            found = from_columns({names[0]: texts}, columns.no_finding, source)
            said = f"column {names[0]!r} has cells of -1, and is read as one finding: 1 has it, 0 has it not, -1 is "
            return Labels(found.texts, names, found.names, (said + "uncertain, an empty cell is unknown",))
        found = from_separated(texts, separator, columns.no_finding, source)
        return Labels(found.texts, names, (), found.remarks)
    if separator is not None:
        raise OptionError(
            f"a separator is for findings in one column, and {len(names)} are named; leave out "
            + parameter("label_separator", separator)
        )
    found = from_columns({name: _finding_texts(table, name, columns) for name in names}, columns.no_finding, source)
    clear = tuple(
        f"column {name!r} is no finding: 1 in it says that the image has none (" + parameter("no_finding", name) + ")"
        for name in no_finding
    )
    return Labels(found.texts, names, found.names, clear + found.remarks)


def _finding_texts(table: Table, column: str, columns: Columns) -> list[str]:
    """The cells of a column of findings; what programs write where there is no value is left to those who read them."""
    words = {word for word in columns.na_values if word.casefold() not in NOTHING}
    return [MISSING if text in words else text for text in table.texts(column)] if words else table.texts(column)


def known_texts(table: Table, column: str, columns: Columns) -> tuple[list[str], tuple[str, ...]]:
    """The cells of a column, "" where one says that it has no value; and a line that counts these.

    Raises:
        DataError: if the cells are no text.
    """
    texts, words = table.texts(column), frozenset(columns.na_values)
    found = Counter(text for text in texts if text in words)
    if not found:
        return texts, ()
    shown = " and ".join(f"{word!r} ({counted(count, 'row')})" for word, count in found.most_common(EXAMPLES))
    step = parameter("na_values", "")
    line = f"column {column!r}: {shown} counts as a cell without a value; where it is a name, pass " + step
    return [MISSING if text in words else text for text in texts], (line,)


def kept_columns(table: Table, columns: Columns) -> dict[str, str]:
    """Each further column under the name that it is kept by, by the column of the table that holds it.

    Raises:
        DataError: if there is no such column, it has an option of its own, or no cache can keep the name.
    """
    given = list(columns.keep)
    reserved = [name for name in given if name in {*STANDARD, MASK, "path"}]
    if reserved:
        meaning = "path is where dvme extract found the image" if "path" in reserved else "it has an option of its own"
        step = f" is not possible ({meaning}); leave it out, or rename the column in the manifest"
        raise DataError(parameter("keep", reserved[:1]) + step)
    found = {name: find_column(table.names, clean_name(name), table.source) for name in given}
    missing = [name for name, column in found.items() if column is None]
    if missing:
        held = first_few(table.names, CHOICES)
        message = f"{table.source} has no column {first_few(map(repr, missing))}; it has: {held}; choose one with "
        raise DataError(message + parameter("keep"))
    check_names(given, source=parameter("keep"))
    return {name: column for name, column in found.items() if column is not None}


def check_names(names: Sequence[str], *, source: str, what: str = "columns") -> None:
    """Refuse names of columns or backbones that could not be told apart, or not be kept on disk.

    Raises:
        DataError: naming the first few.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(source + f" gives some {what} twice: {first_few(repeated)}; name each once")
    bad = [name for name in names if not _is_possible(name)]
    if bad:
        message = source + f" has {what} with a name that no cache can keep: {first_few(map(repr, bad))}"
        raise DataError(f"{message}; use one to {LONGEST_NAME} letters and digits")


def _is_possible(name: str) -> bool:
    return bool(name.strip()) and "\0" not in name and len(quote(name, safe="")) <= LONGEST_NAME


def _between_commas(text: str) -> list[str]:
    """What a text names; a name that has a comma stands in double quotes."""
    return next(csv.reader([text], skipinitialspace=True), [])


def _label_columns(table: Table, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names as the table has them; none where none is given and the default is not there."""
    if given is None or (isinstance(given, str) and find_column(table.names, clean_name(given), table.source)):
        name = chosen_column(table, given, "label")  # also one with a comma in its name
        return () if name is None else (name,)
    several = _between_commas(given) if isinstance(given, str) else list(given)
    wanted = matching_columns([clean_name(name) for name in several], table.names)
    return tuple(dict.fromkeys(name for each in wanted if (name := chosen_column(table, each, "label")) is not None))
