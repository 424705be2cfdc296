"""`dvme data`: a manifest of a public set, and what sets there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

import dvme
from dvme.text import counted, some_of
from dvme_cli import image_options, options
from dvme_cli.commands import Commands
from dvme_cli.console import answer, console, say, show_json
from dvme_cli.interrupted import add_command
from dvme_cli.parsing import optional_names
from dvme_cli.table import Table

if TYPE_CHECKING:
    from dvme.sets.building import BuiltManifest

GROUP = "data"
VIEWED = ("nih-cxr14", "google2019", "chexpert")
"""Sets whose command has no option of its own but `--views`."""
PLAIN = ("aptos", "patchcam", "kermany-pneumonia", "montgomery", "shenzhen")
"""Sets whose command has no option of its own."""
EDITIONS = ("isic", "medmnist")
"""Sets of which several may lie in one folder."""

app = typer.Typer(cls=Commands, help="Make a manifest of a public set from its download, or list the sets.")


def list_(json: options.Json = False) -> None:
    """List the public sets: task, size, patients, licence, where published, and whose pictures they have."""
    sets = dvme.public_sets()
    if json:
        show_json([each.to_json() for each in sets])
        return
    table = Table(columns=("set", "images", "patients"), keys=1, numeric=2)
    for each in sets:
        patients = "not told" if each.n_patients is None else f"{each.n_patients:,}"
        table.add_row(each.name, f"{each.n_images:,}", patients)
    table.show(console())
    for each in sets:
        say(f"{each.name}: {each.title}; {each.task}")
        say(f"{each.size}; {each.licence}")
        say(each.published)
        if each.shares_with:
            say(f"Shares pictures with {some_of(each.shares_with)}")
        say("")


def _viewed(name: str) -> Callable[..., None]:
    """The command of a set that tells the views of its images."""

    def build(
        folder: image_options.UnpackedSet,
        out: options.ManifestFile,
        views: image_options.Views = None,
        force: options.Force = False,
        json: options.Json = False,
    ) -> None:
        _build(name, folder, out, force=force, json=json, views=optional_names(views, "--views"))

    return build


def _plain(name: str) -> Callable[..., None]:
    """The command of a set that leaves no choice."""

    def build(
        folder: image_options.UnpackedSet,
        out: options.ManifestFile,
        force: options.Force = False,
        json: options.Json = False,
    ) -> None:
        _build(name, folder, out, force=force, json=json)

    return build


def _edited(name: str) -> Callable[..., None]:
    """The command of a set of which several may lie in one folder."""

    def build(
        folder: image_options.UnpackedSet,
        out: options.ManifestFile,
        edition: image_options.Edition = None,
        force: options.Force = False,
        json: options.Json = False,
    ) -> None:
        _build(name, folder, out, force=force, json=json, edition=edition)

    return build


def _padchest(
    folder: image_options.UnpackedSet,
    out: options.ManifestFile,
    views: image_options.Views = None,
    labels: Annotated[
        str | None,
        typer.Option(help="common (15 findings, named as NIH's) or all (the publisher's own labels). Default: common."),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    _build("padchest", folder, out, force=force, json=json, views=optional_names(views, "--views"), labels=labels)


def _vindr(
    folder: image_options.UnpackedSet,
    out: options.ManifestFile,
    readers: Annotated[
        str | None,
        typer.Option(help="majority (more than half decides) or shares (the part that saw it). Default: majority."),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    _build("vindr", folder, out, force=force, json=json, readers=readers)


def _build(name: str, folder: Any, out: Any, *, force: bool, json: bool, **own: Any) -> None:
    answer(dvme.public_set(name, folder, out, force=force, **own), _show, is_json=json)


def _show(built: BuiltManifest) -> None:
    parts = ", ".join(f"{part} {count:,}" for part, count in built.splits.items())
    groups = counted(built.n_groups, "group") if built.n_groups else "no patients"
    say(f"{built.set.title}: {counted(len(built), 'image')}, {groups}; official split: {parts or 'none'}")
    table = Table(columns=("label", "images"), keys=1, numeric=1)
    for finding, count in built.classes.items():
        table.add_row(finding, f"{count:,}")
    table.show(console())
    for remark in built.remarks:
        say(remark)
    say(f"wrote {built.path}: {', '.join(built.columns)}")


def _add(name: str, build: Callable[..., None]) -> None:
    build.__doc__ = f"Make a manifest of {name} from FOLDER, into which its download was unpacked."
    add_command(app, f"{GROUP} {name}", build)


add_command(app, f"{GROUP} list", list_)
for _name in VIEWED:
    _add(_name, _viewed(_name))
_add("padchest", _padchest)
_add("vindr", _vindr)
for _name in PLAIN:
    _add(_name, _plain(_name))
for _name in EDITIONS:
    _add(_name, _edited(_name))
