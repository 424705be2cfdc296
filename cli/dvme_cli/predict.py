"""`dvme predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dvme.defaults import DEVICE
from dvme.text import counted, some_of
from dvme_cli.console import expected_errors, progress_bars, say, show_json
from dvme_cli.options import (
    Architectures,
    BatchSize,
    Device,
    EmbeddingSource,
    Force,
    Head,
    ImagesOrCache,
    Json,
    MaxPixels,
    OwnBackbones,
    Predictions,
    SkipMissing,
    Weights,
    Workers,
)
from dvme_cli.parsing import optional_names, parse_pairs, runtime_of

if TYPE_CHECKING:
    from dvme.prediction.predict import PredictReport

LEFT_OUT_SHOWN = 3


def predict(  # noqa: PLR0913 - one parameter per option
    head: Head,
    images: ImagesOrCache,
    out: Predictions,
    cache: EmbeddingSource = None,
    backbones: OwnBackbones = None,
    architectures: Architectures = None,
    weights: Weights = None,
    submission: Annotated[
        str | None, typer.Option(help="ID,LABEL: write only these two columns, for a competition.")
    ] = None,
    skip_missing: SkipMissing = False,
    force: Force = False,
    device: Device = DEVICE,
    batch_size: BatchSize = None,
    workers: Workers = None,
    max_pixels: MaxPixels = None,
    json: Json = False,
) -> None:
    """Apply a saved head: one line per image with its class and probabilities."""
    with expected_errors():
        import dvme

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
                force=force,
                runtime=runtime_of(device=device, batch_size=batch_size, workers=workers, max_pixels=max_pixels),
                progress=tell,
            )
        if json:
            show_json(report.to_json())
        else:
            _show(report, cache)


def _show(report: PredictReport, cache: str | None) -> None:
    counts = some_of([f"{name} ({count:,})" for name, count in report.counts.items()])
    say(f"{report.out}: {report.n_rows:,} images by {report.head} on {'+'.join(report.backbones)}: {counts}")
    for line in report.remarks:
        say(line)
    if report.kept_in is not None and report.n_computed:
        kept = f"embeddings of {counted(report.n_computed, 'image')} are kept in {report.kept_in}"
        say(kept if report.kept_in == cache else f"{kept}; {cache} and its study stay as they were")
    if report.n_known:
        say(f"{report.n_known:,} of them the head was fitted on; their predictions say nothing about new images")
    if report.left_out:
        say(f"{len(report.left_out):,} without a prediction:")
        for image, reason in list(report.left_out.items())[:LEFT_OUT_SHOWN]:
            say(f"  {image}: {reason}")
        if len(report.left_out) > LEFT_OUT_SHOWN:
            say(f"  ... and {len(report.left_out) - LEFT_OUT_SHOWN} more (--json lists all)")
