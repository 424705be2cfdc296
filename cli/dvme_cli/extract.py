"""`dvme extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvme.wording import NO_GROUPS, counted
from dvme_cli.arguments import ClassOrder, parse_names, parse_order, parse_pairs, vary_names
from dvme_cli.console import (
    console,
    expected_errors,
    new_table,
    note,
    progress_bars,
    say,
    show_json,
)
from dvme_cli.plan import show_plan

if TYPE_CHECKING:
    from dvme.data import Task
    from dvme.extraction.extract import ExtractReport

REASONS_SHOWN = 3


def extract(  # noqa: PLR0913, PLR0917 - one parameter per option
    images: Annotated[Path, typer.Argument(help="A folder of images, or a .csv, .tsv or .parquet manifest.")],
    cache: Annotated[str, typer.Argument(help="The cache, NAME.zarr or s3://...; created if it is not there.")],
    backbones: Annotated[
        str, typer.Option(help='Names separated by commas, "x,y" in quotes; `dvme backbones` lists them.')
    ],
    image_col: Annotated[str | None, typer.Option(help="Manifest column of image paths. Default: image.")] = None,
    label_col: Annotated[str | None, typer.Option(help="Column of class names. Default: label, if any.")] = None,
    split_col: Annotated[str | None, typer.Option(help="Column of train/val/test. Default: split, if any.")] = None,
    group_col: Annotated[str | None, typer.Option(help="Column of patients. Default: group, if any.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Where a manifest's relative paths start.")] = None,
    class_order: ClassOrder = None,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=PATH: a local checkpoint. Repeatable.")] = None,
    arch: Annotated[
        list[str] | None, typer.Option(help="NAME=ARCHITECTURE of a torchvision-style checkpoint. Repeatable.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="average, class-token, class-token-last-4, class-and-mean or model.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the crop, another than published.")] = None,
    in_chans: Annotated[int | None, typer.Option(help="1: grey input, the first convolution summed.")] = None,
    preprocess: Annotated[
        str | None, typer.Option(help="KEY=VALUE,...: resize, crop, interpolation, mode, mean, std.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be reused and computed, and why.")] = False,
    dtype: Annotated[str, typer.Option(help="Stored type: float32 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images per forward pass. Default: 16 on the CPU, 64 elsewhere.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding threads. Default: one per core, up to 16.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Delete these backbones' embeddings first.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed to decode before.")
    ] = False,
    shard_rows: Annotated[
        int | None, typer.Option(help="Images per committed file of a new backbone. Default: by the data set's size.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another process writes to CACHE.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run frozen backbones over IMAGES once and keep the embeddings in CACHE."""
    with expected_errors():
        import dvme

        inputs: dict[str, Any] = {
            "backbones": vary_names(
                parse_names(backbones, "--backbones"),
                pool=pool,
                image_size=image_size,
                in_chans=in_chans,
                preprocess=preprocess,
            ),
            "columns": dvme.Columns(image=image_col, label=label_col, split=split_col, group=group_col),
            "image_root": image_root,
            "class_order": parse_order(class_order),
            "weights": parse_pairs(weights or [], "--weights", "PATH"),
            "architectures": parse_pairs(arch or [], "--arch", "ARCHITECTURE"),
            "dtype": dtype,
            "runtime": dvme.Runtime(device=device, batch_size=batch_size, workers=workers),
            "replace": replace,
            "retry_failed": retry_failed,
            "rows_per_shard": shard_rows,
            "announce": _announce,
        }
        with progress_bars() as tell:
            if plan:
                planned = dvme.plan_extraction(images, cache, **inputs, progress=tell)
            else:
                done = dvme.extract(images, cache, **inputs, wait=wait, progress=tell)
        if json:
            show_json((planned if plan else done).to_json())
        elif plan:
            show_plan(planned)
        else:
            _show(done)


def _announce(task: Task, n_files: int) -> None:
    note(f"{counted(n_files, 'image')}: {task.describe()}")


def _show(report: ExtractReport) -> None:
    _show_rows(report)
    table = new_table("backbone", "dim", "reused", "computed", "failed", "images/s", numeric=5)
    for item in report.outcomes:
        speed = f"{item.computed / item.seconds:,.1f}" if item.computed else "-"
        table.add_row(item.backbone, f"{item.dim}", f"{item.reused:,}", f"{item.computed:,}", f"{item.failed:,}", speed)
    console().print(table)
    for item in report.outcomes:
        if item.choice:
            say(f"{item.backbone}: {item.choice}")
        if item.remark:
            say(f"{item.backbone} is not verified: {item.remark}")
    _show_failures(report)
    if all(item.reused == report.n_rows for item in report.outcomes):
        say("Every embedding was reused; nothing was computed.")


def _show_rows(report: ExtractReport) -> None:
    duplicates = report.n_files - report.n_rows
    rows = f"{counted(report.n_rows, 'distinct image')} ({report.n_new:,} new to the cache)"
    say(rows + (f"; {counted(duplicates, 'copy', 'copies')} stored once" if duplicates else ""))
    if report.contradictory:
        shown = ", ".join(report.contradictory[:REASONS_SHOWN])
        say(
            f"{len(report.contradictory)} copies disagree on label, split or group and take part in nothing: {shown}"
            f"{', ...' if len(report.contradictory) > REASONS_SHOWN else ''}"
        )
    _show_columns(report)
    if report.n_moved:
        were = "was" if report.n_moved == 1 else "were"
        say(f"{counted(report.n_moved, 'image')} {were} known by another path; nothing of that was computed again")
    if report.n_unlisted:
        stays = "is not among these and still takes" if report.n_unlisted == 1 else "are not among these and still take"
        labelled = counted(report.n_unlisted, "labelled image")
        say(f"{labelled} of the cache {stays} part in probes (dvme cache prune takes them out)")
    for item in report.outcomes:
        if item.n_lost:
            lost = counted(item.n_lost, "embedding")
            say(f"{item.backbone}: {lost} on disk had come to harm; those of these images are made anew")


def _show_columns(report: ExtractReport) -> None:
    """What became of labels, their order, splits and groups."""
    from dvme.data.order import order_line

    if report.class_order:
        say(order_line(report.class_order, report.task.classes))
    if report.n_grouped:
        say(f"{counted(report.n_grouped, 'image')} of {counted(report.n_groups, 'group')}")
    elif report.task.classes:
        say(NO_GROUPS)
    for counts, what in (
        (report.n_changed, "changed"),
        (report.n_removed, "removed (an empty cell, or copies that disagree)"),
        (report.n_kept, "kept from the cache, for this source has no such column"),
    ):
        if counts:
            found = [f"{name} of {counted(count, 'image')}" for name, count in counts.items()]
            say(f"{', '.join(found)} {what}")


def _show_failures(report: ExtractReport) -> None:
    reasons = {image: reason for item in report.outcomes for image, reason in item.reasons.items()}
    if reasons:
        have = "has" if len(reasons) == 1 else "have"
        say(f"{counted(len(reasons), 'image')} {have} no embedding (--retry-failed decodes again):")
        for image, reason in list(reasons.items())[:REASONS_SHOWN]:
            say(f"  {image}: {reason}")
        if len(reasons) > REASONS_SHOWN:
            say(f"  ... and {len(reasons) - REASONS_SHOWN} more (--json lists all)")
