"""Embeddings that are one and the same: images in files of different bytes, and backbones that tell nothing apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.text import counted
from dvme_cache import content_id

ALIKE = 0.9
"""Share of a backbone's rows that are one and the same from which a study says so; some images do have copies."""
ROUNDING, NOTHING = 8, 1e-6
"""Units in the last place by which constant embeddings may differ; what is so small beside the largest value is 0."""
ANEW = "dvme cache verify looks for damage, dvme extract --replace makes them anew"


def alike_rows(read: Callable[[str], NDArray[Any]], names: Sequence[str]) -> tuple[NDArray[Any], dict[str, str]]:
    """Which rows show one picture in files of different bytes: their embeddings are bit-identical in every backbone.

    In every one, so that neither the order of the backbones nor one that is dead decides about the split.

    Args:
        read: gives the (N, D) embeddings of a backbone.
        names: backbones; read one at a time.

    Returns:
        (N,) integers, equal for such rows; and by backbone a line, where it tells (nearly) nothing apart.

    Raises:
        DataError: if no backbone tells any two rows apart.
    """
    twins, lines = np.zeros(1, dtype=np.int64), dict[str, str]()
    for name in names:
        features = np.ascontiguousarray(read(name))
        contents = [content_id(row.tobytes()) for row in features]
        twins = np.broadcast_to(twins, len(contents))
        digests = list(zip(twins.tolist(), contents, strict=True))
        numbers = {digest: number for number, digest in enumerate(sorted(set(digests)))}
        twins = np.array([numbers[digest] for digest in digests])
        lines[name] = constant_notice(name, features, Counter(contents))
    if len(twins) > 1 and not twins.any():
        raise DataError(f"all {len(twins):,} embeddings of {', '.join(names)} are identical: nothing to learn; {ANEW}")
    return twins, {name: line for name, line in lines.items() if line}


def constant_notice(name: str, features: NDArray[Any], contents: Counter[bytes]) -> str:
    """A line where the embeddings of a backbone are one and the same, to the bit or up to rounding; else "".

    Args:
        name: of the backbone.
        features: (N, D) as they are stored.
        contents: how often each distinct row is there.
    """
    n, most = len(features), max(contents.values(), default=0)
    if n < 2:
        return ""
    if most == n:
        return f"all {n:,} embeddings of {name} are identical: it tells nothing apart; {ANEW}"
    distinct = counted(len(contents), "distinct one")
    if most >= ALIKE * n:
        alike = f"{most:,} of {n:,} embeddings of {name} are identical ({distinct} in all)"
        return f"{alike}, so it tells little apart; {ANEW}"
    low, high = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    near = ROUNDING * float(np.finfo(features.dtype).eps) * np.maximum(largest, NOTHING * largest.max(initial=0.0))
    if np.isfinite(near).all() and (high - low <= near).all():
        return f"all {n:,} embeddings of {name} are equal up to rounding ({distinct}): it tells nothing apart; {ANEW}"
    return ""
