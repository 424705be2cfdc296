"""`dvme backbones check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dvme.defaults import DEVICE
from dvme.text import counted
from dvme_cli import options
from dvme_cli.console import answer, console, say
from dvme_cli.parsing import runtime_of
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.backbones.loading.diagnosis import Diagnosis, Statistics


def check(
    name: options.Backbone,
    weights: options.OwnWeights = None,
    architecture: options.OwnArchitecture = None,
    device: options.Device = DEVICE,
    json: options.Json = False,
) -> None:
    """Load a checkpoint strictly, say what was used and left over, and run real photographs through it."""
    from dvme.backbones.loading.diagnosis import diagnose

    arch = None if architecture is None else _architecture_of(architecture, name)
    file = None if weights is None else _file_of(weights, name, arch)
    found = diagnose(name, weights=file, architecture=arch, runtime=runtime_of(device=device))
    answer(found, _show, is_json=json)
    if found.problems:
        raise typer.Exit(1)


def _architecture_of(arch: str, name: str) -> str:
    """The architecture of [NAME=]ARCHITECTURE, where NAME is the backbone's."""
    from dvme.backbones.description.variation import split_name

    named, separator, architecture = arch.rpartition("=")
    base = split_name(name)[0]
    if separator and (named not in {name, base} or not architecture):
        raise typer.BadParameter(
            f"--arch {arch} is not for {base}; pass --arch {base}={architecture or 'ARCHITECTURE'}"
        )
    return architecture


def _file_of(weights: str, name: str, arch: str | None) -> Path:
    """The path of [NAME=]PATH, where NAME may be the backbone's with or without its variations or its file."""
    from dvme.backbones import get_spec
    from dvme.backbones.description.variation import split_name

    names = {name, split_name(name)[0]}
    if arch is None and "=" in weights:
        names |= {split_name(get_spec(name).name)[0]}
    named = [weights.removeprefix(f"{known}=") for known in names if weights.startswith(f"{known}=")]
    return Path(min(named, key=len, default=weights))


def _show(found: Diagnosis) -> None:
    if found.path:
        say(f"{found.name}: {found.path} fits {found.architecture}, strictly")
        say(f"{counted(found.n_used, 'tensor')} used, {sum(found.left_over.values()):,} left over as the layout allows")
    else:
        say(f"{found.name}: {found.architecture} needs no weights file")
    for prefix, count in found.left_over.items():
        say(f"  left over: {prefix} ({count})")
    if found.choice:
        say(found.choice[:1].upper() + found.choice[1:])
    columns = {"this file" if found.path else "this model": _rows(found.features)}
    if found.untrained is not None:
        columns["untrained"] = _rows(found.untrained)
    table = Table(columns=("features of photographs", *columns), keys=1, numeric=len(columns))
    for title in _rows(found.features):
        table.add_row(title, *(rows[title] for rows in columns.values()))
    table.show(console())
    if found.features.n_dead and not found.problems:
        say("Dead dimensions: ReLU features that crops of two photographs do not excite; up to half of them is usual.")
    for problem in found.problems:
        say(f"Broken: {problem}")
    for remark in found.remarks:
        say(f"Look twice: {remark}")
    if not found.problems and not found.remarks:
        say("Nothing looks broken.")


def _rows(features: Statistics) -> dict[str, str]:
    return {
        "dimensions": f"{features.dim:,}",
        "dead dimensions": f"{features.n_dead:,}",
        "not finite": f"{features.n_not_finite:,}",
        "root mean square": f"{features.rms:.4g}",
        "smallest and largest": f"{features.low:.4g} to {features.high:.4g}",
        "cosine of different photographs": f"{features.similarity:.4f}",
        "cosine of crops of one photograph": f"{features.own_similarity:.4f}",
    }
