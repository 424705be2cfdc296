"""What a site's labels say of the findings or classes of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.defaults import NO_FINDING
from dvme.errors import DataError, parameter
from dvme.notices import Aside
from dvme.text import some_of


@dataclass(frozen=True, eq=False)
class Matched:
    """N images of a site, of which R say something about the study's C classes."""

    pairs: Mapping[str, tuple[str, ...]]
    """Study's name to the site's, in the study's order."""
    ours_only: tuple[str, ...]
    theirs_only: tuple[str, ...]
    rows: NDArray[np.int64]
    """(R,) positions of these images."""
    truth: NDArray[np.float64]
    """(R, C) of 1, 0, and nan where it is not known."""
    is_of_classes: bool
    """Whether each of these images has one of the study's classes, and no other."""
    left_out: dict[str, int] = field(default_factory=dict)
    """The other images, by reason."""
    notices: tuple[str, ...] = ()

    @property
    def shared(self) -> tuple[int, ...]:
        """Classes that some of these images have."""
        return tuple(np.flatnonzero((self.truth == 1.0).any(axis=0)).tolist())

    @property
    def labels(self) -> NDArray[np.int64]:
        """(R,) class indices, where `is_of_classes`."""
        labels: NDArray[np.int64] = self.truth.argmax(axis=1).astype(np.int64)
        return labels


def matched(site: str, theirs: Targets, ours: Targets, wanted: Mapping[str, Sequence[str]]) -> Matched:
    """Match labels by name, or as it was said.

    A finding that has several names at the site is there where one of them is, absent where all are. Where the site's
    images have one class each, an image of another class than those of a finding is without it. Findings that the site
    does not name are not known there. Where the study's images have one class each, an image counts that has exactly
    one of these classes; where the site may have several findings, `NO_FINDING` is the name of an image without any,
    and a class that is not matched is whatever is left: an image without the others.

    Args:
        site: its name.
        theirs: of the site's N images.
        ours: of the study.
        wanted: names in the study to names at the site; others are matched by name.

    Raises:
        DataError: if a name is none of the site's, or nothing is matched.
    """
    known = [*theirs.classes, *([NO_FINDING] if theirs.is_multilabel and NO_FINDING not in theirs.classes else [])]
    for name, names in wanted.items():
        stray = [each for each in names if each not in known]
        if stray:
            raise DataError(
                f"site {site} has no {stray[0]!r} for " + parameter("label_map", {name: stray[0]}) + "; it has "
                f"{some_of(known, 20)}"
            )
    pairs = {
        name: tuple(wanted.get(name, (name,))) for name in ours.classes if name in wanted or name in theirs.classes
    }
    used = {each for names in pairs.values() for each in names}
    ours_only = tuple(name for name in ours.classes if name not in pairs)
    theirs_only = tuple(name for name in theirs.classes if name not in used)
    if not pairs:
        raise DataError(
            f"site {site} has none of the study's {'findings' if ours.is_multilabel else 'classes'} "
            f"({some_of(ours.classes)}), it has {some_of(known)}; say what they are called with "
            + parameter("label_map", _hints(ours.classes, theirs.classes) or {"OURS": "THEIRS"})
        )
    truth = np.full((len(theirs), len(ours.classes)), np.nan)
    for name, names in pairs.items():
        truth[:, ours.classes.index(name)] = _any_of(theirs, names)
    found = Matched(pairs, ours_only, theirs_only, np.arange(len(theirs)), truth, is_of_classes=False)
    found = _of_findings(found) if ours.is_multilabel else _of_classes(found, theirs, ours.classes)
    return replace(found, notices=tuple(_said(site, found, theirs, ours)))


def _any_of(theirs: Targets, names: Sequence[str]) -> NDArray[np.float64]:
    """(N,) whether one of these is there."""
    own = theirs.among(theirs.classes)
    columns = [
        own[:, theirs.classes.index(name)] if name in theirs.classes else 1.0 - _greatest(own)  # without any
        for name in names
    ]
    return _greatest(np.stack(columns, axis=1))


def _greatest(values: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) of (N, k): 1 where one is 1, 0 where all are 0, else nan."""
    unknown = np.where(np.isnan(values).any(axis=1), np.nan, 0.0)
    return np.where((values == 1.0).any(axis=1), 1.0, unknown)


def _of_findings(found: Matched) -> Matched:
    """Of a study of several findings: who has one that is known."""
    is_known: NDArray[np.bool_] = np.asarray(~np.isnan(found.truth).all(axis=1))
    return _at(found, is_known, {"without a known finding that both have": ~is_known})


def _of_classes(found: Matched, theirs: Targets, classes: Sequence[str]) -> Matched:
    """Of a study of one class each."""
    truth = found.truth
    own = [index for index, name in enumerate(classes) if name in found.pairs]
    if theirs.is_multilabel and found.ours_only:
        if len(classes) == 2:  # what is left is the other class
            (index,) = own
            truth[:, 1 - index] = 1.0 - truth[:, index]
        else:  # of each class by itself it is known whether the image has it
            return _of_findings(found)
    n_own = (truth == 1.0).sum(axis=1)
    is_unknown = (
        (n_own == 0) & np.isnan(truth).any(axis=1) if theirs.is_multilabel else np.zeros(len(truth), dtype=bool)
    )
    reasons = {
        "of several of the study's classes": n_own > 1,
        "of which the class is not known": is_unknown,
        "of no class of the study": (n_own == 0) & ~is_unknown,
    }
    one_hot = np.where(n_own[:, None] == 1, (truth == 1.0).astype(np.float64), np.nan)
    return replace(_at(replace(found, truth=one_hot), n_own == 1, reasons), is_of_classes=True)


def _at(found: Matched, some: NDArray[np.bool_], reasons: Mapping[str, NDArray[np.bool_]]) -> Matched:
    left_out = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
    return replace(found, rows=np.flatnonzero(some), truth=found.truth[some], left_out=left_out)


def _said(site: str, found: Matched, theirs: Targets, ours: Targets) -> list[str]:
    """Lines on what was matched, and on what was not."""
    what = "findings" if ours.is_multilabel else "classes"
    renamed = [f"{name} is {' or '.join(names)}" for name, names in found.pairs.items() if names != (name,)]
    lines = list[str]()
    if renamed:
        lines.append(Aside(f"{site}: {some_of(renamed)} there"))
    if found.ours_only:
        hints = _hints(found.ours_only, found.theirs_only)
        step = ("; if it is the same, pass " + parameter("label_map", hints)) if hints else ""
        lines.append(f"{site}: of the study's {what} it lacks {some_of(found.ours_only)}" + step)
    if found.theirs_only:
        count = (
            " (its images count as being without the others)" if ours.is_multilabel and not theirs.is_multilabel else ""
        )
        lines.append(Aside(f"{site}: the study lacks {some_of(found.theirs_only)}{count}"))
    if len(ours.classes) == 2 and not ours.is_multilabel and theirs.is_multilabel and found.ours_only:
        (known,) = found.pairs
        lines.append(f"{site}: all images without {known} count as {found.ours_only[0]}, whatever else they have")
    lines += [f"{site}: left out: {count:,} {reason}" for reason, count in found.left_out.items()]
    return lines


def _hints(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Names that are the same but for case, blanks and underlines."""
    known = {_plain(name): name for name in theirs}
    return {name: known[_plain(name)] for name in ours if _plain(name) in known}


def _plain(name: str) -> str:
    return "".join(name.casefold().replace("_", " ").split())
