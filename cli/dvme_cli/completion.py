"""What the shell completes: names of backbones and of heads, each after the last comma of a list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer


def known_backbones(incomplete: str) -> list[str]:
    """Of the zoo and of installed packages."""
    from dvme.backbones import names
    from dvme.backbones.own.custom import installed_names

    return _continued(incomplete, [*names(), *installed_names()])


def kept_backbones(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the cache that stands in the command; of a remote one, or of none, those that are known."""
    from dvme_cache.layout import backbone_names

    # The option that is being typed has no value yet, and click leaves what it has not read among the arguments.
    cache = ctx.params.get("cache") or next(iter(ctx.args), "")
    kept = backbone_names(Path(f"{cache}"))
    return _continued(incomplete, kept) if kept else known_backbones(incomplete)


def heads(incomplete: str) -> list[str]:
    """Of labels and of masks, without settings."""
    from dvme.heads import HEADS, SEGMENT, TUNED, UNETS

    return _continued(incomplete, (*HEADS, *TUNED, *SEGMENT, *UNETS))


def _continued(incomplete: str, names: Iterable[str]) -> list[str]:
    """The list as it is so far, with each name that it lacks; typer leaves out what does not begin as it was typed."""
    before, comma, _ = incomplete.rpartition(",")
    taken = set(before.split(","))
    return [f"{before}{comma}{name}" for name in names if name not in taken]
