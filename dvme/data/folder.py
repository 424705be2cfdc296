"""Images in folders: root/class/img, root/split/class/img, root/class/split/img, or one flat folder without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dvme.data.images import SUFFIXES
from dvme.data.listing import Listing, list_images
from dvme.data.samples import MISSING, SPLIT_NAMES, Samples, canonical_split, unlisted_line
from dvme.errors import DataError
from dvme.text import EXAMPLES, counted, some_of

Places = Sequence[tuple[str, ...]]
"""Of each image: the folders in which it lies, from the root on."""


def folder_samples(root: Path, *, images_only: bool = False) -> Samples:
    """List the images below a folder; the folders' names, if they are looked at, are labels, and splits if such.

    Raises:
        DataError: if the folder holds no image, or mixes labelled and unlabelled images.
    """
    listing = list_images(root)
    files = listing.files
    if not files:
        raise DataError(f"{root} holds no images{_what_it_holds(root, listing)}")
    folders = [path.relative_to(root).parts[:-1] for path in files]
    places = [()] * len(files) if images_only else folders
    has_splits = _begin_with_splits(places, root)
    are_below = all(len(place) > 1 and place[1].lower() in SPLIT_NAMES for place in places)
    depth = 1 if has_splits else 2 if are_below else 0
    labels = [place[has_splits] if len(place) > has_splits else MISSING for place in places]
    stray = labels.count(MISSING)
    if not has_splits and 0 < stray < len(files):
        example = files[labels.index(MISSING)].name
        raise DataError(
            f"{root} mixes {counted(len(files) - stray, 'image')} in class folders with {stray} outside of any "
            f"(such as {example}); move them, or list the images in a manifest"
        )
    return Samples(
        paths=files,
        ids=[path.relative_to(root).as_posix() for path in files],
        labels=labels,
        splits=[canonical_split(place[depth - 1]) if depth else MISSING for place in places],
        groups=[MISSING] * len(files),
        given=frozenset({"label"} if stray < len(files) else ()) | frozenset({"split"} if depth else ()),
        remarks=(*_split_remarks(places, depth), *_remarks(listing, folders, has_splits=has_splits)),
        unlisted=_named_from(root, listing),
    )


def _begin_with_splits(places: Places, root: Path) -> bool:
    """Whether the folders directly below the root are the splits.

    Raises:
        DataError: if only some of them are.
    """
    tops = {place[0] for place in places if place}
    splits = sorted(top for top in tops if top.lower() in SPLIT_NAMES)
    if splits and not all(place and place[0] in splits for place in places):
        others = ", ".join(sorted(tops - set(splits))[:EXAMPLES]) or "images outside of them"
        raise DataError(
            f"{root} has split folders ({', '.join(splits)}) beside others ({others}); use a manifest, or move them"
        )
    return bool(splits)


def _split_remarks(places: Places, depth: int) -> list[str]:
    """Says where splits below the classes were found, taken or not."""
    found = Counter(place[1] for place in places if len(place) > 1 and place[1].lower() in SPLIT_NAMES)
    if depth == 1 or not found:
        return []
    names = some_of([f"{name} ({count:,})" for name, count in sorted(found.items())])
    if depth:
        return [f"splits are the folders below those of the classes: {names}"]
    return [
        f"folders below those of classes are called {names}, and are not taken for splits, as other images lie "
        "outside of such; use a manifest, or move them to SPLIT/CLASS/"
    ]


def _remarks(listing: Listing, places: Places, *, has_splits: bool) -> list[str]:
    """What was passed over, a line for each reason."""
    lines = []
    if listing.others:
        lines.append(f"{_kinds(listing.others)} passed over")
    if listing.directories:
        tables = counted(len(listing.directories), "table of contents", "tables of contents")
        lines.append(f"{tables} of DICOM files passed over: {some_of(listing.directories, EXAMPLES)}")
    if listing.side:
        held = some_of([f"{count:,} {name}" for name, count in sorted(listing.side.items())])
        lines.append(f"folders passed over that systems keep beside files: {held}")
    if listing.hidden:
        lines.append(
            f"passed over though images are inside, for their names begin with . or __: {some_of(listing.hidden)}; "
            "rename what is data"
        )
    if listing.twice:
        pairs = some_of([f"{place} is {other}" for place, other in listing.twice.items()], EXAMPLES)
        lines.append(f"the same folder under another name, passed over: {pairs}")
    empty = _without_images(listing, places, has_splits=has_splits)
    if empty:
        one = len(empty) == 1
        named = some_of([place + _kinds_below(listing, place) for place in empty])
        lines.append(f"{'a folder holds' if one else f'{len(empty):,} folders hold'} no image: {named}")
    return lines


def _without_images(listing: Listing, places: Places, *, has_splits: bool) -> list[str]:
    """Folders of splits and of classes without any image below."""
    full = {place[:depth] for place in places for depth in (1, 2)}
    candidates = [tuple(folder.split("/")) for folder in listing.folders]
    return ["/".join(place) for place in candidates if len(place) <= 1 + has_splits and place not in full]


def _kinds(others: Sequence[tuple[str, str]]) -> str:
    """`5 files of other kinds: 3 .tga, 2 .txt`."""
    counts = Counter(kind for _, kind in others)
    named = some_of([f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item))])
    return f"{counted(len(others), 'file')} of other kinds ({named})"


def _kinds_below(listing: Listing, folder: str) -> str:
    below = [(place, kind) for place, kind in listing.others if place.startswith(f"{folder}/")]
    return f", but {_kinds(below)}" if below else ""


def _named_from(root: Path, listing: Listing) -> dict[str, str]:
    """What could not be listed, as the user finds it."""
    return {str(root / place): reason for place, reason in listing.unlisted.items()}


def _what_it_holds(root: Path, listing: Listing) -> str:
    """A hint such as `: 12 .dcm files; ...` when files of another kind are there."""
    if listing.unlisted:
        return f": {unlisted_line(_named_from(root, listing))}"
    if listing.hidden:
        return f", but in folders whose names begin with . or __: {some_of(listing.hidden)}; rename them"
    if not listing.others:
        return " (it is empty); name the folder that has them"
    suffix, count = Counter(kind for _, kind in listing.others).most_common(1)[0]
    known = " ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))
    return f", but {counted(count, 'file')} of kind {suffix}; dvme reads {known}"
