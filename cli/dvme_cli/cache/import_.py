"""`dvme cache import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dvme
from dvme.text import counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import parse_order
from dvme_cli.table import Table


def import_(  # noqa: PLR0913 - one parameter per option
    file: options.EmbeddingFile,
    cache: options.NewCache,
    backbone: options.MadeBackbone = None,
    features: Annotated[str | None, typer.Option(help="Array or column of features. Default: what fits.")] = None,
    ids: Annotated[str | None, typer.Option(help="Array or column of image names. Default: what fits.")] = None,
    table: Annotated[Path | None, typer.Option(help="A table of the image names, in the order of FILE's rows.")] = None,
    dtype: options.DtypeOfFile = None,
    images: image_options.ImagesFolder = None,
    made_by: Annotated[
        str | None, typer.Option(help="What made the embeddings, in your words: more of the same may be added.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="A cache whose embeddings of this backbone were made in the same way.")
    ] = None,
    class_order: image_options.ClassOrder = None,
    notes: Annotated[
        list[str] | None, typer.Option("--note", help="KEY=VALUE to keep as provenance. Repeatable.")
    ] = None,
    replace: options.Replace = False,
    json: options.Json = False,
) -> None:
    """Bring FILE into CACHE: an export as it was, or embeddings made elsewhere under a name of yours."""
    with progress_bars() as tell:
        report = dvme.cache.import_embeddings(
            file,
            cache,
            backbone=backbone,
            features=features,
            ids=ids,
            table=table,
            dtype=dtype,
            images=images,
            made_by=made_by,
            like=like,
            class_order=parse_order(class_order),
            notes=_parse_notes(notes or []),
            replace=replace,
            progress=tell,
        )
    answer(report, _show, is_json=json)


def _show(report: dvme.cache.ImportReport) -> None:
    origin = "an export of dvme" if report.is_export else "made elsewhere"
    say(f"{report.file} ({origin}): {counted(report.n_rows, 'image')} ({report.n_new:,} new to {report.cache})")
    headings = ("backbone", "dim", "dtype", "imported", "reused", "failed", "pending")
    table = Table(columns=headings, keys=1, numeric=6)
    for item in report.backbones:
        counts = (f"{count:,}" for count in (item.imported, item.reused, item.failed, item.pending))
        table.add_row(item.backbone, f"{item.dim}", item.dtype, *counts)
    table.show(console())
    for remark in report.remarks:
        say(remark)


def _parse_notes(pairs: list[str]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--note {pair} is not KEY=VALUE")
        parsed[key] = value
    return parsed
