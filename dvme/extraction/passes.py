"""What a cache lacks of each backbone, and the one pass over the images that extracts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.model.quantised import row_form
from dvme.data.decoded import Told
from dvme.data.dicom import decoding_fields
from dvme.defaults import DENSE_DTYPE, DTYPE, ENGINE
from dvme.errors import OptionError, parameter
from dvme.extraction.beside import take_over
from dvme.extraction.embedding import extract_shards
from dvme.extraction.gathering import Target, not_finite
from dvme.extraction.indexing import Index
from dvme.extraction.models import Choice, KnownBackbone, check_dtype, check_fingerprints, load_known, provenance
from dvme.runtime import Progress, Runtime
from dvme_cache import (
    MAX_SHARD_ROWS,
    CorruptCacheError,
    EmbeddingCache,
    Embeddings,
    Part,
    RowState,
    count_states,
    salvage_damaged,
)
from dvme_cache.parallel import each

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an extraction treats what the cache has."""

    dtype: str | None = None
    """Stored type, `float32` or `float16`; `int8` of dense features. None: `float32`, of dense features `float16`."""
    replace: bool = False
    """Delete embeddings of these backbones and extract them anew."""
    retry_failed: bool = False
    """Try images again that could not be decoded in an earlier run."""
    rows_per_shard: int | None = None
    """Images per committed file of a new backbone; None: by the size of the data set."""
    part: Part | None = None
    """Whose shards are extracted; None: all."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.dtype is not None:
            check_dtype(self.dtype)
        if self.rows_per_shard is not None and not 1 <= self.rows_per_shard <= MAX_SHARD_ROWS:
            allowed = "pass " + parameter("rows_per_shard", 1) + f" to {MAX_SHARD_ROWS}"
            raise OptionError(f"{self.rows_per_shard} rows per shard are not possible; " + allowed)
        if self.part is not None and self.replace:
            wrong = parameter("part", str(self.part)) + " cannot go with " + parameter("replace", True)
            step = ", which would delete what other parts made; replace without a part, or extract into a new cache"
            raise OptionError(wrong + step)

    def dtype_of(self, model: Backbone | KnownBackbone) -> str:
        """In which type the embeddings of a backbone are stored."""
        return self.dtype or (DENSE_DTYPE if model.grids else DTYPE)

    def shards_of(self, embeddings: Embeddings) -> Sequence[int] | None:
        """The shards that a run may write; None: all."""
        return None if self.part is None else self.part.shards(embeddings.n_shards)

    def own(self, rows: NDArray[Any], rows_per_shard: int) -> NDArray[Any]:
        """Those of some rows that are in such shards."""
        return rows if self.part is None else rows[self.part.owns(rows // rows_per_shard)]


@dataclass(frozen=True)
class BackboneOutcome:
    """What a run did for one backbone. A part counts the rows of its own shards."""

    backbone: str
    dim: int
    reused: int
    """Rows of this run's images that were in the cache already."""
    computed: int
    """Rows extracted now."""
    failed: int
    """Distinct images of this run without an embedding, now or from an earlier run."""
    seconds: float
    """Wall time of the pass over the images, which backbones share, until the backbone's last image."""
    reasons: dict[str, str] = field(repr=False)
    """File to the reason why it has no embedding; every copy of an image is named, and files that could not be read."""
    remark: str
    """What is known to be uncertain about the backbone."""
    n_lost: int
    """Rows whose stored bytes were torn, flipped or gone. They are pending again, and extracted anew if listed."""
    choice: str = ""
    """Which of several sets of weights in its file the backbone has, a sentence."""
    n_own: int = 0
    """Distinct images of this run whose rows are in its shards: of a part, some; else all."""
    n_in_cache: int = 0
    """Distinct images of this run that the cache has an embedding of now, whoever made it."""


