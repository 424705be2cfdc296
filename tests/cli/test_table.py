"""Tables in terminals of every width: no line is longer, and nothing that matters is cut."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from dvme_cli.table import NARROW, Table, folded

LONG = "timm:vit_small_patch16_224.dino@size=160@pool=class-and-mean"
CHINESE = "不良品の写真を見る埋め込み"
METHODS = (
    (LONG, "linear"),
    ("efficientnet-lite0", "knn"),
    ("3 together", "dvme@max-epochs=100@learning-rate=0.001"),
    (CHINESE, "mean-logits"),
)
MARKS = "*=+? "


def study(*, n_sizes: int) -> tuple[Table, list[list[str]]]:
    """A sweep's table, and its scores row by row."""
    sizes = [f"{10 * 2**index}" for index in range(n_sizes)]
    table = Table(columns=("backbone", "head", *sizes), keys=2, numeric=n_sizes, padding=NARROW)
    scores = [
        [f"0.{row}{column:02} ± 0.031 {MARKS[(row + column) % 5]}" for column in range(n_sizes)] for row in range(4)
    ]
    for method, cells in zip(METHODS, scores, strict=True):
        table.add_row(*method, *(Text(cell) for cell in cells))
    return table, scores


def shown(table: Table, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    table.show(Console(file=stream, width=width, highlight=False))
    stream.seek(0)
    return stream.read()


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def column_of(lines: list[str], start: int, stop: int) -> str:
    """What stands between two columns of a terminal, without blanks; wide characters take two."""
    found = ""
    for line in lines:
        at = 0
        for character in line:
            found += character if start <= at < stop else ""
            at += cell_len(character)
    return squeezed(found)


@pytest.mark.parametrize("width", [40, 50, 60, 79, 80, 100, 120, 200])
@pytest.mark.parametrize("n_sizes", [1, 3, 5, 9])
def test_sweep__every_method_score_and_mark_in_every_width(width: int, n_sizes: int) -> None:
    table, scores = study(n_sizes=n_sizes)
    said = shown(table, width)
    assert max(cell_len(line) for line in said.splitlines()) <= width
    for row in scores:
        for score in row:
            assert said.count(score.strip()) == 1
    if "backbone" not in said:  # a block for every row
        assert width < 80
        blocks = said.strip().split("\n\n")
        assert len(blocks) == len(METHODS)
        for block, method, row in zip(blocks, METHODS, scores, strict=True):
            assert squeezed(block).startswith(squeezed(", ".join(method)))
            assert all(score.strip() in block for score in row)
    else:
        lines = said.splitlines()
        titles = [index for index, line in enumerate(lines) if "backbone" in line]
        part = lines[titles[0] : titles[1] if len(titles) > 1 else None]
        starts = part[0].index("backbone"), part[0].index("head")
        values = min(cell_len(line[: line.index(" ± ") - 5]) for line in part if "±" in line)
        names, heads = column_of(part, starts[0], starts[1]), column_of(part, starts[1], values)
        for name, head in METHODS:
            assert squeezed(name) in names
            assert squeezed(head) in heads


def test_sweep__a_table_of_its_own_for_sizes_that_do_not_fit() -> None:
    said = shown(study(n_sizes=5)[0], 80)
    titles = [line.split()[2:] for line in said.splitlines() if "backbone" in line]
    assert [size for title in titles for size in title] == ["10", "20", "40", "80", "160"]
    assert len(titles) == 3


def probe_table() -> Table:
    headings = ("backbone", "head", "val AUC", "test AUC", "95% CI", "accuracy", "bal. acc.", "kappa")
    drop = ("kappa", "bal. acc.", "accuracy", "95% CI", "val AUC")
    table = Table(columns=headings, keys=2, numeric=6, drop=drop, padding=NARROW)
    table.add_row(
        "efficientnet-lite0", "mean-logits", "0.825", "0.850 ± 0.010 *", "0.753-0.913", "0.71", "0.72", "0.73"
    )
    return table


def test_probe__leaves_out_what_is_worth_least_and_says_so() -> None:
    said = shown(probe_table(), 80)
    assert "efficientnet-lite0" in said
    assert "mean-logits" in said
    for number in ("0.825", "0.850 ± 0.010 *", "0.753-0.913"):
        assert number in said
    assert "0.73" not in said
    gone = next(line for line in said.splitlines() if line.startswith("Left out"))
    assert "kappa" in gone
    assert "val AUC" not in gone
    assert "--json" in said


@pytest.mark.parametrize("width", [40, 60])
def test_probe__blocks_have_every_number(width: int) -> None:
    said = shown(probe_table(), width)
    for number in ("0.825", "0.850 ± 0.010 *", "0.753-0.913", "0.71", "0.72", "0.73"):
        assert number in said
    assert "Left out" not in said


def test_table__reads_no_markup_and_shows_groups_once() -> None:
    table = Table(columns=("class", "from", "[red]to[/red]"), keys=2, numeric=1, grouped=1)
    for name in ("a", "b"):
        table.add_row("[bold]x[/bold]", name, "1")
    said = shown(table, 80)
    assert said.count("[bold]x[/bold]") == 1
    assert "[red]to[/red]" in said
    assert shown(table, 20).count("[bold]x[/bold]") == 2  # a block stands for itself


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_table__in_an_encoding_that_lacks_its_characters(encoding: str) -> None:
    said = shown(study(n_sizes=2)[0], 80, encoding)
    assert max(cell_len(line) for line in said.splitlines()) <= 80
    assert ("0.000 +/- 0.031 *" if encoding == "ascii" else "0.000 ± 0.031 *") in said
    assert ("不良" if encoding == "utf-8" else "\\u4e0d") in said
    assert ("─" in said) is (encoding == "utf-8")
    assert "|" not in said


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("dino", 18, ["dino"]),
        ("efficientnet-lite0@size=160", 18, ["efficientnet-lite0", "@size=160"]),
        ("timm:resnet50.a1_in1k", 12, ["timm:", "resnet50.a1_", "in1k"]),
        ("3 together + dvme", 10, ["3 together", "+ dvme"]),
        ("不良品不良品", 4, ["不良", "品不", "良品"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("", 5, [""]),
    ],
)
def test_folded__breaks_at_joints(name: str, width: int, lines: list[str]) -> None:
    assert folded(name, width) == lines
