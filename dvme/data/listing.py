"""What lies below a folder: the images, and whatever is passed over or cannot be listed, each with its reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from errno import EINVAL
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from dvme.data.dicom.names import DIRECTORY, is_unclear
from dvme.data.dicom.sniff import FIRST_BYTES, is_dicom
from dvme.data.images import SUFFIXES
from dvme.runtime import Runtime
from dvme.text import first_line

SIDE_FOLDERS = {
    "@eadir": "thumbnails and attributes of Synology file servers",
    "@tmp": "of Synology file servers",
    "@sharebin": "deleted files of Synology file servers",
    "#recycle": "deleted files of Synology file servers",
    "#snapshot": "snapshots of Synology file servers",
    "@recycle": "deleted files of QNAP file servers",
    "@recently-snapshot": "snapshots of QNAP file servers",
    "@transcode": "of QNAP file servers",
    ".@__thumb": "thumbnails of QNAP file servers",
    ".snapshot": "snapshots of NetApp file servers",
    "~snapshot": "snapshots of NetApp file servers",
    ".zfs": "snapshots of ZFS",
    ".appledouble": "attributes of netatalk file servers",
    "network trash folder": "deleted files of Apple file servers",
    "temporary items": "of Apple file servers",
    "__macosx": "attributes in archives that macOS made",
    ".spotlight-v100": "index of macOS",
    ".fseventsd": "log of macOS",
    ".trashes": "deleted files of macOS",
    "$recycle.bin": "deleted files of Windows",
    "recycler": "deleted files of Windows XP",
    "system volume information": "of Windows",
    "lost+found": "what a file system check found",
    ".thumbnails": "thumbnails of file managers",
    ".ipynb_checkpoints": "older versions that Jupyter keeps",
    "__pycache__": "of Python",
    ".git": "history of versions",
    ".svn": "history of versions",
    ".hg": "history of versions",
}
"""Folders that systems and file servers keep beside files, in lower case, and why what they hold is no data."""
STORE = ".zarr"
"""Of folders that are arrays, such as a cache that lies among the images."""
SIDE_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
AT_ONCE = 64
"""Files that a thread looks into before it takes the next ones."""
NOT_A_FILE, NO_SUFFIX = "pipe, socket or device", "without a suffix"


@dataclass
class Listing:
    """The files below a folder. Places are relative, with slashes."""

    files: list[Path] = field(default_factory=list)
    """Images, by their suffix, sorted; links count where their name has the suffix of an image. Where the name says
    nothing of the kind, DICOM files by their first bytes."""
    folders: list[str] = field(default_factory=list)
    """Places of the folders that were listed."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """Place and kind of every file that is passed over."""
    unlisted: dict[str, str] = field(default_factory=dict)
    """Place of each folder, and of each link to nowhere, whose content is unknown; and why."""
    side: Counter[str] = field(default_factory=Counter)
    """Name to count of the folders of SIDE_FOLDERS."""
    hidden: list[str] = field(default_factory=list)
    """Places of folders that hold images and are passed over, for their names begin with a dot or two underscores."""
    directories: list[str] = field(default_factory=list)
    """Places of files that are called DICOMDIR."""
    unclear: list[str] = field(default_factory=list)
    """Places of files that only their content can tell from DICOM files; none when the listing is done."""
    twice: dict[str, str] = field(default_factory=dict)
    """Place of a folder that was listed already, to the place where it was."""


def list_images(root: Path) -> Listing:
    """List what lies below a folder; links are followed, and every folder is listed once.

    A folder that cannot be listed is in `unlisted`: what it holds is unknown, which is not the same as gone.
    """
    found = Listing()
    visited: dict[str, str] = {}
    waiting = [""]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(root / place)
        if real in visited:
            found.twice[place] = visited[real]
            continue
        visited[real] = place or "."
        try:
            with os.scandir(str(root / place)) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.unlisted[place or "."] = why(error)
            continue
        if place:
            found.folders.append(place)
        below = [inner for entry in here if (inner := _sort_in(entry, place, root, found))]
        waiting += reversed(below)
    sort_in_unclear(root, found, lambda place: is_dicom_file(f"{root}/{place}"))
    found.files.sort()
    return found


def add_names(found: Listing, root: Path, names: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Add what an archive holds to a listing, by the rules for a folder.

    Args:
        found: what is added to.
        root: the archive.
        names: of its files, with slashes, each once.
        folders: that it names by themselves.
    """
    passed: dict[str, str | None] = {"": None}
    hidden: set[str] = set()
    for folder in sorted(folders):
        _sort_in_folder(folder, passed, found)
    for place in sorted(names, key=lambda name: name.split("/")):
        folder, _, name = place.rpartition("/")
        if folder not in passed:
            _sort_in_folder(folder, passed, found)
        around = passed[folder]
        if name.casefold() in SIDE_FOLDERS or name.endswith(STORE):
            found.side[name] += around is None
        elif around is None:
            _sort_in_file(name, place, root, found, is_file=True)
        elif around and is_image_name(name) and not name.startswith("."):
            hidden.add(around)
    found.hidden += sorted(hidden)


