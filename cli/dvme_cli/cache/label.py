"""`dvme cache label`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme.text import counted
from dvme_cli.arguments import ClassOrder, parse_order
from dvme_cli.console import expected_errors, say, show_json

if TYPE_CHECKING:
    from dvme.cache import LabelReport


def label(  # noqa: PLR0913 - one parameter per option
    cache: Annotated[str, typer.Argument(help="A cache written by dvme extract.")],
    manifest: Annotated[
        Path | None, typer.Argument(help="A .csv, .tsv or .parquet file with a row per image; not for an order alone.")
    ] = None,
    image_col: Annotated[str | None, typer.Option(help="Column of paths or content ids. Default: image.")] = None,
    label_col: Annotated[str | None, typer.Option(help="Column of class names. Default: label, if any.")] = None,
    split_col: Annotated[str | None, typer.Option(help="Column of train/val/test. Default: split, if any.")] = None,
    group_col: Annotated[str | None, typer.Option(help="Column of patients. Default: group, if any.")] = None,
    extra: Annotated[list[str] | None, typer.Option(help="A further column to keep. Repeatable.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Where a manifest's relative paths start.")] = None,
    class_order: ClassOrder = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Set labels, splits and groups of the images that MANIFEST names, or the classes' order; no embedding changes."""
    if manifest is None and class_order is None:
        raise typer.BadParameter("name a MANIFEST of labels, or pass --class-order")
    with expected_errors():
        import dvme
        from dvme.cache import label as relabel

        columns = dvme.Columns(image=image_col, label=label_col, split=split_col, group=group_col)
        report = relabel(
            cache,
            manifest,
            columns=columns,
            extra=extra or [],
            image_root=image_root,
            class_order=parse_order(class_order),
        )
        if json:
            show_json(report.to_json())
        else:
            _show(report)


def _show(report: LabelReport) -> None:
    from dvme.data.order import order_line

    for line in report.remarks:
        say(line)
    if report.manifest is not None:
        _show_changes(report)
    say(f"{report.cache}: {report.task.describe()}")
    if report.class_order or report.manifest is None:
        say(order_line(report.class_order, report.task.classes) or "class order: none is given any more")


def _show_changes(report: LabelReport) -> None:
    changes = ", ".join(f"{name} of {count:,}" for name, count in report.n_changed.items() if count)
    say(f"{counted(report.n_rows, 'image')} named; changed: {changes or 'nothing'}")
    if report.n_untouched:
        keep = (
            "is not in the manifest and keeps its values"
            if report.n_untouched == 1
            else ("are not in the manifest and keep what they have")
        )
        say(f"{counted(report.n_untouched, 'image')} {keep}")
