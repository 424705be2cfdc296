"""What a file is that is no checkpoint: the web page, the pointer or the picture that was saved in its place."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from itertools import islice
from pathlib import Path

EMPTY = "empty"
HEAD_BYTES = 2048
OPCODES_TRIED = 100
STARTS = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the file it stands for",
}
ARCHIVES = ("gzip", "bzip2", "xz", "7z", "RAR")
MARKUP = (b"<!doctype html", b"<html", b"<?xml")
TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")


def foreign_kind(path: Path) -> str | None:
    """What a file is, where that is no checkpoint of any kind: `a PNG image`; None where it may be one."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return EMPTY
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP image"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(MARKUP):
        return "a web page, perhaps an error or a login page"
    return "a text file, perhaps an error page or a Git LFS pointer" if _is_text(path, head) else None


def is_no_checkpoint(path: Path) -> str | None:
    """One line that says so, and what to do; None for a file that may be a checkpoint."""
    kind = foreign_kind(path)
    if kind is None:
        return None
    if kind == EMPTY:
        return f"{path} is {kind}; fetch it again"
    if any(archive in kind for archive in ARCHIVES):
        return f"{path} is {kind}, not a checkpoint; unpack it and pass the checkpoint in it"
    if "pointer, not" in kind:
        return f"{path} is {kind}; fetch that with git lfs pull, or download it"
    return f"{path} is {kind}, not a checkpoint; fetch the checkpoint again, from its publisher"


def damaged_member(path: Path) -> str | None:
    """The name of a part of a zip file, as PyTorch writes them, whose bytes are not those of its checksum.

    PyTorch itself does not compare them. Files that were saved without checksums have zeros there, and no verdict.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.CRC == 0:
                    continue
                with archive.open(member) as part:
                    while part.read(1 << 20):
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return None


def _is_text(path: Path, head: bytes) -> bool:
    """Whether a file starts with readable lines, and is no pickle of the protocol that is text."""
    if any(byte < 32 and byte not in TEXT_CONTROLS for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else a character that the end of the sample cuts
            return False
    return not _is_pickle(path)


def _is_pickle(path: Path) -> bool:
    """Whether a file starts as a pickle does: those of protocol 0 are text as well."""
    try:
        with path.open("rb") as file:
            for _ in islice(pickletools.genops(file), OPCODES_TRIED):
                pass
    except (ValueError, EOFError, IndexError, OverflowError):
        return False
    return True
