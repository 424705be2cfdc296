"""`dvme predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme.text import counted, some_of
from dvme_cli.arguments import MaxPixels, parse_names, parse_pairs
from dvme_cli.console import expected_errors, progress_bars, say, show_json

if TYPE_CHECKING:
    from dvme.prediction.predict import PredictReport

LEFT_OUT_SHOWN = 3


def predict(  # noqa: PLR0913 - one parameter per option
    head: Annotated[Path, typer.Argument(help="A head's folder, made by dvme probe --save, or in a run's heads.")],
    images: Annotated[str, typer.Argument(help="A folder or manifest of images, or a cache.")],
    out: Annotated[Path, typer.Option(help="The .csv or .parquet file to write.")],
    cache: Annotated[
        str | None,
        typer.Option(
            help="A cache to take embeddings from, which stays as it is; those of new images are kept beside it, in "
            "NAME.predicted.zarr. Default: they are not kept."
        ),
    ] = None,
    backbones: Annotated[
        str | None,
        typer.Option(
            help='The head\'s that are your own: FILE.py:NAME, FILE.toml, separated by commas; "x,y" in quotes.'
        ),
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option(help="NAME=ARCHITECTURE of a torchvision-style checkpoint. Repeatable.")
    ] = None,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=PATH: a local checkpoint. Repeatable.")] = None,
    submission: Annotated[
        str | None, typer.Option(help="ID,LABEL: write only these two columns, for a competition.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out what a manifest names and is not there.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Images per forward pass of the extraction.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding threads.")] = None,
    max_pixels: MaxPixels = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
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
                backbones=() if backbones is None else parse_names(backbones, "--backbones"),
                architectures=parse_pairs(arch or [], "--arch", "ARCHITECTURE"),
                weights=parse_pairs(weights or [], "--weights", "PATH"),
                submission=None if submission is None else parse_names(submission, "--submission"),
                skip_missing=skip_missing,
                force=force,
                runtime=dvme.Runtime(device=device, batch_size=batch_size, workers=workers, max_pixels=max_pixels),
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
