"""From what a table calls an image to its file: another machine's separators, capitals and forms of letters."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from unicodedata import normalize
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dvme.data.images import SUFFIXES
from dvme.text import EXAMPLES, counted, some_of

FILE_URL = re.compile(r"file:/", re.IGNORECASE)
OTHER_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
OF_WINDOWS = re.compile(r"([a-z]:|\\)[\\/]", re.IGNORECASE)
"""A drive, `C:\\`, or a server, `\\\\NAME\\`."""


def spellings(name: str) -> Iterator[str]:
    """Other ways to write what a name may mean, the likeliest first."""
    if FILE_URL.match(name):
        yield url2pathname(urlsplit(name).path)
    if name.startswith("~"):
        yield os.path.expanduser(name)  # noqa: PTH111 - stays a text
    if "\\" in name:
        yield name.replace("\\", "/")


@cache
def folded(name: str) -> str:
    """What is the same of names that differ in capitals, separators or Unicode's forms of letters alone."""
    return normalize("NFC", name.replace("\\", "/")).casefold().removeprefix("./")


def wrong_place(name: str) -> str:
    """What a name of another place is, as the end of a sentence about files that are not there; "" of any other."""
    if OTHER_URL.match(name):
        return " (an address on a network: download the images first)"
    if OF_WINDOWS.match(name):
        return " (a path of a Windows machine: keep what follows the folder of all images)"
    return ""


class Finder:
    """Finds files by names as they are written, or else by the only name on disk that differs in spelling alone."""

    def __init__(self, root: Path, is_missing: Callable[[Path], bool]) -> None:
        self.read: dict[str, str] = {}
        """Names that were found under another spelling, and that spelling."""
        self._root, self._is_missing = root, is_missing
        self._listed: dict[str, dict[str, list[str]]] = {}
        self._resolved: dict[str, str | None] = {}

    def find(self, name: str) -> Path | None:
        """The file; None where there is none, or more than one that could be meant.

        Raises:
            DataError: if something else than a file is there.
        """
        path = self._root / name
        if os.path.exists(path):  # noqa: PTH110 - for a million names, and no error for what is no path
            return None if self._is_missing(path) else path
        others = list(spellings(name))
        for written in others:
            found = self._root / written
            if os.path.isfile(found):  # noqa: PTH113 - as above
                return self._kept(name, found)
        for written in (name, *others):
            if "\0" not in written and not OTHER_URL.match(written):
                alike = self._on_disk(f"{self._root / written}", is_file=True)
                if alike is not None and os.path.isfile(alike):  # noqa: PTH113
                    return self._kept(name, Path(alike))
        for written in (name, *others):  # in a container, or where nobody can look
            if not self._is_missing(self._root / written):
                return path if written == name else self._kept(name, self._root / written)
        return None

    def _kept(self, name: str, found: Path) -> Path:
        self.read[name] = f"{found}".removeprefix(f"{self._root}{os.sep}")
        return found

    def _on_disk(self, path: str, *, is_file: bool = False) -> str | None:
        """A path as the folders on disk have it, from the first that is not there on."""
        if path not in self._resolved:
            parent, name = os.path.split(path)
            if not name or os.path.lexists(path):
                self._resolved[path] = path
            else:
                folder = self._on_disk(parent) if parent else "."
                self._resolved[path] = None if folder is None else self._entry(folder, name, is_file=is_file)
        return self._resolved[path]

    def _entry(self, folder: str, name: str, *, is_file: bool) -> str | None:
        """The only entry of a folder that a name may mean, if need be without the suffix of an image."""
        keys = self._keys(folder)
        found = keys.get(folded(name), [])
        same = [entry for entry in found if normalize("NFC", entry) == normalize("NFC", name)]
        found = same or found or (keys.get(f"{folded(name)}/", []) if is_file else [])
        return os.path.join(folder, found[0]) if len(found) == 1 else None  # noqa: PTH118 - stays a text

    def _keys(self, folder: str) -> Mapping[str, list[str]]:
        """What a folder holds, by what does not differ; images also without their suffix, `1/` for 1.png."""
        if folder not in self._listed:
            keys = self._listed[folder] = dict[str, list[str]]()
            try:
                entries = os.listdir(folder)  # noqa: PTH208
            except (OSError, ValueError):
                entries = []
            for entry in entries:
                stem, suffix = os.path.splitext(entry)  # noqa: PTH122
                keys.setdefault(folded(entry), []).append(entry)
                if suffix.lower() in SUFFIXES:
                    keys.setdefault(f"{folded(stem)}/", []).append(entry)
        return self._listed[folder]


def found_line(read: Mapping[str, str]) -> list[str]:
    """A line that counts what was found under another spelling."""
    if not read:
        return []
    shown = some_of([f"{name} = {found}" for name, found in read.items()], EXAMPLES)
    return [f"{counted(len(read), 'image')} found under another spelling of the name: {shown}"]
