"""The command line as the tests type it, and what every refusal looks like."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from dvme_cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, *parts: str) -> None:
    """Exit 1 and one readable line, with all of the parts, on stderr; nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == result.stderr.splitlines()[-1:], result.stderr
    assert not result.stdout.strip()
    for part in parts:
        assert part in lines[0]


def strict(text: str) -> Any:
    """JSON without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)
