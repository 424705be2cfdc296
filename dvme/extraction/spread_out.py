"""An extraction on the workers of a cluster: shards go out as rows and addresses, embeddings come back.

The driver is the cache's one writer and commits. A worker loads each backbone once, and embeds a shard as a process by
itself would, in the same batches: who computed a shard changes no bit, on machines that compute alike.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.cluster import cluster
from dvme.data.decoded import Told
from dvme.data.sources import read_image
from dvme.errors import ClusterError, DvmeError
from dvme.extraction.decoding import Work
from dvme.extraction.embedding import Commits, Extracted, extract_shards
from dvme.extraction.gathering import Target, shard_bytes
from dvme.extraction.models import Choice, load_specs
from dvme.runtime import Runtime
from dvme.text import counted
from dvme_cache.files import is_url

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

SHARED = "a cluster needs them on storage that all of its machines share, at the same path"


@dataclass(frozen=True)
class Recipe:
    """What all workers are told."""

    choice: Choice
    """Backbones by name, and their files."""
    names: Sequence[str]
    """Of the targets' backbones."""
    dtypes: Sequence[str]
    """Of what is kept."""
    digests: Sequence[str]
    """Of the targets' fingerprints, as the driver has them."""
    folder: str
    """Where relative paths begin."""
    runtime: Runtime


@dataclass(frozen=True)
class Portion:
    """Shards of several backbones, whose images are decoded once."""

    shards: Mapping[int, NDArray[np.int64]]
    """Number of a target to rows of one of its shards."""
    work: Sequence[Work]
    """All of these rows, ascending."""


@dataclass
class PortionDone:
    """What came of a portion."""

    host: str
    kept: list[tuple[int, NDArray[Any], NDArray[Any], Mapping[int, str]]] = field(default_factory=list)
    """Target, rows (B,), features (B, D), and row to reason of those that have none."""
    unread: list[tuple[int, dict[int, str]]] = field(default_factory=list)
    """Target, and row to reason of the files that could not be read just now."""
    told: dict[int, tuple[Told, ...]] = field(default_factory=dict)
    """Row to what there is to say about its range of grey."""


def extract_on_cluster(
    targets: Sequence[Target],
    work_of: Callable[[Sequence[int]], Sequence[Work]],
    choice: Choice,
    runtime: Runtime,
    tell: Callable[[int, int], None],
    *,
    n_writers: int = 1,
) -> Extracted:
    """As `extract_shards`, on a Ray cluster. A shard is committed whole, as soon as its worker is done with it.

    Args:
        targets: backbones and the rows that each lacks.
        work_of: where the images of some rows lie.
        choice: how a worker finds the backbones.
        runtime: batch size, workers, the largest image, and the cluster.
        tell: called with the number of a target and how many of its images are done.
        n_writers: shards that are committed at a time.

    Raises:
        ClusterError: if the cluster cannot be used, a worker lacks the images or has other weights, or a portion takes
            down several workers.
    """
    extracted = Extracted([{} for _ in targets], [0.0] * len(targets))
    portions = portions_of(targets, work_of)
    if not portions:
        return extracted
    started, n_done = time.perf_counter(), [0] * len(targets)
    with cluster(runtime.ray_address) as there, Commits(n_writers, max(map(shard_bytes, targets))) as commits:
        share, alone = there.share_of(runtime)
        recipe = Recipe(
            choice=choice,
            names=[target.model.spec.name for target in targets],
            dtypes=[target.dtype for target in targets],
            digests=[target.model.fingerprint(target.dtype).digest for target in targets],
            folder=str(Path.cwd()),
            runtime=alone,
        )
        for index, done in there.work_off(portions, partial(make_embed, recipe), share=share, named=_named):
            _check_seen(portions[index], done)
            for number, rows, features, failed in done.kept:
                commits.add(partial(targets[number].keep, rows, features, failed))
            for number, unread in done.unread:
                extracted.unread[number].update(unread)
            extracted.told |= done.told
            for number, rows in portions[index].shards.items():
                n_done[number] += len(rows)
                extracted.seconds[number] = time.perf_counter() - started
                tell(number, n_done[number])
    return extracted


