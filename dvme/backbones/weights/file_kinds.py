"""What a file is that is no checkpoint: the web page, the pointer or the picture that was saved in its place."""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from itertools import islice
from pathlib import Path

from dvme.text import first_few

EMPTY = "empty"
HEAD_BYTES = 2048
OPCODES_TRIED = 100
STARTS = {
    rb"RIFF.{4}WEBP": "a WebP image",
    rb"\x08.{,60}pytorch": "an ONNX model",
    rb"\x89PNG\r\n\x1a\n": "a PNG image",
    rb"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    rb"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    rb"\xfd7zXZ\x00": "an xz archive",
    rb"\x28\xb5\x2f\xfd": "a Zstandard archive",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive",
    rb"Rar!\x1a\x07": "a RAR archive",
    rb"\x89HDF\r\n\x1a\n": "an HDF5 file",
    rb"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    rb"version https://git-lfs\.github\.com/spec/": "a Git LFS pointer, not the file it stands for",
}
ARCHIVES = ("gzip", "bzip2", "xz", "7z", "RAR", "Zstandard", "zip")
LENGTH_BYTES = 8
"""Of a safetensors file's header, which follows; it is JSON."""
MARKUP = (b"<!doctype html", b"<html", b"<?xml")
TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")


def foreign_kind(path: Path) -> str | None:
    """What a file is, where that is no checkpoint of any kind: `a PNG image`; None where it may be one."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return EMPTY
    for pattern, kind in STARTS.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    if zipfile.is_zipfile(path):
        return _foreign_zip(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(MARKUP):
        return "a web page, perhaps an error or a login page"
    return "a text file, perhaps an error page or a Git LFS pointer" if _is_text(path, head) else None


def is_safetensors(path: Path) -> bool:
    """Whether a file is of that format, whatever it is called.

    Source: the format's description, huggingface/safetensors, README.
    """
    with path.open("rb") as file:
        head = file.read(LENGTH_BYTES + 2)
    n_header = int.from_bytes(head[:LENGTH_BYTES], "little")
    return head[LENGTH_BYTES:].startswith((b'{"', b"{}", b"{ ")) and n_header <= path.stat().st_size


def is_no_checkpoint(path: Path) -> str | None:
    """One line that says so, and what to do; None for a file that may be a checkpoint."""
    kind = foreign_kind(path)
    if kind is None:
        return None
    if kind == EMPTY:
        return f"{path} is {kind}; fetch it again"
    if any(archive in kind for archive in ARCHIVES):
        return f"{path} is {kind}, not a checkpoint; unpack it and pass the checkpoint in it"
    if "TorchScript" in kind:
        return f"{path} is {kind}, not a checkpoint; save its state_dict() with torch.save"
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


def _foreign_zip(path: Path) -> str | None:
    """What a zip file is that PyTorch did not write by torch.save; None where it did, or where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "a file of NumPy arrays (.npz)"
    return f"a zip archive (of {first_few(names) or 'nothing'})"


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
