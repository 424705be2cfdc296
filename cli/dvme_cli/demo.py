"""`dvme demo`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer

import dvme
from dvme.defaults import DEMO_FOLDER, DEMO_IMAGES
from dvme_cli import image_options, options
from dvme_cli.console import progress_bars, say, show_json


def demo(
    ctx: typer.Context,
    folder: image_options.DemoFolder = DEMO_FOLDER,
    images: image_options.DemoImages = DEMO_IMAGES,
    json: options.Json = False,
) -> None:
    """Run dvme on photographs of solar cells: a table, a sweep over label counts, a report (needs the extra demo)."""
    if json:
        with progress_bars() as tell:
            show_json(dvme.demo(folder, images, progress=tell).to_json())
        return
    from dvme.demonstration.demo import DemoPlaces

    places = DemoPlaces.prepared(folder, images)
    say(f"{places.n_images:,} solar cells are listed in {places.manifest}")
    for arguments, output in places.steps:
        _run(ctx.find_root().command, arguments, output)


def _run(root: Any, arguments: list[str], output: str) -> None:
    """Run a command as if it were typed, and print how; what it prints goes to a file, if there is one.

    Raises:
        typer.Exit: if it ends otherwise than well; it has said why.
    """
    typed = shlex.join(["dvme", *arguments])
    typed += f" > {shlex.quote(output)}" if output else ""
    typer.echo(f"\n$ {typed}")  # no terminal breaks its line anew: it can be typed again
    with _sent_to(output):
        code = root.main(args=arguments, standalone_mode=False)
        if code:
            raise typer.Exit(code)


@contextmanager
def _sent_to(output: str) -> Iterator[None]:
    """What is printed goes to a file, whole or not at all; to the terminal where none is named."""
    if not output:
        yield
        return
    from dvme.files import written_aside

    with written_aside(Path(output)) as aside, aside.open("w", encoding="utf-8") as file, redirect_stdout(file):
        yield
