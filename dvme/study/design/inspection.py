"""What the embeddings of a study say of its images, seen in one pass and kept: copies, and blind backbones."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import TORN, written_aside
from dvme.study.design import near, similarity
from dvme.study.design.crowds import Crowd
from dvme.study.design.directions import ROWS_AT_ONCE, parts
from dvme.study.design.near import near_pairs
from dvme.study.design.recall import Recall
from dvme.study.design.similarity import Close
from dvme.text import counted
from dvme.vectors import finite_rows
from dvme_cache import Fingerprint, content_id

ALIKE = 0.9
"""Share of a backbone's rows that are one and the same from which a study says so; some images do have copies."""
ROUNDING, NOTHING = 8, 1e-6
"""Units in the last place by which constant embeddings may differ; what is so small beside the largest value is 0."""
ANEW = "dvme cache verify looks for damage, dvme extract --replace makes them anew"
REVISION = 2
"""Raised when the same embeddings are to give other pairs, twins or lines."""


@dataclass(frozen=True, eq=False)
class Similar:
    """All pairs of similar images, whatever their sides."""

    pairs: NDArray[np.int64]
    """(P, 2) positions, the smaller first."""
    cosines: NDArray[np.float32]
    """(P,), the largest over the backbones."""
    backbones: tuple[str, ...]
    """(P,) the backbone of that largest one."""
    blind: tuple[str, ...]
    """Backbones that were passed over."""
    crowds: tuple[Crowd, ...] = ()
    """Images of which any two are a pair in some backbone; those pairs are not in `pairs`."""
    approximate: Mapping[str, Recall] = field(default_factory=dict)
    """By backbone in which the search may have missed pairs."""

    @property
    def notices(self) -> list[str]:
        """A line for each search that may have missed pairs."""
        return [recall.line(name) for name, recall in self.approximate.items()]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the embeddings of N images say of them."""

    twins: NDArray[np.int64]
    """(N,) integers, equal for images that are bit-identical in every backbone: one picture in files of different
    bytes. In every one, so that neither the order of the backbones nor one that is dead decides about the split."""
    constant: Mapping[str, str]
    """By backbone, a line where it tells (nearly) nothing apart."""
    similar: Similar

    @property
    def blind(self) -> list[str]:
        """Backbones in which near-duplicates were not looked for, and of which `constant` says nothing."""
        return [name for name in self.similar.blind if name not in self.constant]

    def save(self, path: Path, key: str) -> None:
        """Keep it under its key, see `seen_key`, whole or not at all."""
        names = list(dict.fromkeys(self.similar.backbones))
        crowds = self.similar.crowds
        record = {
            "key": key,
            "names": names,
            "blind": self.similar.blind,
            "constant": dict(self.constant),
            "approximate": {name: asdict(recall) for name, recall in self.similar.approximate.items()},
            "crowds": [[len(crowd.rows), crowd.cosine, crowd.backbone] for crowd in crowds],
        }
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(
                file,
                twins=self.twins,
                pairs=self.similar.pairs,
                cosines=self.similar.cosines,
                backbone=np.array([names.index(name) for name in self.similar.backbones], dtype=np.int64),
                crowds=np.concatenate([np.empty(0, dtype=np.int64), *(crowd.rows for crowd in crowds)]),
                record=np.array(json.dumps(record)),
            )

    @classmethod
    def load(cls, path: Path, key: str) -> Seen | None:
        """What was kept under this key; None if there is no such file, or it is torn, foreign or of another key.

        Raises:
            OSError: if the file is there and cannot be read; nothing says then that it is torn.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if archive.testzip() is not None:  # before a torn length is believed
                    return None
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                record = json.loads(found["record"].item())
                if record["key"] != key:
                    return None
                names = [record["names"][number] for number in found["backbone"].tolist()]
                ends = np.cumsum([size for size, *_ in record["crowds"]], dtype=np.int64)[:-1]
                members = np.split(found["crowds"], ends) if record["crowds"] else []
                similar = Similar(
                    found["pairs"],
                    found["cosines"],
                    tuple(names),
                    tuple(record["blind"]),
                    tuple(Crowd(rows, *of) for rows, (_, *of) in zip(members, record["crowds"], strict=True)),
                    {name: Recall(**recall) for name, recall in record["approximate"].items()},
                )
                return cls(found["twins"], record["constant"], similar)
        except TORN:
            return None


