"""What is kept of a command that Ctrl-C ends: one line for each command, true whenever it is pressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from dvme_cli import INTERRUPTED
from dvme_cli.console import expected_errors, is_interrupt, note
from dvme_cli.help_page import Command
from dvme_cli.spelling import COMMAND

Parameters = Mapping[str, Any]

NOTHING_CHANGED = "nothing was changed"
AGAIN = "the same command goes on from there"
LAST_EPOCH = "last.pt"
"""Of `dvme adapt`; `dvme.training.checkpoints` writes it, and is too slow to import for a line after Ctrl-C."""


def _extract(given: Parameters) -> str:
    if given.get("plan"):
        return NOTHING_CHANGED
    if given.get("replace"):
        return "embeddings that were committed are kept; the same command without --replace goes on from there"
    again = f"the same command, with --part {given['part']}, goes on from there" if given.get("part") else AGAIN
    return f"embeddings that were committed are kept, and {again}"


def _predict(given: Parameters) -> str:
    kept = f"embeddings that were committed to {given['cache']} are kept" if given.get("cache") else ""
    return _file(given) + (f"; {kept}" if kept else "")


def _probe(given: Parameters) -> str:
    kept = _sweep(given) if given.get("out") else "nothing of a probe is kept"
    return kept + (f"; no head is in {given['save']}" if given.get("save") else "")


def _sweep(given: Parameters) -> str:
    again = f"the same command, with --part {given['part']}, goes on from there" if given.get("part") else AGAIN
    return f"jobs that were finished are kept in {given.get('out')}, and {again}"


def _file(given: Parameters) -> str:
    return f"{given['out']} is as it was" if given.get("out") else NOTHING_CHANGED


def _adapt(given: Parameters) -> str:
    folder = Path(f"{given.get('out')}.training")
    if not (folder / LAST_EPOCH).is_file():
        return f"no epoch is kept, and {given.get('out')} is as it was"
    return f"epochs that were ended are kept in {folder}, and {AGAIN}"


def _page(given: Parameters) -> str:
    figures = f"; of {given['figures']} some figures may be new" if given.get("figures") else ""
    return f"{given.get('out')} holds no half page{figures}; maps that were finished are kept for the next time"


def _demo(given: Parameters) -> str:
    return f"what was finished is kept in {given.get('folder')}, and {AGAIN}"


def _explain(given: Parameters) -> str:
    files = [str(given[name]) for name in ("out", "full_map") if given.get(name)]
    return f"{' and '.join(files)} {'hold' if files[1:] else 'holds'} no half file" if files else NOTHING_CHANGED


def _prune(given: Parameters) -> str:
    return "the same command finishes what was begun" if given.get("confirmed") else NOTHING_CHANGED


def _import(given: Parameters) -> str:
    return f"what was committed to {given.get('cache')} is kept; run the same command again"


KEPT: Mapping[str, str | Callable[[Parameters], str]] = {
    "adapt": _adapt,
    "extract": _extract,
    "predict": _predict,
    "probe": _probe,
    "sweep": _sweep,
    "subsets": _file,
    "methods": _file,
    "demo": _demo,
    "explain": _explain,
    "report": _page,
    "viz": _page,
    "cache repair": "what was mended stays mended; the same command mends the rest",
    "cache label": "either all labels were changed or none",
    "cache prune": _prune,
    "cache export": _file,
    "cache import": _import,
    "backbones convert": "no half .safetensors file is left",
}
"""By the command's name; of any other, nothing can have changed."""


def add_command(app: typer.Typer, name: str, function: Callable[..., None]) -> Callable[..., None]:
    """Add a command that prints expected errors as one line, and says what is kept, with exit 130, after Ctrl-C.

    Its name is the one below `dvme`, such as `cache verify`; what it runs is returned.
    """

    @wraps(function)
    def run(**given: Any) -> None:
        token = COMMAND.set(function)
        try:
            with expected_errors():
                function(**given)
        except BaseException as error:
            if not is_interrupt(error):
                raise
            note(f"interrupted; {kept_of(name, given)}")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            COMMAND.reset(token)

    app.command(name.rpartition(" ")[2], cls=Command)(run)
    return run


def kept_of(command: str, given: Parameters) -> str:
    """What is kept of a command, by its name below `dvme`."""
    kept = KEPT.get(command, _file if command.startswith("data ") else NOTHING_CHANGED)
    return kept if isinstance(kept, str) else kept(given)
