"""`dvme extract`: images into a cache, each embedding computed once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dvme.arguments import public
from dvme.cluster import check_cluster
from dvme.data import MISSING, Columns, Outliers, Samples, Task
from dvme.data.decoded import Told
from dvme.data.stretch import FewGreys
from dvme.defaults import VIEWS
from dvme.errors import parameter
from dvme.extraction.beginning import Begun, begin_run
from dvme.extraction.beside import donors_of
from dvme.extraction.indexing import Index, index_samples
from dvme.extraction.models import Choice, densely, seen_in_views
from dvme.extraction.opening import ExtractRequest, Opened, open_run
from dvme.extraction.passes import BackboneOutcome, Options, extract_all, lay_out_all
from dvme.files import check_folder
from dvme.parts import parse_part
from dvme.runtime import Progress, Runtime, automatic
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import counted
from dvme_cache import CacheLockedError, EmbeddingCache, Part, check_unlocked
from dvme_cache.files import is_url

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class ExtractReport(Shown):
    """What a run found and did; `to_frame()` has a row for each backbone, see `BackboneOutcome`."""

    cache: str
    task: Task
    """Of these images; of what the cache knows of them, where they come without labels."""
    n_files: int
    n_rows: int
    """Distinct images among the files."""
    n_new: int
    """Rows the cache did not have before."""
    n_moved: int
    """Rows whose image was known by another path; nothing of them is computed again."""
    contradictory: list[str]
    """Duplicate images that disagree on label, split or group, and so take part in nothing."""
    n_changed: dict[str, int]
    """Column to the rows that had another label, split or group before."""
    n_removed: dict[str, int]
    """Column to the rows that lost their value: the images' column is empty there, or copies disagree."""
    n_kept: dict[str, int]
    """Column to the rows that keep the cache's value, for the images have no such column."""
    n_grouped: int
    """Rows of these images that have a group."""
    n_groups: int
    """Groups that they are of."""
    class_order: tuple[str, ...]
    """The user's, of the cache, which may have classes without an image; () without one."""
    n_unlisted: int
    """Labelled rows of the cache that are not among the images of this run, and still take part."""
    outcomes: list[BackboneOutcome] = field(default_factory=list)
    outliers: dict[str, Outliers] = field(default_factory=dict)
    """Image id to the handful of pixels that sets its range of grey, of the images decoded in this run."""
    few_greys: dict[str, FewGreys] = field(default_factory=dict)
    """Image id to how few greys are left of it by its range, of the images decoded in this run."""
    remarks: list[str] = field(default_factory=list)
    """What was passed over, which columns were used, what is odd about names, a line each."""
    unlisted: dict[str, str] = field(default_factory=dict)
    """Folders, archives, links to nowhere that could not be listed, and why; the cache keeps what it has of them."""
    missing: list[str] = field(default_factory=list)
    """Images of the manifest that were left out, for their files are not there."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why; they have no row."""
    copies: list[list[str]] = field(default_factory=list)
    """Files with one content, which are one row."""
    same_files: list[list[str]] = field(default_factory=list)
    """Names of one and the same file."""
    n_trusted: int | None = None
    """Files that were recognised by size and times, and not read; None where the run does not trust these."""
    part: str | None = None
    """Which part of the extraction it was, such as `3/16`; the outcomes are of its shards."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}

    def _lines(self) -> list[str]:
        files, images = counted(self.n_files, "file"), counted(self.n_rows, "distinct image")
        done = [
            f"{each.backbone}: {each.computed:,} computed, {each.reused:,} reused, {each.failed:,} failed"
            for each in self.outcomes
        ]
        return [f"{files}, {images}, {self.n_new:,} new to {self.cache}", *some_lines(done)]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.outcomes]


@public
def extract(  # noqa: PLR0913 - the command's options, one to one
    images: str | Path,
    cache: str | Path,
    *,
    backbones: Sequence[str],
    views: int | str = VIEWS,
    dense: bool = False,
    layers: str | None = None,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    skip_missing: bool = False,
    class_order: Sequence[str] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    architectures: Mapping[str, str] | None = None,
    precision: str | None = None,
    dtype: str | None = None,
    runtime: Runtime | None = None,
    replace: bool = False,
    retry_failed: bool = False,
    rows_per_shard: int | None = None,
    part: str | None = None,
    wait: bool = False,
    trust_mtime: bool = False,
    progress: Progress = automatic,
    announce: Callable[[Task, Samples], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> ExtractReport:
    """Run frozen backbones over images and keep their embeddings; what the cache has is not computed again.

    Everything that can be refused is refused before the cache is touched.

    Args:
        images: a folder, a table, or a file or folder that holds many images, as `load_samples` takes them; or
            SET:FOLDER, a public set as it was unpacked (`public_sets` names them).
        cache: the cache's path or URL, by custom `NAME.zarr`; created if it is not there.
        backbones: names, with variations if any; all are extracted in one pass over the images.
        views: versions of each image to embed, the plain one among them: 4 also keeps three that are mirrored, turned
            and cropped, each as a backbone of its own, `NAME@view=1` and so on; "4:rotate+crop" mirrors none.
        dense: keep the tokens of each backbone's layers instead of one vector an image, as `NAME@dense=last`, but for
            those whose name says which layers.
        layers: which these are: `last`, `last-4` or `3,6,9,12`; asks for them as `dense` does.
        columns: a manifest's columns.
        image_root: where a manifest's relative paths start.
        skip_missing: leave images out that a manifest names and that are not there, instead of refusing.
        class_order: all labels, the lowest first, kept in the cache; () takes the cache's order away, None keeps it.
        weights: local checkpoints by backbone name.
        architectures: timm architectures of torchvision-style checkpoints, by a backbone name of one's own.
        precision: what all of the backbones compute in, but for those whose name says it: `float32`, `tf32` (NVIDIA
            GPUs only), `bf16` or `fp16`; it becomes part of their names. None: float32.
        dtype: stored type, `float32` or `float16`; of dense features also `int8`, a byte a value with a scale for each
            token. None: `float32`, of dense features `float16`.
        runtime: device, batch size, workers, the largest image.
        replace: delete embeddings of these backbones and extract them anew.
        retry_failed: try images again that could not be decoded in an earlier run; so does `runtime.max_pixels`.
        rows_per_shard: images per committed file of a new backbone, as far as these are at most 128 MiB; None: by the
            size of the data set.
        part: `3/16` extracts only the third of sixteen parts of the rows, beside processes that extract the others
            into the same cache, on this machine or on others; None: all.
        wait: wait while another process writes to this cache, instead of refusing.
        trust_mtime: take a file for the image that it was in an earlier run with this, where its size and its times
            are what they were then, without reading it. What changes bytes and leaves these goes unnoticed.
        progress: told (stage, done, total); the stages are `masks` of a manifest that has some, `hash`, `load` where
            backbones are loaded, and their names.
        announce: told the task and the files before any image is opened.
        tell: told, a line each, how much dense features will take, before any is computed.

    Raises:
        DataError, UnknownNameError, WeightsError, CheckpointError, OptionError, FingerprintMismatchError,
        CacheLockedError: each says in one line what is wrong and what to do.

    Example:
        >>> report = dvme.extract("images", "my.zarr", backbones=["efficientnet-lite0"])
        >>> report.n_rows
        40
    """
    runtime = runtime or Runtime()
    request = ExtractRequest(
        images=images,
        cache=cache,
        choice=Choice(
            names=seen_in_views(densely(backbones, layers, is_dense=dense), views),
            weights=weights or {},
            architectures=architectures or {},
            precision=precision,
        ),
        columns=columns,
        image_root=image_root,
        skip_missing=skip_missing,
        class_order=class_order,
        options=Options(
            dtype=dtype,
            replace=replace,
            retry_failed=retry_failed or runtime.max_pixels is not None,
            rows_per_shard=rows_per_shard,
            part=parse_part(part),
        ),
        runtime=runtime,
        announce=announce,
        trust_mtime=trust_mtime,
        tell=tell,
    )
    own = request.options.part
    check_cluster(runtime)
    if not wait:
        with _offering_to_wait():
            check_unlocked(cache, own)
    opened = open_run(request, progress)
    if not is_url(cache):
        check_folder(cache, step="name another place for the cache", force=True)
    begun = begin_run(request, opened, progress)
    # Pillow's warnings come from decoding threads, which cannot filter them on their own.
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),
        _writing(cache, own, wait=wait) as (store, let_others_begin),
    ):
        index = index_samples(store, begun.found, opened.class_order, is_shared=own is not None)
        models = begun.models
        if own is not None:
            models = lay_out_all(store, begun.models, index, request.options)
            let_others_begin()
        donors = donors_of(cache)
        outcomes, told = extract_all(
            store, models, index, request.options, runtime, progress, donors, choice=request.choice
        )
    begun.forget_changed(outcomes)
    return _report(request, opened, begun, index, outcomes, told)


@contextmanager
def _writing(
    cache: str | Path, part: Part | None, *, wait: bool
) -> Iterator[tuple[EmbeddingCache, Callable[[], None]]]:
    """The cache, open for writing, and what lets other parts begin, which may then lay out nothing any more."""
    with ExitStack() as stack:
        with _offering_to_wait():
            if part is None:
                begun = stack.enter_context(EmbeddingCache.writing(cache, wait=wait)), lambda: None
            else:
                begun = stack.enter_context(EmbeddingCache.writing_part(cache, part, wait=wait))
        yield begun


@contextmanager
def _offering_to_wait() -> Iterator[None]:
    try:
        yield
    except CacheLockedError as error:
        raise CacheLockedError(f"{error}; " + parameter("wait", True) + " waits") from error


def _report(
    request: ExtractRequest,
    opened: Opened,
    begun: Begun,
    index: Index,
    outcomes: list[BackboneOutcome],
    told: Mapping[int, tuple[Told, ...]],
) -> ExtractReport:
    samples, groups = opened.samples, index.columns["group"]
    is_grouped = groups != MISSING
    return ExtractReport(
        cache=os.fspath(request.cache),
        task=opened.task if "label" in samples.given else Task.from_labels(index.columns["label"], index.class_order),
        n_files=len(samples),
        n_rows=len(index.rows),
        n_new=index.n_new,
        n_moved=index.n_moved,
        contradictory=index.contradictory,
        n_changed=index.changes.replaced,
        n_removed=index.changes.removed,
        n_kept=index.changes.kept,
        n_grouped=int(is_grouped.sum()),
        n_groups=len(set(groups[is_grouped].tolist())),
        class_order=index.class_order,
        n_unlisted=index.n_unlisted,
        outcomes=outcomes,
        outliers=_named(index, told, Outliers),
        few_greys=_named(index, told, FewGreys),
        remarks=[*samples.remarks, *index.remarks],
        unlisted=dict(samples.unlisted),
        missing=list(samples.missing),
        unread=index.unread,
        copies=[ids for ids in index.ids if len(ids) > 1],
        same_files=index.same_files,
        n_trusted=begun.found.n_trusted if request.trust_mtime else None,
        part=None if request.options.part is None else str(request.options.part),
    )


def _named(index: Index, told: Mapping[int, tuple[Told, ...]], kind: type[T]) -> dict[str, T]:
    """Image id to the first of what is said that is of a kind."""
    of_kind = {row: [each for each in said if isinstance(each, kind)] for row, said in told.items()}
    return {index.names(row)[0]: each[0] for row, each in of_kind.items() if each}
