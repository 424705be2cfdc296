"""What methods are compared on: the rows that take part, and the head and backbones that a method is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.errors import DataError, OptionError
from dvme.heads import ATTENTION_HEADS, CONTROLS, Head, full_name, get_head
from dvme.metrics.classification import METRICS
from dvme.stats.influence import FEWEST
from dvme.stats.units import Units
from dvme.study.design.inspection import Inspection, check_finite
from dvme.study.design.splits import groups_to_resample
from dvme.text import NO_GROUPS, counted, first_few
from dvme_cache import EmbeddingCache, RowState

EMBEDDINGS_SHARE = 3
"""Embeddings that are read at once take at most one part in so many of the memory; heads make copies of them."""
FEW = 10
"""Test images or groups of a class below which a study says so."""
HIDDEN = -1
"""The label of every test image while heads are fitted: none may know its class."""
SINGLE_CONTROL = "linear"
"""The head under which every single backbone stands beside a fusion."""


@dataclass(frozen=True)
class Method:
    """One line of the table: a head on these backbones."""

    head: Head
    backbones: tuple[str, ...]


def method_name(head: str, backbones: Sequence[str]) -> str:
    """`swav + linear`, or `dvme of 3 backbones`."""
    return f"{head} of {len(backbones)} backbones" if len(backbones) > 1 else f"{backbones[0]} + {head}"


def named_backbones(store: EmbeddingCache, backbones: Sequence[str] | None) -> list[str]:
    """The backbones that were asked for, by default all of the cache.

    Raises:
        OptionError: if there are none.
    """
    names = list(dict.fromkeys(backbones)) if backbones else store.backbones
    if not names:
        raise OptionError(f"{store.location} has no embeddings yet; run dvme extract first")
    return names


def make_methods(
    heads: Sequence[str | Head], backbones: Sequence[str], *, with_controls: bool, metric: str = METRICS[0]
) -> list[Method]:
    """The lines of the table: single heads on each backbone, fusions on all of them.

    Args:
        heads: names, with settings if they are to differ from the defaults (`dvme@max-epochs=20`), or heads.
        backbones: names.
        with_controls: beside a fusion by attention, also every single backbone under `linear`, and the controls; with
            default settings, where `heads` does not have them.
        metric: of the study; a `knn` that is to choose by it does.

    Raises:
        OptionError, UnknownNameError: if no head or an unknown one is named, or one twice with different settings.
    """
    wanted: dict[str, Head] = {}
    for given in heads:
        head = get_head(given) if isinstance(given, str) else given
        if not is_dataclass(head):
            raise OptionError(f"{given!r} is no head; pass a name such as 'linear', or a dataclass that is one")
        if wanted.setdefault(head.name, head) != head:
            raise OptionError(f"{head.name} is named twice with different settings; a study has each head once")
    if not wanted:
        raise OptionError("no head is named; pass --head linear,knn")
    if with_controls and set(wanted) & set(ATTENTION_HEADS):
        names = dict.fromkeys([SINGLE_CONTROL, *wanted, *CONTROLS])
        wanted = {name: wanted.get(name) or get_head(name) for name in names}
    if metric != METRICS[0]:
        wanted = {name: _choosing_by(head, metric) for name, head in wanted.items()}
    single = [Method(head, (name,)) for name in backbones for head in wanted.values() if not head.is_fusion]
    return single + [Method(head, tuple(backbones)) for head in wanted.values() if head.is_fusion]


def _choosing_by(head: Head, metric: str) -> Head:
    """The head, with the metric that it chooses by where it takes the study's."""
    from dvme.heads.neighbours.knn import KNN, STUDY

    return replace(head, choose_by=metric) if isinstance(head, KNN) and head.choose_by == STUDY else head


def method_notices(methods: Sequence[Method]) -> list[str]:
    """A line where a fusion has one backbone only, and one that names settings that differ from the defaults."""
    alone = [method.head.name for method in methods if method.head.is_fusion and len(method.backbones) == 1]
    lines = [f"{', '.join(alone)}: one backbone is nothing to fuse; pass more --backbones"] if alone else []
    heads = {method.head.name: method.head for method in methods}
    varied = [full_name(head) for name, head in heads.items() if full_name(head) != name]
    return [*lines, *([f"settings that differ from the defaults: {', '.join(varied)}"] if varied else [])]


