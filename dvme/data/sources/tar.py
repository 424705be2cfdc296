"""Tar archives, one or a folder of shards, as folders or as webdataset lays them out; read in place by many threads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import EBADMSG, EIO, ENOENT
from pathlib import Path

from dvme.data.columns import Columns
from dvme.data.encoded import Encoded
from dvme.data.folder import listed_samples, names_below
from dvme.data.listing import SIDE_FILES, SIDE_FOLDERS, Listing, is_image_name, why
from dvme.data.samples import SPLIT_NAMES, Samples, canonical_split
from dvme.data.sources import opened
from dvme.data.sources.compressed import UNPACKED_BY, refuse_compressed
from dvme.data.sources.entries import Entries, bytes_at, refuse_columns
from dvme.data.sources.tar_index import Stored, index_tar
from dvme.data.sources.webdataset import are_webdataset, webdataset_samples
from dvme.errors import DataError
from dvme.text import some_of

TAR = ".tar"
FIRST_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


@dataclass
class _Folder:
    """What a folder of archives holds."""

    shards: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class TarMembers:
    """An open tar archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        try:
            self.entries = index_tar(path, self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, member: str) -> Encoded:
        """The image of a name."""
        place = self.entries.places.get(member)
        if place is None:
            raise OSError(ENOENT, f"not in {self.path.name}")
        if place.n_bytes < 0:
            raise OSError(EIO, f"sparse in {self.path.name}, which dvme does not read; pack it without sparse files")
        data = bytes_at(self._fd, place.n_bytes, place.start)
        if len(data) != place.n_bytes:
            raise OSError(EBADMSG, f"cut off in {self.path.name}")
        return Encoded(data)

    def holds(self, member: str) -> bool:
        """Whether there is a file of this name."""
        return member in self.entries.places

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class TarSource:
    """One tar archive, or a folder of them."""

    called = "a tar archive"
    suffixes = (TAR,)

    def finds(self, place: Path) -> bool:
        """Whether a folder holds archives and no image, in itself or in folders that are called as splits."""
        return bool(_looked_into(place).shards)

    def list(self, place: Path, columns: Columns, *, images_only: bool) -> Samples:
        """The images inside: by webdataset's layout where label files lie beside them, else as in folders."""
        found = _looked_into(place) if place.is_dir() else _Folder([place])
        for shard in found.shards:
            refuse_compressed(shard)
        contents, unlisted = _contents(found.shards)
        if not contents:
            first, reason = next(iter(unlisted.items()))
            raise DataError(f"{first} cannot be read: {reason}")
        is_webdataset = are_webdataset(contents.values(), columns)
        if is_webdataset:
            samples = webdataset_samples(place, contents, columns, images_only=images_only)
        else:
            refuse_columns(place, self.called, columns)
            samples = _as_folders(place, contents, images_only=images_only)
        if not images_only and (is_webdataset or place.is_dir()) and "split" not in samples.given:
            samples = _with_splits(samples, place, list(contents))
        odd = [line for shard, entries in contents.items() for line in entries.remarks(shard)]
        odd += [f"passed over beside the archives: {some_of(found.others)}"] if found.others else []
        return replace(samples, remarks=(*samples.remarks, *odd), unlisted=unlisted)

    def open(self, container: Path) -> TarMembers:
        """Open one."""
        return TarMembers(container)


SOURCE = TarSource()


def _looked_into(place: Path) -> _Folder:
    """The archives of a folder; none where it holds images, or folders other than those of splits."""
    found, waiting = _Folder(), [place]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") or name.casefold() in SIDE_FILES or name.casefold() in SIDE_FOLDERS:
                        continue
                    if is_image_name(name) or (entry.is_dir() and (folder != place or name.lower() not in SPLIT_NAMES)):
                        return _Folder()
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif name.lower().endswith((TAR, *UNPACKED_BY)):
                        found.shards.append(Path(entry.path))
                    else:
                        found.others.append(name)
        except OSError:
            return _Folder()
    return _Folder(sorted(found.shards), sorted(found.others))


def _contents(shards: Sequence[Path]) -> tuple[dict[Path, Entries[Stored]], dict[str, str]]:
    """What each archive holds, and why that is unknown of the others."""
    contents, unlisted = dict[Path, Entries[Stored]](), dict[str, str]()
    for shard in shards:
        try:
            with opened(shard) as members:
                assert isinstance(members, TarMembers)
                contents[shard] = members.entries
        except OSError as error:
            unlisted[str(shard)] = why(error)
    return contents, unlisted


def _as_folders(place: Path, contents: Mapping[Path, Entries[Stored]], *, images_only: bool) -> Samples:
    """The images of all archives together, by the folders inside."""
    listing, folders = Listing(), list[tuple[str, ...]]()
    for shard, entries in contents.items():
        n_before = len(listing.files)
        entries.list_into(listing, shard)
        folders += [tuple(name.split("/")[:-1]) for name in names_below(shard, listing.files[n_before:])]
    return listed_samples(place, listing, images_only=images_only, folders=folders)


def _with_splits(samples: Samples, place: Path, shards: Sequence[Path]) -> Samples:
    """With the splits that the archives are called by, if all are: train-0001.tar, or train/0001.tar."""
    names = [(shard.name if shard.parent in {place, place.parent} else shard.parent.name) for shard in shards]
    words = [found[0].lower() if (found := FIRST_WORD.match(name)) else "" for name in names]
    if not all(word in SPLIT_NAMES for word in words):
        return samples
    splits, at = list[str](), 0
    for path in map(str, samples.paths):  # in the order of the archives
        while not path.startswith(f"{shards[at]}/"):
            at += 1
        splits.append(canonical_split(words[at]))
    remark = f"splits are by the names of the archives: {some_of(sorted(set(words)))}"
    return replace(samples, splits=splits, given=samples.given | {"split"}, remarks=(*samples.remarks, remark))
