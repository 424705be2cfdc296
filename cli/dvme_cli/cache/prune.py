"""`dvme cache prune`."""

from __future__ import annotations

from typing import Annotated

import typer

import dvme
from dvme.text import counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, progress_bars, say, say_some

PATHS_SHOWN = 10


def prune(
    cache: options.Cache,
    images: image_options.ImagesThatStay,
    image: image_options.ImageColumn = None,
    image_root: image_options.ImageRoot = None,
    confirmed: Annotated[bool, typer.Option("--yes", help="Erase them. Without it they are only listed.")] = False,
    json: options.Json = False,
) -> None:
    """Erase the images of CACHE that are not among IMAGES: embeddings, labels and paths."""
    columns = dvme.Columns(image=image) if image else None
    with progress_bars() as tell:
        report = dvme.cache.prune(
            cache, images, columns=columns, image_root=image_root, confirmed=confirmed, progress=tell
        )
    answer(report, _show, is_json=json)


def _show(report: dvme.cache.PruneReport) -> None:
    for line in report.remarks:
        say(line)
    if not report.removed:
        images = counted(report.n_kept, "image")
        say(f"Every one of the {images} of {report.cache} is among these; there is nothing to prune.")
        return
    say_some(report.removed, PATHS_SHOWN)
    for folder, n_images in list(report.gone_folders.items())[:PATHS_SHOWN]:
        of = f"{n_images:,} of {counted(n_images, 'image')} below {folder}/"
        say(f"{of} {'is' if n_images == 1 else 'are'} gone; is it mounted?")
    if len(report.gone_folders) > PATHS_SHOWN:
        say(f"... and all images below {len(report.gone_folders) - PATHS_SHOWN} more folders (--json lists all)")
    is_one = len(report.removed) == 1
    count = f"{counted(len(report.removed), 'image')} of {report.cache}"
    if report.is_done:
        left = "is" if report.n_kept == 1 else "are"
        say(f"{count} {'was' if is_one else 'were'} erased; {report.n_kept:,} {left} left.")
    else:
        say(f"{count} {'is' if is_one else 'are'} not among these. Nothing was changed; --yes erases what is listed.")