def convergence_notice(fits: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A line where fits did not converge, from the name of each fit's head and what it chose."""
    stopped = Counter(head for head, chosen in fits if not chosen.get("is_converged", True))
    if not stopped:
        return []
    which = ", ".join(f"{n:,} of {head}" for head, n in stopped.items())
    return [f"fits that did not converge: {which}; their scores may lie a little low"]


def usable_rows(store: EmbeddingCache, names: Sequence[str]) -> tuple[NDArray[Any], dict[str, int]]:
    """Rows with a label and an embedding of every backbone, and why the others are left out.

    Raises:
        DataError: if there are none.
    """
    states = np.stack([store.embeddings(name).states() for name in names])
    has_label = store.column("label") != MISSING
    is_failed = (states == RowState.FAILED).any(axis=0)
    is_pending = (states == RowState.PENDING).any(axis=0) & ~is_failed
    usable = np.flatnonzero(has_label & ~is_failed & ~is_pending)
    left_out = {
        "without an embedding": int((has_label & is_failed).sum()),
        "not extracted yet": int((has_label & is_pending).sum()),
        "without a label": int((~has_label & ~store.samples.is_pruned).sum()),
    }
    if not len(usable):
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        message = f"{store.location} has no labelled row with an embedding of {', '.join(names)} ({why or 'empty'})"
        raise DataError(message)
    return usable, left_out


def group_notices(groups: NDArray[Any]) -> list[str]:
    """A line where none of (N,) images has a group, so that nothing keeps a patient's images together."""
    return [] if (groups != MISSING).any() else [NO_GROUPS]


def twins_of(store: EmbeddingCache, names: Sequence[str], rows: NDArray[Any]) -> NDArray[Any]:
    """(N,) see `alike_rows`."""
    return alike_rows(store, names, rows)[0]


def alike_rows(store: EmbeddingCache, names: Sequence[str], rows: NDArray[Any]) -> tuple[NDArray[Any], dict[str, str]]:
    """Which rows show one picture in files of different bytes: their embeddings are bit-identical in every backbone.

    In every one, so that neither the order of the backbones nor one that is dead decides about the split.

    Args:
        store: the cache.
        names: backbones; read one at a time.
        rows: (N,) cache rows.

    Returns:
        (N,) integers, equal for such rows; and by backbone a line, where it tells (nearly) nothing apart.

    Raises:
        DataError: if no backbone tells any two rows apart.
    """
    inspection = Inspection()
    for name in names:
        inspection.add(name, store.embeddings(name).read(rows))
    seen = inspection.found()
    return seen.twins, dict(seen.constant)


def test_units(labels: NDArray[Any], groups: NDArray[Any], classes: Sequence[str]) -> tuple[Units, str]:
    """What is independent on the test set, images or whole groups where there are any, and the line that says so.

    Args:
        labels: (N,) class indices of the test images.
        groups: (N,) their groups, "" for none.
        classes: names.
    """
    units = Units(labels, groups_to_resample(groups))
    what = "image" if units.groups is None else "group"
    most = FEWEST if units.fewest < FEWEST else FEW
    rare = [(name, int(n)) for name, n in zip(classes, units.counts, strict=False) if 0 < n < most]
    named = first_few((f"{name!r} has {counted(n, f'test {what}')}" for name, n in sorted(rare, key=itemgetter(1))), 3)
    line = f"95% CI: over {counted(units.n, f'test {what}')}"
    if units.fewest < FEWEST:
        return units, f"no interval and no verdict: {named}, and it takes {FEWEST} of every class"
    return units, f"{line}; few of a class: {named}, so differences hardly show" if rare else line


def loaded(
    store: EmbeddingCache, rows: NDArray[Any], methods: Sequence[Method], n_bytes: int
) -> Iterator[tuple[dict[str, NDArray[Any]], list[Method]]]:
    """The methods with the embeddings that they need: all at once where memory allows, else set by set of backbones.

    Args:
        store: the cache.
        rows: (N,) its rows.
        methods: M of them.
        n_bytes: that all embeddings together may take.

    Raises:
        DataError: if an embedding is not finite; a head checks only what it learns from or chooses on.
    """
    tables = {name: store.embeddings(name) for method in methods for name in method.backbones}
    total = sum(len(rows) * table.dim * table.features.dtype.itemsize for table in tables.values())
    groups: dict[tuple[str, ...], list[Method]] = {}
    for method in methods:
        groups.setdefault(tuple(tables) if total <= n_bytes else method.backbones, []).append(method)
    for names, some in groups.items():
        embeddings = {name: tables[name].read(rows) for name in names}
        for name, values in embeddings.items():
            check_finite(name, values)
        yield embeddings, some
