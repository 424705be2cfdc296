"""A public set as the images of a command: SET:FOLDER, without a manifest in between."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dvme.data import Columns, Samples, samples_at, samples_of
from dvme.data.tables import Table
from dvme.errors import DataError, OptionError, message_of
from dvme.runtime import Progress, silent
from dvme.sets.building import public_set
from dvme.sets.catalogue import SETS


def is_public_set(images: str | Path) -> bool:
    """Whether images are named as SET:FOLDER, and no file or folder is called so."""
    name, colon, _ = os.fspath(images).partition(":")
    return bool(colon) and any(each.name == name for each in SETS) and not Path(images).exists()


def set_samples(images: str | Path, columns: Columns, progress: Progress = silent) -> Samples:
    """The images of SET:FOLDER and what its publisher says of them, as of the manifest that `public_set` builds.

    Raises:
        The same as `public_set`.
    """
    name, _, folder = os.fspath(images).partition(":")
    try:
        built = public_set(name, folder)
    except (DataError, OptionError) as error:
        step = f"; where that leaves a choice, dvme data {name} {folder} --out {name}.csv takes it"
        raise type(error)(message_of(error) + step) from error
    table = Table(Path(folder) / name, list(built.columns), len(built), lambda column: list(built.columns[column]))
    samples = samples_of(table, columns, progress)
    return replace(samples, remarks=(*built.remarks, *samples.remarks))


def listed_samples(
    images: str | Path,
    columns: Columns | None,
    image_root: str | Path | None = None,
    *,
    skip_missing: bool = False,
    progress: Progress = silent,
) -> Samples:
    """The images of a command that takes SET:FOLDER as well as whatever `samples_at` takes.

    Raises:
        The same as `set_samples` and `samples_at`.
    """
    if is_public_set(images) and image_root is None:
        return set_samples(images, columns or Columns(), progress)
    return samples_at(images, columns or Columns(), image_root, skip_missing=skip_missing, progress=progress)
