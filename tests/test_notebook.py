"""The notebook of a first study: its cells in order, and what each shows."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = json.loads((Path(__file__).parents[1] / "examples" / "first_study.ipynb").read_text(encoding="utf-8"))
CELLS: dict[str, str] = {
    cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"
}
SMALLER = {'"efficientnet-lite0"': '"efficientnet-lite0@size=32"', '"random"': '"random@size=32"'}
SHOWN = ["extract", "maps", "probe", "frame", "sweep", "curve", "open", "table"]
"""Cells that end in something to look at."""


def shown(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell; what its last line is, as a notebook shows it, or None."""
    *before, last = ast.parse(CELLS[cell]).body
    if not isinstance(last, ast.Expr):
        before.append(last)
    exec(compile(ast.Module(before, []), cell, "exec"), names)
    return eval(compile(ast.Expression(last.value), cell, "eval"), names) if isinstance(last, ast.Expr) else None


def test_notebook__shows_tables_and_maps(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(class_folders.parent)
    for name, smaller in SMALLER.items():
        assert name in CELLS["names"]
        monkeypatch.setitem(CELLS, "names", CELLS["names"].replace(name, smaller))
    names: dict[str, Any] = {}
    found = {cell: shown(cell, names) for cell in CELLS}
    assert [cell for cell, value in found.items() if value is not None] == SHOWN
    html = {cell: found[cell]._repr_html_() for cell in SHOWN}
    assert "notebook_maps.html" in html["maps"]
    assert Path("notebook_maps.html").exists()
    assert all("<table" in html[cell] for cell in ("probe", "frame", "sweep", "open", "table"))
    assert "plotly" in html["curve"]
    assert names["result"].verdict


def test_notebook__is_kept_without_what_it_showed() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    identities = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(identities)) == len(identities)
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
