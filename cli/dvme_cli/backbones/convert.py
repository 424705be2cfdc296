"""`dvme backbones convert`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvme.text import counted, first_few
from dvme_cli import options
from dvme_cli.console import note, say, show_json

if TYPE_CHECKING:
    from dvme.backbones.conversion.converting import Conversion

DROPPED_SHOWN = 5
WARNING = (
    "--trust: unpickling a file runs whatever code its author put into it, with your rights on this machine. "
    "Only do this with a file from a publisher you trust."
)


def convert(
    source: options.CheckpointFile,
    target: options.Safetensors = None,
    is_trusted: Annotated[
        bool, typer.Option("--trust", help="Allow FILE to run code, if it cannot be read without.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the .safetensors file.")] = False,
    force: options.ForceConversion = False,
    json: options.Json = False,
) -> None:
    """Make a .safetensors file of a checkpoint that cannot be loaded safely. Once per file."""
    from dvme.backbones.conversion.files import check_source, check_target

    if is_trusted:
        note(WARNING)
    made = target or source.parent / f"{source.resolve().name}.safetensors"
    check_target(source, made, overwrite=overwrite)
    check_source(source)
    from dvme.backbones.conversion.converting import convert as convert_file

    done = convert_file(source, made, is_trusted=is_trusted, overwrite=overwrite, force=force)
    if json:
        show_json(asdict(done) | {"file": str(made if done.is_written else source)})
    elif done.is_written:
        _show(done, made)
    else:
        say(f"{source} loads as it is: nothing to convert, nothing written (--force converts it all the same)")
        for remark in done.remarks[1:]:
            say(remark)
        say(f"Next: dvme backbones check NAME --weights {source}")


def _show(done: Conversion, target: Path) -> None:
    how = "unpickled with --trust" if done.had_to_trust else "read without running any code of it"
    say(f"{target}: {counted(done.n_tensors, 'tensor')} of a {done.format} checkpoint, {how}")
    if done.dropped:
        entries = "1 entry is no tensor" if len(done.dropped) == 1 else f"{len(done.dropped):,} entries are no tensors"
        say(f"{entries} of the backbone, left out: {first_few(done.dropped, DROPPED_SHOWN)}")
    for remark in done.remarks:
        say(remark)
    say(f"Next: dvme backbones check NAME --weights {target}")
