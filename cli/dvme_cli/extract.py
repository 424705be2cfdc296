"""`dvme extract`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

import dvme
from dvme.defaults import DEVICE, ENGINE, NO_FINDING
from dvme.text import NO_GROUPS, counted, first_few
from dvme_cli import image_options, options
from dvme_cli.console import answer, console, note, progress_bars, say, say_some
from dvme_cli.greys import show_greys
from dvme_cli.parsing import (
    columns_of,
    parse_frame,
    parse_names,
    parse_order,
    parse_pairs,
    parse_range,
    runtime_of,
    typed,
    vary_names,
)
from dvme_cli.plan import show_left_out, show_plan
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.data import Samples, Task
    from dvme.extraction.extract import ExtractReport

REASONS_SHOWN = 3


def extract(  # noqa: PLR0913, PLR0917 - one parameter per option
    images: image_options.Images,
    cache: options.NewCache,
    backbones: options.NewBackbones,
    image: image_options.ImageColumn = None,
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
    dicom: Annotated[
        str | None,
        typer.Option(
            "--dicom-columns",
            help="What to keep of DICOM headers, separated by commas: patient, study, series, view, laterality, sex, "
            "age, modality, manufacturer, model, body_part, spacing, rows, columns, bits, photometric, window, frames, "
            "kvp, exposure.",
        ),
    ] = None,
    plain_ids: Annotated[
        bool, typer.Option("--plain-ids", help="Keep ids of DICOM headers as they are, not hashed.")
    ] = False,
    frame: image_options.Frame = None,
    na_values: image_options.NaValues = None,
    image_root: image_options.ImageRoot = None,
    skip_missing: image_options.SkipMissing = False,
    class_order: image_options.ClassOrder = None,
    weights: options.Weights = None,
    architectures: options.Architectures = None,
    pool: Annotated[
        str | None, typer.Option(help="average, class-token, class-token-last-4, class-and-mean or model.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the crop, another than published.")] = None,
    in_chans: Annotated[int | None, typer.Option(help="1: grey input, the first convolution summed.")] = None,
    preprocess: Annotated[
        str | None, typer.Option(help="KEY=VALUE,...: resize, crop, interpolation, mode, mean, std.")
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Which deep grey becomes 0 and 255: image, declared, dtype, 12bit, or percentile=0.5,99.5.",
        ),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="12: 0 to 4095 of deep grey become 0 to 255.")] = None,
    voi: Annotated[
        str | None, typer.Option(help="Window of DICOM files: first, none, lut, or its number from 0 on.")
    ] = None,
    draft: Annotated[
        int | None,
        typer.Option(help="Decode JPEG files to 1/2, 1/4 or 1/8, as long as their short side has so many pixels."),
    ] = None,
    views: options.NewViews = None,
    dense: image_options.Dense = False,
    layers: image_options.Layers = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be reused and computed, and why.")] = False,
    precision: image_options.Precision = None,
    dtype: image_options.Dtype = None,
    engine: options.Engine = ENGINE,
    ray_address: options.RayAddress = None,
    ray_cpus: options.RayCpus = None,
    device: image_options.Devices = DEVICE,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    replace: options.Replace = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed to decode before.")
    ] = False,
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            "--shard-rows", help="Images per committed file of a new backbone. Default: by the data set's size."
        ),
    ] = None,
    part: options.ExtractPart = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another process writes to CACHE.")] = False,
    max_pixels: image_options.MaxPixels = None,
    trust_mtime: Annotated[
        bool,
        typer.Option(
            "--trust-mtime",
            help="Files that have the size and times of an earlier run with this option are not read to be recognised. "
            "What changes bytes and leaves these is not seen.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Run frozen backbones over IMAGES once and keep the embeddings in CACHE."""
    announced: list[str] = []
    inputs: dict[str, Any] = {
        "backbones": vary_names(
            parse_names(backbones, "--backbones"),
            pool=pool,
            size=image_size,
            in_chans=in_chans,
            preprocess=preprocess,
            range=parse_range(range_, bits),
            voi=voi,
            frame=parse_frame(frame)[1],
            draft=draft,
        ),
        "columns": columns_of(
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
            dicom=dicom,
            plain_ids=plain_ids,
            frame=parse_frame(frame)[0],
            na_values=na_values,
        ),
        "image_root": image_root,
        "skip_missing": skip_missing,
        "class_order": parse_order(class_order),
        **typed(views=views, layers=layers),
        "dense": dense,
        "weights": parse_pairs(weights or [], "--weights", "PATH"),
        "architectures": parse_pairs(architectures or [], "--arch", "ARCHITECTURE"),
        "precision": precision,
        "dtype": dtype,
        "runtime": runtime_of(
            device=device,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
            engine=engine,
            ray_address=ray_address,
            ray_cpus=ray_cpus,
        ),
        "replace": replace,
        "retry_failed": retry_failed,
        "rows_per_shard": rows_per_shard,
        "part": part,
        "trust_mtime": trust_mtime,
        "announce": partial(_announce, announced),
        "tell": note,
    }
    with progress_bars() as tell:
        if plan:
            planned = dvme.plan_extraction(images, cache, **inputs, progress=tell)
        else:
            done = dvme.extract(images, cache, **inputs, wait=wait, progress=tell)
    if plan:
        answer(planned, show_plan, is_json=json)
    else:
        answer(done, partial(_show, announced=announced), is_json=json)