def seen_key(fingerprints: Mapping[str, Fingerprint], ids: NDArray[np.uint8]) -> str:
    """32 hexadecimal digits of everything that determines a `Seen`.

    Args:
        fingerprints: of the embeddings by backbone, in the order in which they are looked at.
        ids: (N, 16) content ids of the images, in their order.
    """
    described = {
        "revision": REVISION,
        "thresholds": [similarity.COSINE, similarity.BLIND, similarity.MOST_PAIRS, ALIKE, ROUNDING, NOTHING],
        "embeddings": [[name, each.digest] for name, each in fingerprints.items()],
        "images": hashlib.blake2b(np.ascontiguousarray(ids).tobytes(), digest_size=16).hexdigest(),
    }
    if len(ids) > near.MANY:
        described["search"] = [near.MANY, near.MOST_LISTED, near.MOST_VISITS]
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()


class Inspection:
    """Looks at all embeddings of a study once, a backbone at a time.

    Args:
        exact: whether all near-duplicates are looked for, however long it takes.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._exact = exact
        self._twins: NDArray[np.int64] | None = None
        self._constant: dict[str, str] = {}
        self._close: dict[str, Close | None] = {}

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Look at a backbone.

        Args:
            name: of the backbone.
            values: (N, D) as they are stored; nothing of them is kept.

        Raises:
            DataError: if a row is not finite.
        """
        n_bad = sum(int((~finite_rows(values[part])).sum()) for part in parts(len(values), ROWS_AT_ONCE))
        if n_bad:
            rows = f"{n_bad} of {len(values)} rows of {name}"
            raise DataError(f"{rows} are not finite; dvme cache verify says which, then extract")
        digests = np.fromiter((content_id(row.tobytes()) for row in values), dtype="S16", count=len(values))
        _, contents, counts = np.unique(digests, return_inverse=True, return_counts=True)
        del digests
        twins = np.zeros(len(values), dtype=np.int64) if self._twins is None else self._twins
        self._twins = np.unique(twins * max(1, len(counts)) + contents, return_inverse=True)[1]
        line = constant_notice(name, values, counts)
        if line:
            self._constant[name] = line
        self._close[name] = near_pairs(values, exact=self._exact)

    def found(self) -> Seen:
        """What all backbones together say.

        Raises:
            DataError: if no backbone tells any two images apart.
        """
        twins = np.empty(0, dtype=np.int64) if self._twins is None else self._twins
        if len(twins) > 1 and not twins.any():
            names = ", ".join(self._close)
            raise DataError(f"all {len(twins):,} embeddings of {names} are identical: nothing to learn; {ANEW}")
        return Seen(twins, self._constant, together(self._close))


def together(found: Mapping[str, Close | None]) -> Similar:
    """The pairs of all backbones, each with the largest cosine; at the same one, that of the first backbone.

    Args:
        found: by backbone; None for one that is blind.
    """
    close = {name: each for name, each in found.items() if each is not None}
    nothing = Close(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32))
    parts = [nothing, *close.values()]
    pairs, cosines = (np.concatenate(each) for each in zip(*((p.pairs, p.cosines) for p in parts), strict=True))
    backbone = np.repeat(np.arange(len(close)), [len(each.cosines) for each in close.values()])
    order = np.lexsort((backbone, -cosines, *pairs.T[::-1]))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(pairs[order], axis=0) != 0).any(axis=1)
    best, names = order[is_first], list(close)
    blind = tuple(name for name, each in found.items() if each is None)
    crowds = tuple(replace(crowd, backbone=name) for name, each in close.items() for crowd in each.crowds)
    recalls = {name: each.recall for name, each in close.items() if each.recall is not None}
    named = tuple(names[number] for number in backbone[best])
    return Similar(pairs[best], cosines[best], named, blind, crowds, recalls)


def constant_notice(name: str, features: NDArray[Any], counts: NDArray[np.int64]) -> str:
    """A line where the embeddings of a backbone are one and the same, to the bit or up to rounding; else "".

    Args:
        name: of the backbone.
        features: (N, D) as they are stored.
        counts: how often each distinct row is there.
    """
    n, most = len(features), int(counts.max(initial=0))
    if n < 2:
        return ""
    if most == n:
        return f"all {n:,} embeddings of {name} are identical: it tells nothing apart; {ANEW}"
    distinct = counted(len(counts), "distinct one")
    if most >= ALIKE * n:
        alike = f"{most:,} of {n:,} embeddings of {name} are identical ({distinct} in all)"
        return f"{alike}, so it tells little apart; {ANEW}"
    low, high = features.min(axis=0).astype(np.float64), features.max(axis=0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    near = ROUNDING * float(np.finfo(features.dtype).eps) * np.maximum(largest, NOTHING * largest.max(initial=0.0))
    if np.isfinite(near).all() and (high - low <= near).all():
        return f"all {n:,} embeddings of {name} are equal up to rounding ({distinct}): it tells nothing apart; {ANEW}"
    return ""