def _sort_in_folder(folder: str, passed: dict[str, str | None], found: Listing) -> None:
    """Say of a folder and of those around it whether they are passed over.

    `passed` maps each to None where it is not, to the hidden folder in which it lies, or to "" in one of SIDE_FOLDERS.
    """
    names = folder.split("/")
    for depth, name in enumerate(names):
        place, around = "/".join(names[: depth + 1]), passed["/".join(names[:depth])]
        if place in passed:
            continue
        is_side = name.casefold() in SIDE_FOLDERS or name.endswith(STORE)
        passed[place] = "" if is_side or around == "" else around
        if around is not None:
            continue
        if is_side:
            found.side[name] += 1
        elif name.startswith((".", "__")):
            passed[place] = place
        else:
            found.folders.append(place)


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image; blanks at the end of its name are no part of the suffix."""
    return kind_of(name) in SUFFIXES


def kind_of(name: str) -> str:
    """The suffix of a file, for a count by kind."""
    base = name.rstrip().rpartition("/")[2]  # as PurePosixPath does, at a tenth of its time
    dot = base.rfind(".")
    return base[dot:].lower() if 0 < dot < len(base) - 1 else NO_SUFFIX


def why(error: OSError) -> str:
    """What the system says, in a few words."""
    return error.strerror or first_line(error)


def file_bytes(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: if it cannot be read, or is a pipe, socket or device, for which one would wait for ever.
    """
    mode = path.stat().st_mode
    if not S_ISREG(mode):
        raise OSError(EINVAL, "a folder, no file" if S_ISDIR(mode) else f"a {NOT_A_FILE}, no file")
    return path.read_bytes()


def _sort_in(entry: os.DirEntry[str], folder: str, root: Path, found: Listing) -> str:
    """Put an entry where it belongs; the place of a folder that is to be listed, else ""."""
    name = entry.name
    place = f"{folder}/{name}" if folder else name
    if name.casefold() in SIDE_FOLDERS or name.endswith(STORE):
        found.side[name] += 1
        return ""
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
        if not is_folder and not is_file:
            entry.stat()  # fails for a link to nowhere, for which the two only say no
    except OSError as error:
        if not name.startswith("."):
            _sort_in_unknown(entry, place, root, found, error)
        return ""
    if is_folder:
        if not name.startswith((".", "__")):
            return place
        found.hidden += [place] if _holds_images(root / place) else []
        return ""
    _sort_in_file(name, place, root, found, is_file=is_file)
    return ""


def _sort_in_file(name: str, place: str, root: Path, found: Listing, *, is_file: bool) -> None:
    if name.startswith("."):  # `._1.png` is what macOS keeps beside 1.png
        found.others += [(place, f"hidden {kind_of(name)}")] if is_image_name(name) and name[:2] != "._" else []
    elif not is_file:
        found.others.append((place, NOT_A_FILE))
    elif is_image_name(name):
        found.files.append(root / place)
    elif name.casefold() == DIRECTORY:
        found.directories.append(place)
    elif is_unclear(name) and name.casefold() not in SIDE_FILES:
        found.unclear.append(place)
    elif name.casefold() not in SIDE_FILES:
        found.others.append((place, kind_of(name)))


def sort_in_unclear(root: Path, found: Listing, look: Callable[[str], bool | None]) -> None:
    """Look into the files whose names say nothing. One that cannot be read is an image if others are DICOM files."""
    places, found.unclear = found.unclear, []
    if not places:
        return
    parts = [places[start : start + AT_ONCE] for start in range(0, len(places), AT_ONCE)]
    with ThreadPoolExecutor(Runtime().n_workers) as pool:
        looked_into = pool.map(lambda part: [look(place) for place in part], parts)
        are_dicom = [is_one for part in looked_into for is_one in part]
    for place, is_one in zip(places, are_dicom, strict=True):
        if is_one or (is_one is None and any(are_dicom)):
            found.files.append(root / place)
        else:
            found.others.append((place, kind_of(place)))


def is_dicom_file(path: str | Path) -> bool | None:
    """Whether a file is DICOM by its first bytes; None where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - for a million names
            return is_dicom(file.read(FIRST_BYTES))
    except (OSError, ValueError):
        return None


def _sort_in_unknown(entry: os.DirEntry[str], place: str, root: Path, found: Listing, error: OSError) -> None:
    """What is no file and no folder just now. A link named like an image becomes an image that cannot be read."""
    if entry.is_symlink() and is_image_name(entry.name):
        found.files.append(root / place)
    else:
        found.unlisted[place] = f"link to {_target(entry)}: {why(error)}" if entry.is_symlink() else why(error)


def _target(entry: os.DirEntry[str]) -> str:
    try:
        return str(Path(entry.path).readlink())
    except OSError:
        return "somewhere"


def _holds_images(folder: Path) -> bool:
    """Whether there is an image by its name anywhere below; the walk ends at the first."""
    for _, folders, names in os.walk(folder):
        if any(is_image_name(name) and not name.startswith(".") for name in names):
            return True
        folders[:] = [name for name in folders if name.casefold() not in SIDE_FOLDERS]
    return False
