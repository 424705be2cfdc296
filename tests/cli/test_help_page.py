"""`--help` of every command: whole in narrow terminals, in colours where they are wanted, options in panels."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from command_line import run
from typer.main import get_command

from dvme_cli.app import app
from dvme_cli.console import console
from dvme_cli.panels import FEW, OPTIONS, PANELS, panel_of

Page = tuple[Any, Any]
"""A command and its context."""


def _walked(command: Any, ctx: Any) -> Iterator[Page]:
    yield command, ctx
    for name, nested in getattr(command, "commands", {}).items():
        yield from _walked(nested, nested.make_context(name, [], parent=ctx, resilient_parsing=True))


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    """Of the root, of every group and of every command, by what is typed."""
    root: Any = get_command(app)
    return {
        ctx.command_path: (command, ctx)
        for command, ctx in _walked(root, root.make_context("dvme", [], resilient_parsing=True))
    }


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Iterator[io.TextIOBase]:
    """A terminal of so many columns in the place of stdout."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    with os.fdopen(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
            patched.delenv(name, raising=False)
        patched.setattr(sys, "stdout", stream)
        yield stream
    os.close(ours)


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_page__nothing_is_cut_and_no_line_is_longer(
    width: int, pages: dict[str, Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert len(pages) > 30
    for typed, (command, ctx) in pages.items():
        page = command.get_help(ctx)
        assert max(map(len, page.splitlines())) <= width, typed
        assert "…" not in page
        assert "\x1b" not in page  # what is no terminal has no colours
        for each in command.get_params(ctx):
            assert squeezed("".join(each.get_help_record(ctx))) in squeezed(page), (typed, each.name)
        for name, nested in getattr(command, "commands", {}).items():
            assert squeezed(name + nested.help.partition("\n\n")[0]) in squeezed(page)


def test_help_page__in_a_narrow_terminal(pages: dict[str, Page], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command, ctx = pages["dvme cache repair"]
    usage, said, arguments, options = command.get_help(ctx).split("\n\n")
    assert usage.startswith("Usage: dvme cache repair [OPTIONS] ")
    assert said == (
        "  Mend CACHE: copies stand in for damaged files, rows whose\n  bytes are lost are marked for extraction."
    )
    assert re.fullmatch(r"Arguments\n  cache.*  A cache, by path or URL. \[required\]", arguments)
    assert re.fullmatch(
        r"Options\n  --json  +Print the report as JSON.\n  -h, --help +Show this message and exit.", options
    )


def test_help_page__a_long_name_stands_above_what_it_does(
    pages: dict[str, Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command, ctx = pages["dvme sweep"]
    lines = command.get_help(ctx).splitlines()
    place = lines.index("  --oversample / --no-oversample")
    assert lines[place + 1].strip().startswith("Heads trained by minibatches")
    assert re.match(r" {20,30}\S", lines[place + 1])


@pytest.mark.parametrize(
    ("environment", "has_bold", "has_colours"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_help_page__colours_in_a_terminal_that_has_them(
    environment: dict[str, str],
    has_bold: bool,
    has_colours: bool,
    pages: dict[str, Page],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, ctx = pages["dvme sweep"]
    with terminal(monkeypatch, 60):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        page = command.get_help(ctx)
    assert ("\x1b[1" in page) == has_bold
    assert ("36m" in page) == has_colours
    assert ("\x1b" in page) == has_bold


def test_console__a_dumb_terminal_is_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, 60):
        monkeypatch.setenv("TERM", "dumb")
        assert console().width == 60
        assert not console().is_interactive
        monkeypatch.setenv("TERM", "xterm")
        assert console().is_interactive
    assert console().width == 120


def test_panels__every_option_of_a_long_page_is_in_one(pages: dict[str, Page]) -> None:
    found = set()
    for command, ctx in pages.values():
        options = [each for each in command.get_params(ctx) if each.param_type_name == "option"]
        found |= {f"{command.name} {each.name}" for each in options} | {each.name for each in options}
        if len(options) > FEW:
            without = [each.name for each in options if not each.required]
            assert [name for name in without if panel_of(command.name, name) == OPTIONS] == [], command.name
            assert OPTIONS not in command.get_help(ctx).splitlines()
    names = [name for names in PANELS.values() for name in names]
    assert len(names) == len(set(names))
    assert set(names) <= found


def test_panels__of_a_sweep_say_what_belongs_together(pages: dict[str, Page]) -> None:
    command, ctx = pages["dvme sweep"]
    page = command.get_help(ctx)
    titles = [line for line in page.splitlines()[1:] if line and not line.startswith(" ")]
    assert titles == [
        *("Arguments", "Required", "What is compared", "Subsets and folds", "Scores", "Other sites"),
        *("What is computed", "Computing", "Output"),
    ]
    subsets = page.partition("Subsets and folds\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (--[a-z-]+)", subsets, re.MULTILINE)[:3] == ["--subsets", "--sizes", "--folds"]


def test_wrong_usage__is_plain_lines_that_a_log_can_hold() -> None:
    result = run("probe", "c.zarr", "--heads", "linear")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: No such option: --heads; did you mean --head?"
    assert "│" not in result.stderr


def test_help__of_nothing_typed_says_what_commands_there_are() -> None:
    assert "\nCommands\n" in run().output
