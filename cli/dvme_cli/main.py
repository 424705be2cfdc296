"""The entry point: next to nothing is imported before Ctrl-C is expected."""

from __future__ import annotations

import sys

from dvme_cli import INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from dvme_cli.app import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was changed\n")
        sys.exit(INTERRUPTED)
