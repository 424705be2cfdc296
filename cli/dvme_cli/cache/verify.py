"""`dvme cache verify`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme.defaults import DEVICE
from dvme.text import counted
from dvme_cli import image_options, options
from dvme_cli.console import answer, progress_bars, say, say_some, size
from dvme_cli.parsing import optional_names, parse_pairs, runtime_of, typed

if TYPE_CHECKING:
    from dvme.upkeep.reextraction import Comparison
    from dvme_cache import Finding

FINDINGS_SHOWN = 20


def verify(  # noqa: PLR0913 - one parameter per option
    cache: options.Cache,
    sample: Annotated[
        int | None, typer.Option(help="Random embeddings to check per backbone. Default: all of them.")
    ] = None,
    images: image_options.ImagesAgain = False,
    backbones: options.ComparedBackbones = None,
    weights: options.Weights = None,
    device: options.Device = DEVICE,
    seed: options.Seed = None,
    max_pixels: image_options.LargestImage = None,
    json: options.Json = False,
) -> None:
    """Check every file of CACHE against what was committed. Exit code 1 if anything has to be repaired."""
    with progress_bars() as tell:
        report = dvme.cache.verify(
            cache,
            sample=sample,
            images=images,
            backbones=optional_names(backbones, "--backbones"),
            weights=parse_pairs(weights or [], "--weights", "PATH"),
            runtime=runtime_of(device=device, max_pixels=max_pixels),
            **typed(seed=seed),
            progress=tell,
        )
    answer(report, _show, is_json=json)
    if not report.is_sound:
        raise typer.Exit(1)


def _show(report: dvme.cache.VerifyReport) -> None:
    say(
        f"{report.cache}: {counted(report.n_files, 'file')}, {size(report.n_bytes)}; "
        f"{counted(report.n_embeddings, 'embedding')} compared with their checksums"
    )
    show_findings(report.findings)
    for item in report.comparisons:
        say(_compared(item))
    if report.n_pending:
        are = "is" if report.n_pending == 1 else "are"
        say(f"{counted(report.n_pending, 'embedding')} {are} pending: not extracted yet, or gone with all files.")
    if report.is_sound:
        say("Sound: what is there is as it was committed.")
    elif any(finding.is_damage for finding in report.findings):
        say(f"Damaged: run dvme cache repair {report.cache}, then dvme extract again.")
    else:
        say("Not proven: embeddings and images do not agree, or none could be compared.")


def show_findings(findings: list[Finding]) -> None:
    """Print findings, the damage first, and how many rows each costs."""
    lines = [
        f"{finding.kind}: {finding.what}" + (f" ({counted(finding.n_rows, 'row')})" if finding.n_rows else "")
        for finding in sorted(findings, key=lambda finding: not finding.is_damage)
    ]
    say_some(lines, FINDINGS_SHOWN)


def _compared(item: Comparison) -> str:
    if item.skipped:
        return f"{item.backbone}: not compared with images: " + item.skipped
    largest = "-" if math.isnan(item.largest_difference) else f"{item.largest_difference:.1e}"
    compared = counted(item.n_compared, "image")
    text = f"{item.backbone}: {compared} embedded again, largest relative difference {largest}"
    if item.n_unavailable:
        text += f"; {counted(item.n_unavailable, 'image')} no longer there"
    if item.n_different:
        differ = "DIFFERS" if item.n_different == 1 else "DIFFER"
        text += f"; {item.n_different:,} {differ} by more than 1e-3, such as {Path(item.different[0])}"
    return text
