"""`dvme adapt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

import dvme
from dvme.defaults import ADAPT_EPOCHS, DEVICE, NO_FINDING
from dvme.text import by_name_text, counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, note, progress_bars, say
from dvme_cli.parsing import parse_pairs, runtime_of, typed

if TYPE_CHECKING:
    from dvme.adaptation.adapt import AdaptReport


def adapt(  # noqa: PLR0913, PLR0917 - one parameter per option
    images: image_options.Images,
    backbone: options.FirstBackbone,
    method: options.Adaptation,
    out: options.AdaptedBackbone,
    image: image_options.ImageColumn = None,
    label: image_options.TaughtLabels = None,
    label_separator: image_options.LabelSeparator = None,
    no_finding: image_options.NoFinding = NO_FINDING,
    split: image_options.LeftOutSplit = None,
    group: image_options.GroupColumn = None,
    na_values: image_options.NaValues = None,
    frame: image_options.EachFrame = None,
    image_root: image_options.ImageRoot = None,
    skip_missing: image_options.SkipMissing = False,
    without_test: Annotated[
        bool,
        typer.Option("--without-test", help="IMAGES has no test part: train on all; no study may test on them."),
    ] = False,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="Train on the test part, too; every table of a study says so.")
    ] = False,
    augment: Annotated[
        str | None,
        typer.Option(help="How views differ: xray, photo or pathology. Default: xray if all are grey, else photo."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=f"Default: {by_name_text(ADAPT_EPOCHS)}.")] = None,
    batch_size: options.PairsAStep = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="After the warm-up. Default: 0.0001; 0.0002 of supervised; 0.3 / 512 an image with LARS."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the contrastive loss. Default: 0.1 of simclr and micle.")
    ] = None,
    random_weights: Annotated[
        int | None, typer.Option(help="A seed: begin with random weights, for a control of as many steps.")
    ] = None,
    weights: options.Weights = None,
    architectures: options.Architectures = None,
    seed: options.Seed = None,
    force: options.Force = False,
    device: options.Device = DEVICE,
    workers: options.Workers = None,
    memory: options.Memory = None,
    max_pixels: image_options.LargestImage = None,
    json: options.Json = False,
) -> None:
    """Train the weights of a backbone further on IMAGES, without their test part, and write a backbone of your own."""
    columns = dvme.Columns(
        image=image,
        label=label,
        split=split,
        group=group,
        label_separator=label_separator,
        no_finding=no_finding,
        frame=frame,
        **typed(na_values=na_values),
    )
    said = {"skip_missing": skip_missing, "without_test": without_test, "transductive": transductive, "force": force}
    numbers = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "temperature": temperature}
    settings: dict[str, Any] = said | numbers | typed(seed=seed)
    with progress_bars() as tell:
        report = dvme.adapt(
            images,
            backbone,
            method,
            out,
            columns=columns,
            image_root=image_root,
            augment=augment,
            random_weights=random_weights,
            weights=parse_pairs(weights or [], "--weights", "PATH"),
            architectures=parse_pairs(architectures or [], "--arch", "ARCHITECTURE"),
            runtime=runtime_of(device=device, workers=workers, memory=memory, max_pixels=max_pixels),
            progress=tell,
            announce=note,
            **settings,
        )
    answer(report, _show, is_json=json)


def _show(report: AdaptReport) -> None:
    resumed = f", {report.n_resumed:,} of them before" if report.n_resumed else ""
    steps = f"{counted(report.n_epochs, 'epoch')} of {report.method} in {counted(report.n_steps, 'step')}{resumed}"
    say(f"{report.out}: {report.backbone}, {steps}, {report.seconds:,.0f} s")
    if report.is_transductive:
        say("It may have seen images of a test part, without their labels; tables of a study say so.")
    say(f"dvme extract IMAGES CACHE --backbones {report.base},{report.out} puts both into one study")