@dataclass(frozen=True)
class _Lack:
    """What a cache lacks of one backbone."""

    model: Backbone | KnownBackbone
    """Loaded, if there is anything to extract."""
    embeddings: Embeddings
    """Of this model, open for writing."""
    shards: list[NDArray[Any]]
    """The rows to extract, one array per shard."""
    n_lost: int
    """Rows whose stored bytes were damaged."""
    options: Options

    @property
    def name(self) -> str:
        """Of the backbone."""
        return self.embeddings.name

    @property
    def target(self) -> Target:
        """For the extraction."""
        (model,) = load_known([self.model])
        dtype = self.options.dtype_of(model)
        keep = partial(self.embeddings.commit, not_finite=not_finite(model.spec.name, dtype))
        return Target(model, self.shards, dtype, keep)


def extract_all(
    cache: EmbeddingCache,
    models: Sequence[Backbone | KnownBackbone],
    index: Index,
    options: Options,
    runtime: Runtime,
    progress: Progress,
    donors: Sequence[EmbeddingCache] = (),
    *,
    choice: Choice | None = None,
) -> tuple[list[BackboneOutcome], dict[int, tuple[Told, ...]]]:
    """Extract what each backbone lacks, a shard at a time, in one pass over the images.

    Args:
        cache: open for writing.
        models: on their device. One that is only known is loaded if damage on disk has to be made good.
        index: rows of this run's images.
        options: how to treat what the cache has.
        runtime: batch size and workers.
        progress: told (backbone, done, total).
        donors: caches from which the same images' embeddings are taken where they have them.
        choice: how other processes find the backbones, where the engine has any; None: this process does all.

    Returns:
        What was done for each backbone, and row to what there is to say about its range of grey, of the rows
        decoded.
    """
    if options.replace and len(models) > 1:  # one after the other: a kill then costs the old embeddings of one of them
        outcomes: list[BackboneOutcome] = []
        told: dict[int, tuple[Told, ...]] = {}
        for model in models:
            own, found = extract_all(cache, [model], index, options, runtime, progress, donors, choice=choice)
            outcomes += own
            told |= found
        return outcomes, told
    lacks = each(lambda model: _prepare(cache, model, index, options, donors), models, cache.store.files.n_readers)
    lacks = [_loaded(cache, lack) for lack in lacks]
    wanting = [lack for lack in lacks if lack.shards]
    totals = [sum(map(len, lack.shards)) for lack in wanting]

    def tell(number: int, n_done: int) -> None:
        progress(wanting[number].name, n_done, totals[number])

    for number in range(len(wanting)):
        tell(number, 0)
    targets = [lack.target for lack in wanting]
    n_writers = max((lack.embeddings.n_writers for lack in wanting), default=1)
    if choice is None or runtime.engine == ENGINE:
        done = extract_shards(targets, index.work, runtime, tell, n_writers=n_writers)
    else:
        from dvme.extraction.spread_out import extract_on_cluster

        done = extract_on_cluster(targets, index.work, choice, runtime, tell, n_writers=n_writers)
    unread = {lack.name: rows for lack, rows in zip(wanting, done.unread, strict=True)}
    seconds = {lack.name: each for lack, each in zip(wanting, done.seconds, strict=True)}
    return [_outcome(lack, index, unread.get(lack.name, {}), seconds.get(lack.name, 0.0)) for lack in lacks], done.told


def lay_out_all(
    cache: EmbeddingCache, models: Sequence[Backbone | KnownBackbone], index: Index, options: Options
) -> list[Backbone | KnownBackbone]:
    """`_lay_out` for several models, together where answers take long; the models."""
    laid_out = each(lambda model: _lay_out(cache, model, index, options), models, cache.store.files.n_readers)
    return [model for model, _ in laid_out]


def _lay_out(
    cache: EmbeddingCache, model: Backbone | KnownBackbone, index: Index, options: Options
) -> tuple[Backbone | KnownBackbone, Embeddings]:
    """Make room for a backbone's embeddings. Where there is room already, nothing is written.

    Returns:
        The model, loaded if the cache had nothing of it, and its embeddings.
    """
    name = model.spec.name
    dtype = options.dtype_of(model)
    n_elements, stored = row_form(model.grids, model.dim, dtype)
    if isinstance(model, KnownBackbone) and name not in cache.backbones:  # someone has just taken them away
        (model,) = load_known([model])
    return model, cache.ensure_embeddings(
        name,
        model.fingerprint(dtype).with_fields(decoding_fields(index.kinds)),
        dim=n_elements,
        dtype=stored,
        provenance={} if isinstance(model, KnownBackbone) else provenance(model),
        rows_per_shard=options.rows_per_shard,
    )


