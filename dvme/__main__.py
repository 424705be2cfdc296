"""`python -m dvme`: the command line of the same installation."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

# By its entry point: this package does not import the one that is built upon it.
found = next(iter(entry_points(group="console_scripts", name="dvme")), None)
if found is None:
    sys.exit("error: dvme is not installed, only its files are found; pip install dvme")
sys.exit(found.load()())
