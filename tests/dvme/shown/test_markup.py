"""What is written is read back by other programs: HTML by Python's parser, Markdown by markdown-it."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt

from dvme.shown.markup import MOST_ROWS, html, latex, markdown
from dvme.shown.table import Entry, Row, Table

NAMES = ("<script>alert('a')</script>", "a|b*c_d`e`[f](g) $x$ ~h~ \\i <b>j</b>", "k\nl & \"m\" 'n'")
TABLE = Table(
    ("backbone", "head"),
    ("50", "full (384)"),
    (
        Row(("dino@size=448", "knn@k=5:20"), (Entry("0.701 ± 0.020", "="), Entry("0.815 ± 0.012", "*", True))),
        Row(("a_b & 50%", "linear"), (Entry("0.650", "", True, "0.600 to 0.700"), Entry("not defined"))),
    ),
    "Test AUC of #1_x: 5% {or} less.",
)


class _Cells(HTMLParser):
    """The texts of all cells, those in bold among them, and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.bold: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the parser's
        self.tags.append(tag)
        if tag != "br":
            self._open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & {*self._open}:
            self.cells[-1] += data
        if {"b", "strong"} & {*self._open}:
            self.bold.append(data)


def _read(text: str) -> _Cells:
    found = _Cells()
    found.feed(text)
    found.close()
    return found


def _named(names: tuple[str, ...]) -> Table:
    return Table(("name",), ("n",), tuple(Row((name,), (Entry("1"),)) for name in names))


def test_html__cells_bold_and_small_print() -> None:
    found = _read(html(TABLE, ["first & foremost", "then"]))
    assert found.cells == [
        *("backbone", "head", "50", "full (384)"),
        *("dino@size=448", "knn@k=5:20", "0.701 ± 0.020 =", "0.815 ± 0.012 *"),
        *("a_b & 50%", "linear", "0.6500.600 to 0.700", "not defined"),  # a break stands between the two
    ]
    assert found.bold == ["first & foremost", "0.815 ± 0.012", "0.650"]
    assert found.tags.count("small") == 2  # the interval, and the caption


def test_html__names_are_text() -> None:
    found = _read(html(_named(NAMES), list(NAMES)))
    assert found.cells[2::2] == list(NAMES)
    assert {*found.tags} <= {"div", "p", "b", "br", "table", "thead", "tbody", "tr", "th", "td"}


def test_html__a_long_table_is_cut() -> None:
    text = html(_named(tuple(f"row {index}" for index in range(MOST_ROWS + 2))))
    assert len(_read(text).cells) == 2 * (MOST_ROWS + 1)
    assert "and 2 more rows, which to_frame() has" in text


def test_markdown__another_parser_reads_the_cells() -> None:
    found = _read(MarkdownIt("commonmark").enable("table").render(markdown(TABLE)))
    assert found.cells[4:] == [
        *("dino@size=448", "knn@k=5:20", "0.701 ± 0.020 =", "0.815 ± 0.012 *"),
        *("a_b & 50%", "linear", "0.650", "not defined"),
    ]
    assert found.bold == ["0.815 ± 0.012", "0.650"]


def test_markdown__names_are_text() -> None:
    found = _read(MarkdownIt("commonmark").enable("table").render(markdown(_named(NAMES))))
    assert found.cells[2::2] == [" ".join(name.split()) for name in NAMES]
    assert {*found.tags} <= {"table", "thead", "tbody", "tr", "th", "td"}


def test_markdown__by_hand() -> None:
    table = Table(("name",), ("n",), (Row(("a_b",), (Entry("1", "*", True),)),), "What it is.")
    assert markdown(table) == "| name | n |\n| --- | ---: |\n| a\\_b | **1** \\* |\n\nWhat it is.\n"


def test_latex__by_hand() -> None:
    assert latex(TABLE, "tab:auc") == (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}[t]\n"
        "\\centering\n"
        "\\caption{Test AUC of \\#1\\_x: 5\\% \\{or\\} less.}\n"
        "\\label{tab:auc}\n"
        "\\begin{tabular}{llrr}\n"
        "\\toprule\n"
        "backbone & head & 50 & full (384) \\\\\n"
        "\\midrule\n"
        "dino@size=448 & knn@k=5:20 & 0.701 $\\pm$ 0.020$^{=}$ & \\textbf{0.815 $\\pm$ 0.012}$^{*}$ \\\\\n"
        "a\\_b \\& 50\\% & linear & \\textbf{0.650} & not defined \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_latex__every_special_letter() -> None:
    text = latex(_named(("\\ { } & % $ # _ ~ ^ < > |",)))
    assert (
        "\\textbackslash{} \\{ \\} \\& \\% \\$ \\# \\_ \\textasciitilde{} \\textasciicircum{} "
        "\\textless{} \\textgreater{} \\textbar{} & 1 \\\\\n"
    ) in text
    assert "caption" not in text
    assert "label" not in text


def test_latex__a_row_begins_with_no_argument() -> None:
    r"""`\\ [0, 40)` and `\midrule [0, 40)` would be lengths, and `\\ *` another end of a line."""
    text = latex(_named(("[0, 40)", "*best*", "a [b]")))
    assert "\\midrule\n{}[0, 40) & 1 \\\\\n{}*best* & 1 \\\\\na [b] & 1 \\\\\n\\bottomrule" in text
