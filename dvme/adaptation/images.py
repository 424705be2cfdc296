"""The images of an adaptation: found as `dvme extract` finds them, each content once, with what is known of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.adaptation.leak import Leak, apply_leak_rule, joined_groups
from dvme.adaptation.settings import CONTRASTIVE, Settings
from dvme.data import Columns, Samples
from dvme.data.hashing import Identified, identify
from dvme.data.samples import MISSING, missing_line, unlisted_line
from dvme.errors import DataError, OptionError, parameter
from dvme.extraction.decoding import Work
from dvme.runtime import Runtime
from dvme.sets.direct import listed_samples
from dvme.text import counted, first_few

TRAIN, VALIDATION = "train", "val"
NO_KNOWN_GROUPS = "no image has a group: of patients with test images, other images are trained on"


@dataclass(frozen=True)
class Images:
    """N distinct images that may be trained on, in the order in which they were listed."""

    work: Sequence[Work]
    """Where each is; rows count from 0."""
    contents: NDArray[np.uint8]
    """(N, 16) content ids."""
    labels: NDArray[Any]
    """(N,) text; "" for none, and where copies disagree."""
    parts: NDArray[Any]
    """(N,) `train`, `val`, or "" where none is declared."""
    groups: NDArray[np.int64]
    """(N,) images of one number are of one group."""
    has_groups: bool
    """Whether any group is known."""
    findings: tuple[str, ...]
    """Of images that may have several labels, all that the source asks about."""
    leak: Leak
    n_files: int
    """Listed, those that are left out and copies included."""
    remarks: tuple[str, ...]
    unread: dict[str, str]
    """Files that could not be read, and why."""

    def __len__(self) -> int:
        return len(self.work)

    def without(self, unusable: Mapping[int, str]) -> Images:
        """The same without some of them, by their rows, and with a line that says why."""
        if not unusable:
            return self
        kept = np.setdiff1d(np.arange(len(self)), np.fromiter(unusable, dtype=np.int64))
        first = min(unusable)
        lost = f"{counted(len(unusable), 'image')} cannot be used and left out, such as "
        line = lost + f"{first_few([self.work[first].path], 1)}: {unusable[first]}"
        return replace(
            self,
            work=[replace(self.work[old], row=new) for new, old in enumerate(kept.tolist())],
            contents=self.contents[kept],
            labels=self.labels[kept],
            parts=self.parts[kept],
            groups=np.unique(self.groups[kept], return_inverse=True)[1],
            unread=self.unread | {str(self.work[row].path): why for row, why in unusable.items()},
            remarks=(*self.remarks, line),
        )


@dataclass(frozen=True)
class Listed:
    """Files that were listed, none of which was read, and what the user says of a test part."""

    images: str
    """As the user named them."""
    samples: Samples
    transductive: bool
    without_test: bool
    n_at_most: int = 0
    """Images that may be trained on, before copies are known."""

    def identified(self, runtime: Runtime, tell: Callable[[int, int], None]) -> Images:
        """Read them all; those that may be trained on, each content once.

        Raises:
            DataError: if nothing can be used.
        """
        return _distinct(identify(self.samples, runtime.n_workers, tell), self)


def list_images(
    images: str | Path,
    columns: Columns | None,
    image_root: str | Path | None = None,
    *,
    skip_missing: bool = False,
    transductive: bool = False,
    without_test: bool = False,
    method: str = "",
) -> Listed:
    """List images, and refuse what the leak rule refuses, and what a method cannot learn from, whatever files hold.

    Raises:
        DataError, OptionError: if nothing can be used, or no test part is declared; see `apply_leak_rule` and
            `check_images`.
    """
    samples = listed_samples(images, columns, image_root, skip_missing=skip_missing)
    listed = Listed(str(images), samples, transductive, without_test)
    # Copies may leave out more.
    parts, named = ([[each] for each in values] for values in (samples.splits, samples.groups))
    leak, groups = _leak(parts, named, samples.missing_known, listed)
    kept = np.flatnonzero(~leak.is_out)
    if method:
        labels, has_groups = [samples.labels[at] for at in kept.tolist()], any(samples.groups)
        _check(method, groups[kept], labels, has_groups=has_groups, is_transductive=leak.is_transductive)
    return replace(listed, n_at_most=len(kept))


def check_images(images: Images, settings: Settings) -> None:
    """Refuse images from which a method learns nothing, before their pixels are read.

    Raises:
        DataError, OptionError: naming what is missing.
    """
    said = {"has_groups": images.has_groups, "is_transductive": images.leak.is_transductive}
    _check(settings.method, images.groups, images.labels, **said)


def _check(
    method: str, groups: NDArray[np.int64], labels: Iterable[str], *, has_groups: bool, is_transductive: bool
) -> None:
    counts = np.unique(groups, return_counts=True)[1]
    if method == "micle" and not (counts > 1).any():
        what = "every group has one image" if has_groups else "no image has a group"
        step = "; name the column of patients with " + parameter("group") + ", or pass " + parameter("method", "simclr")
        raise DataError(f"micle pairs two images of a group, and {what}" + step)
    if method in CONTRASTIVE and len(counts) < 2:
        raise DataError(f"{method} compares images of different groups, and all images are of one group; add others")
    if method == "supervised" and is_transductive:
        raise OptionError(
            "supervised learns labels, those of test images too; leave out " + parameter("transductive", True)
        )
    if method == "supervised" and not any(label != MISSING for label in labels):
        raise DataError(
            f"supervised learns labels, and none of {counted(len(groups), 'image')} has one; name their column with "
            + parameter("label")
        )


def counts_line(images: Images) -> str:
    """What is trained on, and what is left out."""
    n_groups = int(images.groups.max()) + 1
    groups = f" of {counted(n_groups, 'group')}" if images.has_groups else ""
    line = f"{counted(len(images), 'image')}{groups} to train on"
    leak = images.leak
    if leak.is_transductive:
        test = f"{leak.n_test:,} of a declared test part" if leak.n_test else "perhaps some of a test part"
        return f"{line}, {test} among them (transductive)"
    if not leak.n_test:
        others = f"; left out: {counted(leak.n_related, 'image')} of groups whose test images are not there"
        return line + others if leak.n_related else line
    others = f" and {counted(leak.n_related, 'other image')} of their groups" if leak.n_related else ""
    return f"{line}; left out: {counted(leak.n_test, 'test image')}{others}"


def _leak(
    splits: Sequence[Sequence[str]],
    named: Sequence[Sequence[str]],
    gone: Sequence[tuple[str, str]],
    listed: Listed,
) -> tuple[Leak, NDArray[np.int64]]:
    """What becomes of images, and their groups by number; `gone` is split and group of those whose files are away."""
    groups = joined_groups([*named, *([group] for _, group in gone)])
    leak = apply_leak_rule(
        [*splits, *([part] for part, _ in gone)],
        groups,
        listed.images,
        transductive=listed.transductive,
        without_test=listed.without_test,
        n_gone=len(gone),
    )
    return leak, groups[: len(named)]


def _distinct(found: Identified, listed: Listed) -> Images:
    samples = found.samples
    members: dict[bytes, list[int]] = defaultdict(list)
    for position, digest in enumerate(found.digests):
        members[digest].append(position)
    files = list(members.values())
    named = [[samples.groups[position] for position in own] for own in files]
    splits = [[samples.splits[position] for position in own] for own in files]
    every = zip(listed.samples.ids, listed.samples.splits, listed.samples.groups, strict=True)
    unread = [(split, group) for identity, split, group in every if identity in found.unread]
    leak, groups = _leak(splits, named, [*unread, *samples.missing_known], listed)
    kept = [files[at] for at in np.flatnonzero(~leak.is_out).tolist()]
    digests = [found.digests[own[0]] for own in kept]
    return Images(
        work=[
            Work(row, samples.paths[own[0]], digest)
            for row, (own, digest) in enumerate(zip(kept, digests, strict=True))
        ],
        contents=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(kept), -1),
        labels=_agreed(samples.labels, kept),
        parts=_agreed(samples.splits, kept),
        groups=np.unique(groups[~leak.is_out], return_inverse=True)[1],
        has_groups=any(group != MISSING for group in samples.groups),
        findings=samples.findings,
        leak=leak,
        n_files=len(samples) + len(found.unread),
        remarks=_remarks(samples, found.unread),
        unread=found.unread,
    )


def _agreed(values: Sequence[str], files: Sequence[Sequence[int]]) -> NDArray[Any]:
    """What the copies of each image say, "" where nothing or where they disagree."""
    said = [{values[position] for position in own} - {MISSING} for own in files]
    return np.array([next(iter(each)) if len(each) == 1 else MISSING for each in said], dtype=object)


def _remarks(samples: Samples, unread: Mapping[str, str]) -> tuple[str, ...]:
    """What is worth knowing of what was listed, a line each."""
    lost = [f"{first_few(unread)}: {next(iter(unread.values()))}"] if unread else []
    groups = [] if any(group != MISSING for group in samples.groups) else [NO_KNOWN_GROUPS]
    lines = (unlisted_line(samples.unlisted), missing_line(samples.missing), *samples.remarks, *lost, *groups)
    return tuple(line for line in lines if line)
