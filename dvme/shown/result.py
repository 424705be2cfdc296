"""What all results have in common: how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dvme.shown import markup
from dvme.shown.table import Table, record_of, table_of
from dvme.text import counted

if TYPE_CHECKING:
    import pandas as pd

MOST_LINES = 12


class Shown:
    """A result that can be looked at: it inherits from this, and says `_lines` and `_records` of itself.

    A dataclass that does is made with `repr=False`, for its own `repr` would be pages.
    """

    def __repr__(self) -> str:
        lines = self._lines()
        n_more = len(lines) - MOST_LINES
        shown = lines if n_more <= 0 else [*lines[:MOST_LINES], f"and {counted(n_more, 'more line')}"]
        return "\n  ".join([f"{type(self).__name__}: {shown[0]}", *shown[1:]])

    def to_frame(self) -> pd.DataFrame:
        """A frame of pandas with a row for each thing that was counted; its columns are the fields of that."""
        import pandas as pd

        return pd.DataFrame(self._records())

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return markup.markdown(self._table())

    def to_latex(self, *, caption: str | None = None, label: str = "") -> str:
        r"""The table in LaTeX, for the package booktabs.

        Args:
            caption: other words than the usual ones; "": none.
            label: what `\ref` takes; "": none.
        """
        table = self._table()
        return markup.latex(table if caption is None else replace(table, caption=caption), label)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return markup.html(replace(self._table(), caption=""), self._lines())

    def _lines(self) -> list[str]:
        """What it says, in a few lines, the most important one first."""
        raise NotImplementedError

    def _records(self) -> list[dict[str, Any]]:
        """What it counted, one by one."""
        return [record_of(self)]

    def _table(self) -> Table:
        """The same as a table."""
        return table_of(self._records(), self._lines()[0])


def some_lines(lines: Sequence[str], at_most: int = 5) -> list[str]:
    """The first lines, and how many more there are."""
    n_more = len(lines) - at_most
    return [*lines[:at_most], *([f"and {n_more:,} more"] if n_more > 0 else [])]
