"""Labels that a source tells beside those that a cache has: what it does not speak of stays as it is, or unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.findings import OF, are_findings, finding_names, joined, parts_of, tells_findings
from dvme.data.order import order_text
from dvme.data.samples import MISSING
from dvme.text import some_of


@dataclass(frozen=True)
class Merged:
    """The labels of a cache with N rows as they are to be."""

    labels: NDArray[Any]
    """(N,)"""
    order: tuple[str, ...]
    """The findings of the cache, or its order of classes; () where none is kept."""
    n_changed: Mapping[str, int]
    """Finding to the rows of which something else is known now; nothing where labels are classes."""
    remarks: tuple[str, ...] = ()


def merged_labels(
    before: NDArray[Any],
    rows: NDArray[Any],
    told: NDArray[Any],
    *,
    asked: Sequence[str] = (),
    order: Sequence[str] = (),
) -> Merged:
    """Put what a source tells of some rows beside what a cache has.

    Of findings that the source does not ask about a row keeps what it has; of one without a label they are unknown. So
    are findings that are new to the cache, on the rows that had a label before.

    Args:
        before: (N,) labels of the cache, "" for none.
        rows: (R,) distinct row indices.
        told: (R,) labels.
        asked: the findings that the source asks about; () where its labels say all there is to say.
        order: of the cache, which is dropped where classes become findings, or the reverse.

    Raises:
        DataError: if some labels would be findings, and others classes.
    """
    labels = before.copy()
    labels[rows] = told
    had_findings = tells_findings(before.tolist())
    if not are_findings(labels) and not (had_findings and asked and not (told != MISSING).any()):
        is_turned = had_findings and bool((labels != MISSING).any())
        if not is_turned:
            return Merged(labels, tuple(order), {})
        lost = some_of(finding_names(before.tolist(), order))
        return Merged(labels, (), {}, (f"labels are classes now: the findings of before ({lost}) are dropped",))
    remarks: tuple[str, ...] = ()
    if order and not had_findings and (before != MISSING).any():
        remarks = (f"labels are findings now: the order of the classes of before ({order_text(order)}) is dropped",)
    known = finding_names(before.tolist(), order) if had_findings else ()
    new = [name for name in finding_names(told.tolist(), asked) if name not in known]
    names = (*known, *new)
    is_listed = bool(asked) or (had_findings and bool(order))
    stays = [name for name in known if name not in asked] if asked else []
    memo: dict[tuple[str, str], str] = {}
    for row, said in zip(rows.tolist(), told.tolist(), strict=True):
        pair = (before[row], said)
        if pair not in memo:
            memo[pair] = _told(*pair, names, stays, known) if asked else said
        labels[row] = memo[pair]
    if had_findings and new and is_listed:
        others = np.setdiff1d(np.flatnonzero(before != MISSING), rows)
        if len(others):
            unknown = [f"{name}{OF}" for name in new]
            for row in others.tolist():
                labels[row] = joined([*(parts_of(before[row]) or ()), *unknown])
            remarks = (f"new to the cache, and unknown for images with a label from before: {some_of(new)}",)
    return Merged(labels, names if is_listed else (), _changed(before, labels, names, known), remarks)


def rows_to_write(
    rows: NDArray[Any], values: Mapping[str, NDArray[Any]], before: Mapping[str, NDArray[Any]], labels: NDArray[Any]
) -> tuple[NDArray[Any], Mapping[str, NDArray[Any]]]:
    """The rows and their columns; all rows where labels of others change as well.

    Args:
        rows: (R,) distinct row indices.
        values: column to (R,) values.
        before: the same columns to (N,) values.
        labels: (N,) as they are to be.
    """
    if (np.delete(labels, rows) == np.delete(before["label"], rows)).all():
        return rows, values
    whole = {name: before[name].copy() for name in values}
    for name, column in values.items():
        whole[name][rows] = column
    return np.arange(len(labels)), whole | {"label": labels}


def _told(had: str, said: str, names: Sequence[str], stays: Sequence[str], known: Sequence[str]) -> str:
    """The label of a row that had one and of which another is told."""
    old, cells = _cells(had, known), _cells(said, names)
    cells |= {name: old.get(name, f"{name}{OF}") for name in stays}
    if cells == old:
        return had
    if all(cell == f"{name}{OF}" for name, cell in cells.items()):
        return MISSING
    return joined([cells[name] for name in names if cells[name]])


def _cells(label: str, names: Sequence[str]) -> dict[str, str]:
    """Each finding as a label writes it: "" is absent; of a label that tells no findings, unknown."""
    parts = parts_of(label)
    if parts is None:
        return {name: f"{name}{OF}" for name in names}
    written = {part.partition(OF)[0]: part for part in parts}
    return {name: written.get(name, "") for name in names}


def _changed(before: NDArray[Any], after: NDArray[Any], names: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Finding to the rows of which something else is known now."""
    changed = dict.fromkeys(names, 0)
    for (had, has), count in Counter(zip(before.tolist(), after.tolist(), strict=True)).items():
        if had != has:
            old, new = _cells(had, known), _cells(has, names)
            for name in names:
                changed[name] += count * (old.get(name, f"{name}{OF}") != new[name])
    return {name: count for name, count in changed.items() if count}
