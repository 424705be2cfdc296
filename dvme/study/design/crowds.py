"""Crowds of rows that all but coincide, such as thousands of black images: any two of them are a pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.study.design.directions import ROWS_AT_ONCE, parts, rounding_of, unit_of

SAMPLED_ROWS, SAMPLED_SHARE, SAMPLED_MEMBERS = 16384, 16, 4
"""Rows in which crowds are looked for, at most so many and one of so many, and how many of a crowd must be there."""
FEWEST, MOST = 500, 64
"""Rows of a crowd, of which all pairs are listed below that, and crowds of a table."""
BLOCK = 2048

Links = tuple[NDArray[np.int64], NDArray[np.float32], list[str]]


@dataclass(frozen=True, eq=False)
class Crowd:
    """Rows of which any two are a pair, so that nobody need list them."""

    rows: NDArray[np.int64]
    """(n,) positions in their order."""
    cosine: float
    """No two of them have a smaller one."""
    backbone: str = ""


def crowds_of(
    values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64], least: float
) -> tuple[list[Crowd], list[NDArray[np.int64]], NDArray[np.int64]]:
    """The large crowds, who beside them may be a partner of theirs, and everybody who is in none.

    Let t be the angle of `least`. Two rows within t/2 of a third, the leader, are within t of each other, so they are
    a pair. A partner of such a row is within 3 t/2 of the leader. Leaders are rows of a sample that are within t/2 of
    most others of it.

    Args:
        values: (N, D).
        lengths: (N,) of the rows.
        able: (n,) positions of those that have a direction.
        least: cosine above which two rows are a pair.

    Returns:
        C crowds; for each (m,) positions outside of it; and (n - members,) positions of those in none.
    """
    if len(able) < FEWEST:
        return [], [], able
    doubt = rounding_of(values.shape[1])
    angle = np.arccos(least)
    near, far = np.cos(angle / 2) + doubt, np.cos(1.5 * angle) - doubt
    leaders = _leaders(values, lengths, able, near)
    while len(leaders):
        which, closest, around = _members(values, lengths, able, leaders, (near, far))
        counts = np.bincount(which[which >= 0], minlength=len(leaders))
        if counts.min() >= FEWEST:
            break
        leaders = leaders[counts >= FEWEST]
    else:
        return [], [], able
    bounds = [np.cos(2 * np.arccos(min(1.0, float(closest[which == c].min()) - doubt))) for c in range(len(leaders))]
    crowds = [Crowd(able[which == c], max(least, float(bound))) for c, bound in enumerate(bounds)]
    partners = [_partners(c, which, able, around) for c in range(len(leaders))]
    return crowds, partners, able[which < 0]


def between(
    values: NDArray[Any],
    lengths: NDArray[np.float64],
    crowds: Sequence[Crowd],
    partners: Sequence[NDArray[np.int64]],
    least: float,
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Positions of both and cosines of pairs of which one is in a crowd and the other is not."""
    for crowd, others in zip(crowds, partners, strict=True):
        for part in _chunks(others, ROWS_AT_ONCE):
            own = unit_of(values, lengths, part)
            for rows in _chunks(crowd.rows, BLOCK):
                products = own @ unit_of(values, lengths, rows).T
                one, two = np.nonzero(products > least)
                yield part[one], rows[two], products[one, two]


def links(crowds: Sequence[Crowd], side: NDArray[np.int64]) -> Links:
    """A few pairs of each crowd, so that all of its rows have a partner on every other side where it has any.

    Args:
        crowds: of N rows.
        side: (N,) of each row; below 0 for none.

    Returns:
        (P, 2) positions with the smaller first, (P,) cosines that they have at least, and P backbones.
    """
    pairs, cosines, backbones = [np.empty((0, 2), dtype=np.int64)], list[float](), list[str]()
    for crowd in crowds:
        sides = side[crowd.rows]
        found, first = np.unique(sides, return_index=True)
        for own, leader in zip(found.tolist(), crowd.rows[first].tolist(), strict=True):
            others = crowd.rows[(sides != own) & (sides >= 0)]
            if own >= 0:
                both = np.stack([np.full(len(others), leader), others], axis=1)
                pairs.append(np.sort(both, axis=1))
                cosines += [crowd.cosine] * len(others)
                backbones += [crowd.backbone] * len(others)
    every, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return every, np.array(cosines, dtype=np.float32)[first], [backbones[index] for index in first.tolist()]


def _leaders(
    values: NDArray[Any], lengths: NDArray[np.float64], able: NDArray[np.int64], near: float
) -> NDArray[np.float32]:
    """(C, D) unit rows that many of a sample are within `near` of, the most crowded first."""
    sample = np.random.default_rng(0).choice(able, min(SAMPLED_ROWS, -(-len(able) // SAMPLED_SHARE)), replace=False)
    unit = np.concatenate([unit_of(values, lengths, rows).astype(np.float32) for rows in _chunks(sample, BLOCK)])
    counts = np.concatenate([(rows @ unit.T >= near).sum(axis=1) for rows in _chunks(unit, BLOCK)])
    found = list[NDArray[np.float32]]()
    while len(found) < MOST and counts.max() >= SAMPLED_MEMBERS:
        leader = unit[counts.argmax()]
        found.append(leader)
        counts[unit @ leader >= near] = 0
    return np.array(found, dtype=np.float32).reshape(-1, values.shape[1])


def _members(
    values: NDArray[Any],
    lengths: NDArray[np.float64],
    able: NDArray[np.int64],
    leaders: NDArray[np.float32],
    bounds: tuple[float, float],
) -> tuple[NDArray[np.int64], NDArray[np.float32], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(n,) the first leader that each row is near to, or -1, and its cosine; and (row, leader) that are not far."""
    near, far = bounds
    which, closest = np.full(len(able), -1), np.zeros(len(able), dtype=np.float32)
    around = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))]
    for start in range(0, len(able), BLOCK):
        unit = unit_of(values, lengths, able[start : start + BLOCK]).astype(np.float32)
        products = unit @ leaders.T
        is_near = products >= near
        first = is_near.argmax(axis=1)
        which[start : start + len(unit)] = np.where(is_near.any(axis=1), first, -1)
        closest[start : start + len(unit)] = products[np.arange(len(unit)), first]
        row, leader = np.nonzero(products >= far)
        around.append((row + start, leader))
    row, leader = (np.concatenate(parts) for parts in zip(*around, strict=True))
    return which, closest, (row, leader)


def _partners(
    crowd: int,
    which: NDArray[np.int64],
    able: NDArray[np.int64],
    around: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Positions of rows that are not far from a crowd's leader, and are in none, or in one of a higher number."""
    rows = around[0][around[1] == crowd]
    partners: NDArray[np.int64] = able[rows[(which[rows] < 0) | (which[rows] > crowd)]]
    return partners


def _chunks(rows: NDArray[Any], at_once: int) -> Iterator[NDArray[Any]]:
    return (rows[part] for part in parts(len(rows), at_once))
