"""A table in the languages of notebooks, of READMEs and of papers. Whatever comes in is text, and never markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from dvme.shown.table import Entry, Row, Table
from dvme.text import counted

MOST_ROWS = 30
"""Lines of a table in a notebook."""
NO_MATH = "tex2jax_ignore mathjax_ignore"
"""Classes of what a notebook does not read for formulas: a name may have dollars."""
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&])")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{letter: f"\\{letter}" for letter in "{}&%$#_"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "≠": r"$\neq$",
        "\u00d7": r"$\times$",
    }
)


def html(table: Table, lines: Sequence[str] = ()) -> str:
    """For a notebook: some lines, the first in bold, then the table, and its caption in small print.

    A long table is cut after MOST_ROWS rows.
    """
    said = "<br>".join(escape(line) if at else f"<b>{escape(line)}</b>" for at, line in enumerate(lines))
    parts = [f"<p>{said}</p>"] if lines else []
    if table.rows:
        headings = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in table.names)
        headings += "".join(f'<th style="text-align:right">{escape(name)}</th>' for name in table.numbers)
        body = "".join(map(_html_row, table.rows[:MOST_ROWS]))
        parts.append(f'<table class="dataframe"><thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table>')
    n_more = len(table.rows) - MOST_ROWS
    notes = [f"and {counted(n_more, 'more row')}, which to_frame() has"] if n_more > 0 else []
    notes += [table.caption] if table.rows and table.caption else []
    parts += [f"<p><small>{escape(note)}</small></p>" for note in notes]
    return f'<div class="{NO_MATH}">{"".join(parts)}</div>'


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown, its caption below it."""
    headings = [*map(_in_markdown, (*table.names, *table.numbers))]
    rule = [*["---"] * len(table.names), *["---:"] * len(table.numbers)]
    body = [[*map(_in_markdown, row.names), *map(_markdown_entry, row.entries)] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, rule, *body)]
    return "\n".join([*lines, *(["", _in_markdown(table.caption)] if table.caption else [])]) + "\n"


def latex(table: Table, label: str = "") -> str:
    r"""A floating table for LaTeX with the package booktabs; `label` is what `\ref` takes."""
    headings = " & ".join(map(_in_latex, (*table.names, *table.numbers)))
    body = [" & ".join([*map(_in_latex, row.names), *map(_latex_entry, row.entries)]) for row in table.rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            *([rf"\caption{{{_in_latex(table.caption)}}}"] if table.caption else []),
            *([rf"\label{{{label}}}"] if label else []),
            rf"\begin{{tabular}}{{{'l' * len(table.names)}{'r' * len(table.numbers)}}}",
            r"\toprule",
            rf"{_begun(headings)} \\",
            r"\midrule",
            *(rf"{_begun(line)} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _html_row(row: Row) -> str:
    names = "".join(f'<td style="text-align:left">{escape(name)}</td>' for name in row.names)
    return f"<tr>{names}{''.join(map(_html_entry, row.entries))}</tr>"


def _html_entry(entry: Entry) -> str:
    shown = f"<b>{escape(entry.text)}</b>" if entry.is_best else escape(entry.text)
    mark = f" {escape(entry.mark)}" if entry.mark else ""
    below = f"<br><small>{escape(entry.below)}</small>" if entry.below else ""
    return f'<td style="text-align:right">{shown}{mark}{below}</td>'


def _in_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _markdown_entry(entry: Entry) -> str:
    shown = _in_markdown(entry.text)
    mark = f" {_in_markdown(entry.mark)}" if entry.mark else ""
    return (f"**{shown}**" if entry.is_best else shown) + mark


def _in_latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


def _begun(line: str) -> str:
    """A row that does not begin with what the end of the row above, or its rule, would take for an argument."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _latex_entry(entry: Entry) -> str:
    shown = _in_latex(entry.text)
    mark = f"$^{{{_in_latex(entry.mark)}}}$" if entry.mark else ""
    return (rf"\textbf{{{shown}}}" if entry.is_best else shown) + mark
