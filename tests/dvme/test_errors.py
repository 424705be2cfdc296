"""Messages name parameters, and no text of the user's is taken for one."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dvme
from dvme.errors import DataError, DvmeError, OptionError, Parameter, Text, WeightsError, message_of, parameter

LIBRARY = Path(dvme.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(LIBRARY.rglob("*.py"))}
WHOLE_COMMAND = re.compile(r"\b(?:dvme|pip)(?: (?:cache|backbones))? [a-z]+(?: (?:--[a-z-]+|[^\s;,]+))*")
"""`dvme cache label c.zarr --class-order LOWEST`: a command is the same wherever it is read."""
OPTION = re.compile(r"(?<![\w(<!-])--[a-z{]")
NO_MESSAGES = {
    "heads/saving.py": 1,
    "report/sections.py": 6,
    "demonstration/demo.py": 7,
    "health/extras.py": 4,
    "health/machine.py": 1,
}
"""How many texts with two dashes are no message: the name of a head's folder; the command that repeats a run; commands
that the demo types, and that a doctor gives."""
USER_TEXT = st.text() | st.sampled_from(["{batch_size}", "%s", "`n_folds`", "n_folds=2", "--folds", "\x00", "{", "}}"])


@settings(max_examples=50)
@given(st.lists(USER_TEXT | st.builds(Parameter, st.sampled_from(["n_folds", "out"]))))
def test_text__spells_parameters_and_leaves_the_rest(parts: list[str | Parameter]) -> None:
    whole = Text(*parts)
    assert whole.spelled(lambda each: f"<{each.name}>") == "".join(
        part if isinstance(part, str) else f"<{part.name}>" for part in parts
    )
    assert whole == "".join(part if isinstance(part, str) else part.name for part in parts)


@settings(max_examples=50)
@given(USER_TEXT, USER_TEXT)
def test_text__survives_all_that_messages_go_through(before: str, after: str) -> None:
    text = f"{before}; pass " + parameter("n_folds", 2) + f" {after}"
    expected = f"{before}; pass --folds {after}"
    for error in (DataError(text), OptionError(text), WeightsError(text)):
        for each in (error, pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
            assert str(each) == f"{before}; pass n_folds=2 {after}"
            assert message_of(each).spelled(lambda _: "--folds") == expected
    assert json.loads(json.dumps([text])) == [f"{before}; pass n_folds=2 {after}"]
    assert message_of(ValueError(before)) == before


@pytest.mark.parametrize(
    ("text", "python"),
    [
        (parameter("memory"), "memory"),
        (parameter("replace", True), "replace=True"),
        (parameter("device", "cpu"), "device='cpu'"),
        (parameter("weights", {"dino": Path("w.pth")}), "weights={'dino': 'w.pth'}"),
        (parameter("sizes", ("50", "full")), "sizes=['50', 'full']"),
    ],
)
def test_parameter__is_written_as_python_takes_it(text: Text, python: str) -> None:
    assert str(text) == python


def test_errors__in_python_name_the_parameter() -> None:
    with pytest.raises(DvmeError, match=r"^batch size 0 is not possible; pass batch_size=1 or more$"):
        dvme.Runtime(batch_size=0)


def texts_of(tree: ast.AST) -> Iterator[str]:
    """Every literal that is no docstring, with {} for what is filled in."""
    inside = {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in ast.walk(node)}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(f"{part.value}" if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.value


@pytest.mark.parametrize(
    ("text", "is_option"),
    [
        ("pass --folds 2", True),
        ("dvme sweep {} --out RUN; or --force", True),
        ("run dvme cache label {} --class-order A,B", False),
        ("color: var(--ink)", False),
    ],
)
def test_option__is_found_outside_of_whole_commands(text: str, is_option: bool) -> None:
    assert bool(OPTION.search(WHOLE_COMMAND.sub("", text))) is is_option


def test_messages__have_no_option_of_the_command_line() -> None:
    found: dict[str, int] = {}
    for path, tree in TREES.items():
        for text in texts_of(tree):
            if OPTION.search(WHOLE_COMMAND.sub("", text)):
                name = path.relative_to(LIBRARY).as_posix()
                found[name] = found.get(name, 0) + 1
    assert found == NO_MESSAGES


def test_messages__no_parameter_is_lost_in_an_f_string() -> None:
    """One in an f-string would be Python's spelling for ever: neither itself nor a name that holds one may be in it."""
    for path, tree in TREES.items():
        for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            carriers = {"parameter", "message_of", "CLASS_ORDER", "COLUMN", "OTHERS"}
            for _ in range(3):  # a name for a name
                for node in ast.walk(scope):
                    if isinstance(node, ast.Assign) and _names(node.value, outside_calls=True) & carriers:
                        carriers |= {each.id for each in node.targets if isinstance(each, ast.Name)}
            for node in ast.walk(scope):
                if isinstance(node, ast.FormattedValue):
                    assert not _names(node.value) & carriers, (path.name, node.lineno)


def _names(node: ast.AST, *, outside_calls: bool = False) -> set[str]:
    """Names in an expression; those in the arguments of calls only where they are asked for."""
    if isinstance(node, ast.Name):
        return {node.id}
    if outside_calls and isinstance(node, ast.JoinedStr):
        return set()
    children = [node.func] if outside_calls and isinstance(node, ast.Call) else list(ast.iter_child_nodes(node))
    return set().union(*(_names(each, outside_calls=outside_calls) for each in children))
