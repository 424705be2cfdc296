"""What a tar archive holds, by one pass over its headers; what lies between them is not read.

Plain headers, and extended ones that tell times and owners only, are read here, at a quarter of the time that `tarfile`
takes. Everything else, such as long names, is read by `tarfile`.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from errno import EBADMSG
from pathlib import Path
from typing import NamedTuple
from zlib import adler32

from dvme.data.listing import NOT_A_FILE
from dvme.data.sources.entries import Entries, bytes_at
from dvme.text import counted

BLOCK = 512
ZEROS = bytes(BLOCK)
FILES, FOLDER, EXTENDED = (b"0", b"\0"), b"5", b"x"
USTAR = b"ustar"
CHANGING = re.compile(rb" (?:path|size|linkpath|hdrcharset|GNU\.\S*)=")
"""Keys of an extended header that change where a member lies or what it is called."""
PART = 2**20
"""Bytes looked at at a time behind the end."""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
"""First bytes of a file that is compressed."""


class Stored(NamedTuple):
    """Where a member lies."""

    start: int
    n_bytes: int
    """-1 for a sparse file, which is not read."""


@dataclass
class _Tar:
    """A tar archive while its headers are read."""

    path: Path
    fd: int
    n_bytes: int
    entries: Entries[Stored]
    slow: tarfile.TarFile
    is_plain: bool = True
    """Whether no header has told something of all that follow."""
    n_whole: int = 0


def index_tar(path: Path, fd: int) -> Entries[Stored]:
    """List an archive that is open for reading.

    Raises:
        OSError: if it is none, or is cut off or damaged.
    """
    n_bytes = os.fstat(fd).st_size
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as slow:
            tar = _Tar(path, fd, n_bytes, Entries(), slow)
            offset: int | None = 0
            end = 0
            while offset is not None:
                end = offset
                offset = _next(tar, offset)
    except (tarfile.TarError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(8)
        packed = next((name for mark, name in PACKED.items() if start.startswith(mark)), None)
        what = f"it is compressed by {packed}" if packed else f"it is no tar archive ({error})"
        raise OSError(EBADMSG, what) from error
    _check_end(tar, end)
    tar.entries.follow_links()
    return tar.entries


def _next(tar: _Tar, offset: int) -> int | None:
    """Add the member whose header begins at an offset; where the next one does, or None at the end.

    Raises:
        OSError: if the header or the member is cut off or damaged.
    """
    blocks = bytes_at(tar.fd, 3 * BLOCK, offset)
    head = blocks[:BLOCK]
    if not head or head == ZEROS:
        return None
    after = _fast(tar, offset, blocks) if tar.is_plain else None
    if after is None:
        after = _slow(tar, offset)
    if not offset < after <= tar.n_bytes:
        raise _cut_off(tar)
    tar.n_whole += 1
    return after


def _fast(tar: _Tar, offset: int, blocks: bytes) -> int | None:
    """As `_next`, of a file or folder with a plain header; None for everything else."""
    head = blocks[:BLOCK]
    size = _size(head)
    if head[156:157] == EXTENDED and size is not None and size <= BLOCK == len(blocks) - 2 * BLOCK:
        if CHANGING.search(blocks, BLOCK, BLOCK + size):
            return None
        offset, head = offset + 2 * BLOCK, blocks[2 * BLOCK :]
        size = _size(head)
    kind, name = head[156:157], head[:100].partition(b"\0")[0]
    if size is None or (kind not in FILES and kind != FOLDER):
        return None
    if head[257:262] == USTAR and head[262:263] == b"\0" and head[345]:  # GNU tar keeps times there
        name = head[345:500].partition(b"\0")[0] + b"/" + name
    text, start = name.decode("utf-8", "surrogateescape"), offset + BLOCK
    if kind == FOLDER or name.endswith(b"/"):
        tar.entries.add_folder(text)
        return start + (0 if kind == FOLDER else _whole_blocks(size))
    tar.entries.add(text, Stored(start, size))
    return start + _whole_blocks(size)


def _size(head: bytes) -> int | None:
    """The size that a header tells in octal, if the header is whole."""
    try:
        told, size = int(head[148:156].strip(b" \0"), 8), int(head[124:136].strip(b" \0"), 8)
    except ValueError:
        return None
    # The lower half of Adler-32 is one more than the sum of the bytes, modulo 65521, and fast.
    found = adler32(head[:148] + b" " * 8 + head[156:]) & 0xFFFF
    return size if len(head) == BLOCK and found == (told + 1) % 65521 and size >= 0 else None


def _slow(tar: _Tar, offset: int) -> int:
    """As `_next`, by `tarfile`."""
    assert tar.slow.fileobj is not None
    tar.slow.fileobj.seek(offset)
    tar.slow.offset = offset
    try:
        info = tarfile.TarInfo.fromtarfile(tar.slow)
    except (tarfile.HeaderError, ValueError, RecursionError) as error:
        raise _cut_off(tar) from error
    if tar.slow.pax_headers:
        tar.is_plain = False
    entries = tar.entries
    if info.isdir():
        entries.add_folder(info.name)
    elif info.issym() or info.islnk():
        entries.add_link(info.name, info.linkname, is_relative=info.issym())
    elif info.isreg():
        entries.add(info.name, Stored(info.offset_data, -1 if info.issparse() else info.size))
    else:
        entries.add_other(info.name, NOT_A_FILE)
    return tar.slow.offset


def _whole_blocks(n_bytes: int) -> int:
    return -(-n_bytes // BLOCK) * BLOCK


def _check_end(tar: _Tar, end: int) -> None:
    """Refuse an archive without the zeros that close it, and one with more behind them.

    Raises:
        OSError: saying which.
    """
    if tar.n_bytes < end + BLOCK:
        raise _cut_off(tar)
    for start in range(end, tar.n_bytes, PART):
        part = bytes_at(tar.fd, PART, start)
        if part.count(0) != len(part):
            more = f"after its end, {counted(tar.n_whole, 'member')} on, more follows, so it is several archives in one"
            raise OSError(EBADMSG, f"{more} or damaged; pack it again")


def _cut_off(tar: _Tar) -> OSError:
    whole = counted(tar.n_whole, "member is whole", "members are whole")
    what = f"it ends early or is damaged: {whole}, and what should follow is unknown"
    return OSError(EBADMSG, f"{what}; fetch or pack it again")
