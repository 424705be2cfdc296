"""`dvme info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dvme
from dvme.text import bytes_text, counted, some_of
from dvme_cli import options
from dvme_cli.console import answer, console, say, size
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.upkeep.info import BackboneSummary, CacheSummary

WORDS = {"made_by": "made by", "like": "made as in"}


def info(cache: options.Cache, json: options.Json = False) -> None:
    """Show what CACHE holds."""
    summary = dvme.info(cache)
    answer(summary, _show, is_json=json)


def _show(summary: CacheSummary) -> None:
    from dvme.data.order import order_line

    say(f"{summary.cache}: {summary.n_rows:,} images; {summary.task.describe()}")
    pruned = f", {summary.n_pruned:,} pruned rows" if summary.n_pruned else ""
    say(f"format {summary.format_version}, {size(summary.n_bytes)} on disk{pruned}")
    if summary.class_order and not summary.task.is_multilabel:
        say(order_line(summary.class_order, summary.task.classes))
    known = ", ".join(f"{name} ({count:,})" for name, count in summary.columns.items() if count)
    say(f"columns: {known or 'none'}")
    if summary.masks is not None:
        of_each = some_of([f"{name} in {count:,}" for name, count in summary.masks.classes.items()])
        overlap = "" if summary.masks.is_exclusive else "; structures may overlap"
        say(f"masks of {counted(summary.masks.n_images, 'image')}: {of_each}{overlap}")
    for policy, names in summary.decodings.items():
        of = "" if len(summary.decodings) == 1 else f" of {some_of(names)}"
        say(f"decoding{of}: {policy}")
    for name, policy in summary.decodings_by_kind.items():
        say(f"{name}: {policy}")
    headings = ("backbone", "pooling", "fingerprint", "dim", "dtype", "done", "failed", "pending", "size")
    table = Table(columns=headings, keys=1, numeric=6, drop=("dtype", "fingerprint", "pooling"))
    for item in summary.backbones:
        table.add_row(
            item.backbone,
            str(item.fingerprint.get("pooling", "none" if item.maps else "")),
            item.digest[:12],
            f"{item.dim}",
            item.stored_as,
            f"{item.done:,}",
            f"{item.failed:,}",
            f"{item.pending:,}",
            size(item.n_bytes),
        )
    table.show(console())
    for item in summary.backbones:
        _show_remarks(item)
    if summary.views:
        several = some_of([f"{count} of {name}" for name, count in summary.views.items()])
        say(f"views of each image: {several}; dvme probe --views train learns from them")
    for place, count in summary.predicted.items():
        say(f"{counted(count, 'image')} that were only predicted: {place} (no study sees them)")


def _show_remarks(item: BackboneSummary) -> None:
    """What the table has no column for: grids of dense features, and whose word embeddings rest on."""
    if item.maps:
        of = f"{item.maps}, {item.stored_as}: {bytes_text(item.row_bytes)} an image"
        say(f"{item.backbone} has dense features, {of}")
    word = item.provenance.get("imported", {})
    said = [f"{words} {word[key]}" for key, words in WORDS.items() if key in word]
    if said:
        say(f"{item.backbone}: {said[0]}, by the word of who imported it")