def _prepare(
    cache: EmbeddingCache,
    model: Backbone | KnownBackbone,
    index: Index,
    options: Options,
    donors: Sequence[EmbeddingCache],
) -> _Lack:
    """Make room for a backbone's embeddings, and find what is still to be extracted."""
    if options.replace:
        cache.remove_embeddings(model.spec.name)
    model, embeddings = _lay_out(cache, model, index, options)
    shards = options.shards_of(embeddings)
    n_lost = salvage_damaged(embeddings, shards)
    for donor in () if options.replace else donors:
        lacking = pending_rows(embeddings, index.rows, retry_failed=False, shards=shards)
        take_over(embeddings, cache.samples.ids, lacking, donor)
    pending = pending_rows(embeddings, index.rows, retry_failed=options.retry_failed, shards=shards)
    return _Lack(model, embeddings, pending, n_lost, options)


def _loaded(cache: EmbeddingCache, lack: _Lack) -> _Lack:
    """The same with its model, if there is anything to extract: what was known of it may hold no more."""
    if not lack.shards or not isinstance(lack.model, KnownBackbone):
        return lack
    models = load_known([lack.model])
    check_fingerprints(cache, models, lack.options.dtype_of)
    return replace(lack, model=models[0])


def pending_rows(
    embeddings: Embeddings, rows: NDArray[Any], *, retry_failed: bool, shards: Sequence[int] | None = None
) -> list[NDArray[Any]]:
    """Those of the rows that are still to be extracted, one array per shard; of some shards, or of all."""
    is_asked = np.zeros(embeddings.n_rows, dtype=bool)
    is_asked[rows] = True
    pending = embeddings.pending_shards(shards, retry_failed=retry_failed)
    return [wanted for shard in pending if len(wanted := shard[is_asked[shard]])]


def _outcome(lack: _Lack, index: Index, unread: Mapping[int, str], seconds: float) -> BackboneOutcome:
    embeddings, shards = lack.embeddings, lack.options.shards_of(lack.embeddings)
    rows = lack.options.own(index.rows, embeddings.shard_rows)
    states = embeddings.states(shards)
    failed = rows[states[rows] == RowState.FAILED]
    reasons = embeddings.reasons(shards) if len(failed) else np.empty(0, dtype=object)
    why = {row: reasons[row] for row in failed.tolist()} | dict(unread)
    computed = sum(int((states[rows] == RowState.DONE).sum()) for rows in lack.shards)
    n_done = count_states(states[rows])["done"]
    return BackboneOutcome(
        backbone=embeddings.name,
        dim=lack.model.dim,
        reused=n_done - computed,
        computed=computed,
        failed=len(why),
        seconds=seconds,
        reasons={name: reason for row, reason in why.items() for name in index.names(row)} | index.unread,
        choice=lack.model.choice,
        remark="" if lack.model.spec.is_verified else lack.model.spec.remark,
        n_lost=lack.n_lost,
        n_own=len(rows),
        n_in_cache=n_done if shards is None else _n_done(embeddings, index.rows),
    )


def _n_done(embeddings: Embeddings, rows: NDArray[Any]) -> int:
    """How many of some rows are done; what another part has to mend counts as nothing."""
    try:
        states = embeddings.states()
    except CorruptCacheError:
        states = np.zeros(embeddings.n_rows, dtype=np.uint8)
        for shard in range(embeddings.n_shards):
            window = embeddings.window(shard)
            with suppress(CorruptCacheError):
                states[window] = embeddings.states_of(shard)[: window.stop - window.start]
    return count_states(states[rows])["done"]
