"""Images in folders: root/class/img, root/split/class/img, root/class/split/img, or one flat folder without labels.

Archives of such folders are read by the same rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from dvme.data.images import SUFFIXES
from dvme.data.listing import Listing, list_images
from dvme.data.samples import MISSING, SPLIT_NAMES, Samples, canonical_split, unlisted_line
from dvme.data.sources import container_suffixes
from dvme.data.tables import TABLE_SUFFIXES
from dvme.errors import DataError
from dvme.text import EXAMPLES, counted, some_of

Places = Sequence[tuple[str, ...]]
"""Of each image: the folders in which it lies, from the root on."""


def folder_samples(root: Path, *, images_only: bool = False) -> Samples:
    """List the images below a folder; the folders' names, if they are looked at, are labels, and splits if such.

    Raises:
        DataError: if the folder holds no image, or mixes labelled and unlabelled images.
    """
    return listed_samples(root, list_images(root), images_only=images_only)


def listed_samples(
    root: Path, listing: Listing, *, images_only: bool = False, folders: Sequence[tuple[str, ...]] | None = None
) -> Samples:
    """The images of a listing, by the folders in which they lie.

    Args:
        root: what was listed: a folder, or an archive.
        listing: what was found.
        images_only: the folders' names are not looked at.
        folders: of each image; None: those between the root and the image.

    Raises:
        DataError: as `folder_samples`.
    """
    files = listing.files
    if not files:
        raise DataError(f"{root} holds no images{_what_it_holds(root, listing)}")
    ids = names_below(root, files)
    every = [tuple(name.split("/")[:-1]) for name in ids] if folders is None else folders
    wrapping = () if images_only else _wrapping(every, root)
    folders = [place[len(wrapping) :] for place in every]
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
    through = [f"all images lie in {'/'.join(wrapping)}/, which is no class and is looked through"] if wrapping else []
    empty = _without_images(listing, folders, wrapping, has_splits=has_splits)
    return Samples(
        paths=files,
        ids=ids,
        labels=labels,
        splits=[canonical_split(place[depth - 1]) if depth else MISSING for place in places],
        groups=[MISSING] * len(files),
        given=frozenset({"label"} if stray < len(files) else ()) | frozenset({"split"} if depth else ()),
        remarks=(*through, *_split_remarks(places, depth), *passed_over(listing), *empty),
        unlisted=_named_from(root, listing),
    )


def names_below(root: Path, files: Sequence[Path]) -> list[str]:
    """The names of files from a folder on, with slashes."""
    start = len(str(root / "_")) - 1
    return [str(path)[start:] for path in files]


def _wrapping(places: Places, root: Path) -> tuple[str, ...]:
    """The folders around everything else, as downloads and archives of a whole folder have them.

    A single folder with images right in it is a class, and so is one with nothing but splits of images; unless it is
    called as the root is.
    """
    first, last = min(places), max(places)
    depth = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    around = tuple(takewhile(lambda name: name.lower() not in SPLIT_NAMES, first[: min(depth, len(last))]))
    below = {place[depth] if len(place) > depth else MISSING for place in places}
    are_splits = all(name.lower() in SPLIT_NAMES for name in below) and all(len(place) == depth + 1 for place in places)
    if MISSING in below or are_splits:
        return around[:1] if around and around[0] in {root.name, root.stem} else ()
    return around


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


def passed_over(listing: Listing) -> list[str]:
    """What was passed over, a line for each reason."""
    lines = []
    if listing.others:
        lines.append(f"{_kinds(listing.others)} passed over")
    tables = [place for place, _ in listing.others if "/" not in place and place.lower().endswith(TABLE_SUFFIXES)]
    if tables:
        lies, lists = ("lies", "it lists") if len(tables) == 1 else ("lie", "one of them lists")
        lines.append(f"{some_of(tables)} {lies} beside the images; if {lists} them, name it in place of the folder")
    if listing.directories:
        contents = counted(len(listing.directories), "table of contents", "tables of contents")
        lines.append(f"{contents} of DICOM files passed over: {some_of(listing.directories, EXAMPLES)}")
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
    return lines


def _without_images(listing: Listing, places: Places, wrapping: tuple[str, ...], *, has_splits: bool) -> list[str]:
    """Says which folders of splits and of classes have no image below; a folder around all is none of these."""
    full, around = {place[:depth] for place in places for depth in (1, 2)}, len(wrapping)
    inner = [(folder, tuple(folder.split("/"))) for folder in dict.fromkeys(listing.folders)]
    inside = [(folder, place[around:]) for folder, place in inner if place[:around] == wrapping]
    empty = [folder for folder, place in inside if 0 < len(place) <= 1 + has_splits and place not in full]
    named = some_of([folder + _kinds_below(listing, folder) for folder in empty])
    if not empty:
        return []
    return [f"{'a folder holds' if len(empty) == 1 else f'{len(empty):,} folders hold'} no image: {named}"]


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
    if suffix in container_suffixes():
        return f", but {counted(count, 'file')} of kind {suffix}; name one of them, or a manifest of images in them"
    known = " ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))
    return f", but {counted(count, 'file')} of kind {suffix}; dvme reads {known}"
