"""`dvme cache label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dvme
from dvme.defaults import NO_FINDING
from dvme.text import counted, some_of
from dvme_cli import image_options, options
from dvme_cli.console import answer, progress_bars, say
from dvme_cli.parsing import columns_of, parse_order


def label(  # noqa: PLR0913 - one parameter per option
    cache: options.Cache,
    manifest: Annotated[
        Path | None,
        typer.Argument(help="A table (.csv, .xlsx, ...) with a row per image; not for an order or a separator alone."),
    ] = None,
    image: image_options.NamedColumn = None,
    label: image_options.LabelColumn = None,
    label_separator: image_options.LabelSeparator = None,
    no_finding: image_options.NoFinding = NO_FINDING,
    split: image_options.SplitColumn = None,
    group: image_options.GroupColumn = None,
    keep: image_options.KeepColumns = None,
    mask: image_options.MaskColumns = None,
    mask_classes: image_options.MaskClasses = None,
    mask_void: image_options.MaskVoid = None,
    mask_encoding: image_options.MaskEncoding = None,
    na_values: image_options.NaValues = None,
    image_root: image_options.ImageRoot = None,
    class_order: image_options.ClassOrder = None,
    json: options.Json = False,
) -> None:
    """Set labels, splits and groups of the images that MANIFEST names, or the classes' order; no embedding changes.

    Without MANIFEST, --label-separator reads the labels that CACHE has as findings.
    """
    if manifest is None and class_order is None and label_separator is None:
        raise typer.BadParameter("name a MANIFEST of labels, or pass --class-order or --label-separator")
    columns = columns_of(
        image=image,
        label=label,
        split=split,
        group=group,
        label_separator=label_separator,
        no_finding=no_finding,
        keep=keep,
        mask=mask,
        mask_classes=mask_classes,
        mask_void=mask_void,
        mask_encoding=mask_encoding,
        na_values=na_values,
    )
    with progress_bars() as tell:
        report = dvme.cache.label(
            cache,
            manifest,
            columns=columns,
            image_root=image_root,
            class_order=parse_order(class_order),
            progress=tell,
        )
    answer(report, _show, is_json=json)


def _show(report: dvme.cache.LabelReport) -> None:
    from dvme.data.order import order_line

    for line in report.remarks:
        say(line)
    if report.manifest is not None or report.n_changed:
        _show_changes(report)
    say(f"{report.cache}: {report.task.describe()}")
    if report.task.is_multilabel:
        return
    if report.class_order or report.manifest is None:
        say(order_line(report.class_order, report.task.classes) or "class order: none is given any more")


def _show_changes(report: dvme.cache.LabelReport) -> None:
    each = some_of([f"{name} of {count:,}" for name, count in report.n_changed_findings.items()])
    findings = {"label": f" ({each})"} if each else {}
    changed = {name: count for name, count in report.n_changed.items() if count}
    changes = ", ".join(f"{name} of {count:,}{findings.get(name, '')}" for name, count in changed.items())
    named = "named" if report.manifest is not None else "with a label"
    say(f"{counted(report.n_rows, 'image')} {named}; changed: {changes or 'nothing'}")
    if report.n_untouched:
        keep = "is not in the manifest and keeps its values"
        if report.n_untouched > 1:
            keep = "are not in the manifest and keep what they have"
        say(f"{counted(report.n_untouched, 'image')} {keep}")