def _announce(announced: list[str], task: Task, samples: Samples) -> None:
    """Say what was listed before hours are spent on it."""
    from dvme.data.samples import missing_line, unlisted_line

    unknown = counted(len(samples.unlisted), "folder, archive or link", "folders, archives or links")
    gap = f" ({unknown} NOT LISTED)" if samples.unlisted else ""
    note(f"{counted(len(samples), 'image')}{gap}: {task.describe()}")
    announced += samples.remarks
    for line in (unlisted_line(samples.unlisted), missing_line(samples.missing), *samples.remarks):
        if line:
            note(line)


def _show(report: ExtractReport, announced: Sequence[str]) -> None:
    _show_rows(report)
    show_left_out(report)
    for line in report.remarks:
        if line not in announced:
            say(line)
    table = Table(columns=("backbone", "dim", "reused", "computed", "failed", "images/s"), keys=1, numeric=5)
    for item in report.outcomes:
        speed = f"{item.computed / item.seconds:,.1f}" if item.computed else "-"
        table.add_row(item.backbone, f"{item.dim}", f"{item.reused:,}", f"{item.computed:,}", f"{item.failed:,}", speed)
    table.show(console())
    if report.n_trusted is not None:
        say(
            f"{report.n_trusted:,} of {counted(report.n_files, 'file')} were recognised by size and times, and not read"
        )
    _show_backbones(report)
    _show_failures(report)
    show_greys(report)
    if all(0 < item.reused == item.n_own for item in report.outcomes):
        say("Every embedding was reused; nothing was computed.")
    if report.task.kind in {"unlabelled", "single-class"}:
        say(f"{report.task.describe()}: heads need two classes; dvme cache label {report.cache} TABLE names them")


def _show_backbones(report: ExtractReport) -> None:
    for item in report.outcomes if report.part else ():
        own = f"part {report.part}: {item.n_own:,} of {counted(report.n_rows, 'image')} are its own"
        say(f"{own}; the cache has {item.n_in_cache:,} of {report.n_rows:,} of {item.backbone}")
    for item in report.outcomes:
        if item.choice:
            say(f"{item.backbone}: {item.choice}")
        if item.remark:
            say(f"{item.backbone} is not verified: {item.remark}")


def _show_rows(report: ExtractReport) -> None:
    duplicates = sum(len(files) - 1 for files in report.copies)
    rows = f"{counted(report.n_rows, 'distinct image')} ({report.n_new:,} new to the cache)"
    say(rows + (f"; {counted(duplicates, 'copy', 'copies')} stored once{_example(report)}" if duplicates else ""))
    if report.contradictory:
        shown = first_few(report.contradictory)
        of_what = "copies disagree on label, split, group or mask and take part in nothing"
        say(f"{len(report.contradictory)} {of_what}: {shown}")
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


def _example(report: ExtractReport) -> str:
    """Which files are copies, and whether they are one file by another name."""
    same = counted(len(report.same_files), "file goes", "files go")
    links = f"; {same} by more than one name, such as {' = '.join(report.same_files[0])}" if report.same_files else ""
    return f", such as {' = '.join(report.copies[0][:REASONS_SHOWN])}{links}"


def _show_columns(report: ExtractReport) -> None:
    """What became of labels, their order, splits and groups."""
    from dvme.data.order import order_line

    if report.class_order and not report.task.is_multilabel:
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
    reasons = {file: reason for item in report.outcomes for file, reason in item.reasons.items()}
    reasons = {file: reason for file, reason in reasons.items() if file not in report.unread}
    if reasons:
        n_images = sum(1 for files in report.copies if files[0] in reasons)
        n_images += len(reasons.keys() - {file for files in report.copies for file in files})
        have = "has" if len(reasons) == 1 else "have"
        distinct = f" ({counted(n_images, 'distinct image')})" if n_images < len(reasons) else ""
        say(f"{counted(len(reasons), 'file')}{distinct} {have} no embedding (--retry-failed decodes again):")
        say_some([f"{file}: {reason}" for file, reason in reasons.items()], REASONS_SHOWN)
