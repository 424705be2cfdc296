"""`dvme explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dvme
from dvme.defaults import DEVICE
from dvme.text import difference_text
from dvme_cli import options
from dvme_cli.console import answer, console, progress_bars, say
from dvme_cli.parsing import runtime_of
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.explanation.ablation import Ablation
    from dvme.explanation.explain import ExplainReport


def explain(  # noqa: PLR0913 - one parameter per option
    head: options.Head,
    cache: options.Cache,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Also those that the head was fitted on; losses then flatter it.")
    ] = False,
    retrain: Annotated[bool, typer.Option("--retrain", help="Also fit the head again without each backbone.")] = False,
    full_map: Annotated[
        Path | None, typer.Option(help="A .npy file for the attention between all tokens of the dvme head.")
    ] = None,
    out: options.Numbers = None,
    force: options.Force = False,
    device: options.Device = DEVICE,
    memory: options.Memory = None,
    json: options.Json = False,
) -> None:
    """Show who attends to whom in a fusion, what each backbone is good for, and how alike they are."""
    with progress_bars() as tell:
        report = dvme.explain(
            head,
            cache,
            all_images=all_images,
            retrain=retrain,
            full_map=full_map,
            out=out,
            force=force,
            runtime=runtime_of(device=device, memory=memory),
            progress=tell,
        )
    answer(report, _show, is_json=json)


def _show(report: ExplainReport) -> None:
    say(f"{report.head} on {'+'.join(report.backbones)}, {report.n_folds} folds, explained on {report.images}")
    if report.attention is None:
        say(f"{report.head} has no attention to show.")
    else:
        _show_attention(report)
    _show_ablation(report.reliance, "The head as it is, one backbone's embedding replaced by its mean:")
    if report.retrained is not None:
        _show_ablation(report.retrained, "The head fitted again on the other backbones:")
        say("Its intervals hold the luck of the test images, not that of the training: another seed moves these too.")
    if report.backbones[1:]:
        _show_similarity(report)
    if report.full_map is not None:
        say(f"saved {report.full_map}")


def _show_similarity(report: ExplainReport) -> None:
    headings = ("linear CKA (debiased)", *report.backbones)
    table = Table(columns=headings, keys=1, numeric=len(report.backbones))
    for name, plain, debiased in zip(report.backbones, report.similarity.cka, report.similarity.debiased, strict=True):
        table.add_row(name, *(f"{value:.2f} ({other:.2f})" for value, other in zip(plain, debiased, strict=True)))
    table.show(console())
    say("1: the two backbones tell the images apart in the same way; 0: in unrelated ways.")


def _show_attention(report: ExplainReport) -> None:
    assert report.attention is not None
    maps = {"all": report.attention.overall, **report.attention.classes}
    headings = ("images", "from", *(f"to {name}" for name in report.backbones))
    table = Table(columns=headings, keys=2, numeric=len(report.backbones), grouped=1)
    for which, attention in maps.items():
        for a, name in enumerate(report.backbones):
            cells = zip(attention.mean[a], attention.std_over_folds[a], strict=True)
            table.add_row(
                f"{which} ({attention.n_samples:,})", name, *(f"{mean:.3f} ± {std:.3f}" for mean, std in cells)
            )
    table.show(console())
    equal = 1.0 / len(report.backbones)
    say(f"Attention: rows sum to 1, {equal:.3f} everywhere is no preference; mean ± std over folds.")


def _show_ablation(ablation: Ablation, heading: str) -> None:
    headings = ("without", "test log loss", "change of loss, 95% CI", "test AUC", "change of AUC, 95% CI")
    table = Table(columns=headings, keys=1, numeric=4)
    intact = ablation.intact
    table.add_row("(nothing left out)", f"{intact.log_loss.mean:.3f}", "", f"{intact.auc.mean:.3f}", "")
    for item in ablation.left_out:
        loss, auc = item.log_loss_difference, item.auc_difference
        table.add_row(
            item.backbone,
            f"{item.performance.log_loss.mean:.3f}",
            difference_text(loss),
            f"{item.performance.auc.mean:.3f}",
            difference_text(auc),
        )
    say(heading)
    table.show(console())
