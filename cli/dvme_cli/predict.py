"""`dvme predict`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme.defaults import DEVICE
from dvme.text import counted, some_of
from dvme_cli import image_options, options
from dvme_cli.console import answer, note, progress_bars, say, say_some
from dvme_cli.parsing import optional_names, parse_pairs, runtime_of

if TYPE_CHECKING:
    from dvme.prediction.predict import PredictReport

LEFT_OUT_SHOWN = 3


def predict(  # noqa: PLR0913 - one parameter per option
    head: options.Head,
    images: image_options.ImagesOrCache,
    out: options.Predictions,
    cache: options.EmbeddingSource = None,
    backbones: options.OwnBackbones = None,
    architectures: options.Architectures = None,
    weights: options.Weights = None,
    submission: Annotated[
        str | None, typer.Option(help="ID,LABEL: write only these two columns, for a competition.")
    ] = None,
    skip_missing: image_options.SkipMissing = False,
    frame: image_options.EachFrame = None,
    mask: image_options.MaskColumns = None,
    mask_classes: image_options.MaskClasses = None,
    mask_void: image_options.MaskVoid = None,
    mask_encoding: image_options.MaskEncoding = None,
    force: options.Force = False,
    device: image_options.Devices = DEVICE,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    max_pixels: image_options.MaxPixels = None,
    json: options.Json = False,
) -> None:
    """Apply a saved head: one line per image with its class and probabilities, or a folder with a mask of each."""
    with progress_bars() as tell:
        report = dvme.predict(
            head,
            images,
            out=out,
            cache=cache,
            backbones=optional_names(backbones, "--backbones") or (),
            architectures=parse_pairs(architectures or [], "--arch", "ARCHITECTURE"),
            weights=parse_pairs(weights or [], "--weights", "PATH"),
            submission=optional_names(submission, "--submission"),
            skip_missing=skip_missing,
            frame=frame,
            mask=optional_names(mask, "--mask-col") or (),
            mask_classes=mask_classes,
            mask_void=mask_void or (),
            mask_encoding=mask_encoding,
            force=force,
            runtime=runtime_of(device=device, batch_size=batch_size, workers=workers, max_pixels=max_pixels),
            tell=note,
            progress=tell,
        )
    answer(report, partial(_show, cache=cache), is_json=json)


def _show(report: PredictReport, cache: str | None) -> None:
    counts = some_of([f"{name} ({count:,})" for name, count in report.counts.items()])
    what = "image" if report.dice is None else "mask"
    say(f"{report.out}: {counted(report.n_rows, what)} by {report.head} on {'+'.join(report.backbones)}: {counts}")
    if report.dice is not None:
        _show_masks(report)
    elif report.n_without_finding is not None:
        say(f"findings with a probability above a half; {counted(report.n_without_finding, 'image')} without any")
    for line in report.remarks:
        say(line)
    if report.kept_in is not None and report.n_computed:
        kept = f"embeddings of {counted(report.n_computed, 'image')} are kept in {report.kept_in}"
        say(kept if report.kept_in == cache else f"{kept}; {cache} and its study stay as they were")
    if report.n_known:
        say(f"{report.n_known:,} of them the head was fitted on; their predictions say nothing about new images")
    if report.left_out:
        say(f"{len(report.left_out):,} without a prediction:")
        say_some([f"{image}: {reason}" for image, reason in report.left_out.items()], LEFT_OUT_SHOWN)


def _show_masks(report: PredictReport) -> None:
    say(f"areas are in {report.out}/areas.csv; {counted(report.n_without_finding or 0, 'image')} without any class")
    if report.n_scored:
        scores = some_of([f"{name} {score:.3f}" for name, score in (report.dice or {}).items()])
        which = f"{counted(report.n_scored, 'image')} with a mask, which the head was not fitted on"
        say(f"Dice, mean over {which}: {scores}")
