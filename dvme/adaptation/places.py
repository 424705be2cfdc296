"""Where an adaptation goes, and what is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.own.writing import can_be_written
from dvme.defaults import PRECISION
from dvme.errors import DataError, OptionError
from dvme.files import check_destination
from dvme.training.checkpoints import LAST, SUFFIX


def places_of(out: Path) -> dict[str, Path]:
    """The files of an adapted backbone, by what they hold; the TOML is the last to be there."""
    kinds = {"weights": ".safetensors", "trained_on": ".trained_on", "epochs": ".json", "toml": ".toml"}
    return {what: out.with_suffix(suffix) for what, suffix in kinds.items()}


def training_folder(out: Path) -> Path:
    """Where the last epoch is kept until the end: FILE.toml.training beside FILE.toml."""
    return out.with_name(f"{out.name}.training")


def check_out(out: str | Path, *, force: bool) -> Path:
    """The TOML's place, if it and the files beside it can be written.

    Raises:
        OptionError: if one is there already, or cannot be.
    """
    place = Path(out)
    if place.suffix.lower() != ".toml":
        raise OptionError(f"{place} does not end in .toml; name such a file, and the weights come beside it")
    folder = training_folder(place)
    stray = [each.name for each in folder.iterdir() if f"{LAST}{SUFFIX}" not in each.name] if folder.is_dir() else []
    if stray or folder.is_file():
        raise OptionError(
            f"{folder} is for the last epoch, and holds something else; name another file, or move that away"
        )
    for each in reversed(places_of(place).values()):
        check_destination(each, (), force=force or folder.is_dir())  # what was begun is ended there
    return place


def check_describable(spec: BackboneSpec) -> None:
    """Refuse a backbone whose adapted weights no TOML could describe, before any training.

    Raises:
        DataError: naming the reason.
    """
    if not can_be_written(spec):
        reason = "a repository of the hub describes it" if spec.source == "hub" else "Python builds it"
    elif not spec.view.is_plain:
        reason = "it is a view of the images"
    elif spec.precision != PRECISION:
        reason = f"it computes in {spec.precision}, and weights are trained in {PRECISION}"
    else:
        return
    raise undescribable(spec, reason)


def undescribable(spec: BackboneSpec, reason: str) -> DataError:
    """What says that no TOML describes a backbone."""
    return DataError(f"{spec.name} cannot be adapted and described in a TOML file, for {reason}; name another one")