def portions_of(targets: Sequence[Target], work_of: Callable[[Sequence[int]], Sequence[Work]]) -> list[Portion]:
    """Shards that have images in common go together, as far as backbones are cut alike."""
    shards = [
        (int(rows[0]), number, np.asarray(rows, dtype=np.int64))
        for number, target in enumerate(targets)
        for rows in target.shards
    ]
    found: list[dict[int, NDArray[np.int64]]] = []
    last = -1
    for first, number, rows in sorted(shards, key=lambda shard: shard[:2]):
        if first > last or number in found[-1]:
            found.append({})
            last = -1
        found[-1][number] = rows
        last = max(last, int(rows[-1]))
    folder = Path.cwd()
    return [
        Portion(own, [_located(item, folder) for item in work_of(np.unique(np.concatenate([*own.values()])).tolist())])
        for own in found
    ]


def make_embed(recipe: Recipe) -> Callable[[Portion], PortionDone]:
    """What embeds a portion, in a worker."""
    with suppress(OSError):  # without it relative paths are not found, which is said of them
        os.chdir(recipe.folder)
    models: dict[int, Backbone] = {}

    def embed(portion: Portion) -> PortionDone:
        done = PortionDone(socket.gethostname())
        for number in portion.shards:
            if number not in models:
                models[number] = _loaded(recipe, number, list(models.values()))

        def keep(number: int, rows: NDArray[Any], features: NDArray[Any], failed: Mapping[int, str]) -> None:
            done.kept.append((number, rows, features, failed))

        targets = [
            Target(models[number], [rows], recipe.dtypes[number], partial(keep, number))
            for number, rows in portion.shards.items()
        ]
        work = {item.row: item for item in portion.work}
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # Pillow's, as of one process
            found = extract_shards(targets, lambda rows: [work[row] for row in rows], recipe.runtime, lambda *_: None)
        done.unread.extend(zip(portion.shards, found.unread, strict=True))
        done.told = found.told
        return done

    return embed


def _loaded(recipe: Recipe, number: int, there: Sequence[Backbone]) -> Backbone:
    """A backbone, which is the driver's; one of those that are there where it differs in the view alone.

    Raises:
        ClusterError: naming the machine, if it cannot be loaded there or is another one.
    """
    from dvme.backbones.loading.model import in_view

    name, host = recipe.names[number], socket.gethostname()
    try:
        (spec,) = (spec for spec in recipe.choice.specs() if spec.name == name)
        file = recipe.choice.file_of(spec)
        seen = in_view(spec, (own for own in there if recipe.choice.file_of(own.spec) == file))
        (model,) = [seen] if seen else load_specs([(spec, file)], recipe.runtime)
    except DvmeError as error:
        raise ClusterError(f"{host} cannot load {name}: {error}") from error
    if model.fingerprint(recipe.dtypes[number]).digest != recipe.digests[number]:
        raise ClusterError(
            f"{host} has other weights or another model of {name} than the machine that asked; "
            "copy the same files to every machine"
        )
    return model


def _check_seen(portion: Portion, done: PortionDone) -> None:
    """Refuse a machine that can read no image of a portion, where the driver can read the first.

    Raises:
        ClusterError: naming it.
    """
    n_unread = len({row for _, unread in done.unread for row in unread})
    if n_unread < len(portion.work):
        return
    first = portion.work[0]
    is_here = False
    with suppress(OSError):
        is_here = read_image(first.path).content_id == first.digest
    if is_here:
        raise ClusterError(f"{done.host} can read none of {n_unread:,} images, such as {first.path}; {SHARED}")


def _located(item: Work, folder: Path) -> Work:
    """With an absolute address; what lies in a file keeps its name there."""
    path = item.path if is_url(item.path) else folder / item.path
    return Work(item.row, path, item.digest)


def _named(portion: Portion) -> str:
    return f"one of {counted(len(portion.work), 'image')} from {portion.work[0].path} on"
