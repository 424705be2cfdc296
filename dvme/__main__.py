"""`python -m dvme`: the command line of the same installation."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

from dvme.requirements import own_command

# By its entry point: this package does not import the one that is built upon it.
found = next(iter(entry_points(group="console_scripts", name="dvme")), None)
if found is None:
    sys.exit(f"error: dvme is not installed, only its files are found; {own_command()}")
sys.exit(found.load()())
