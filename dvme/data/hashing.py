"""What identifies images: a hash of each file's bytes, for whatever looks images up in a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dvme.data.dicom import KIND, is_dicom
from dvme.data.dicom.headers import require_pydicom
from dvme.data.encoded import Encoded
from dvme.data.listing import why
from dvme.data.samples import Samples
from dvme.data.sources import read_image
from dvme.data.spool import Spool
from dvme.data.stamps import Stamps, Vouched, now, stamp_of
from dvme.errors import DataError
from dvme.text import counted

AT_ONCE = 256
"""Files between two words on how far it has come."""
IN_A_ROW = 8
"""Files that a thread takes at a time: to hand over one costs as much as to read a small one."""


@dataclass(frozen=True)
class Identified:
    """The files of a run that could be read, and what identifies each."""

    samples: Samples
    """N files."""
    digests: Sequence[bytes]
    """N content ids."""
    unread: dict[str, str]
    """Ids of the files that could not be read just now, and why; they are not among the samples."""
    unread_paths: list[Path]
    """Where those are."""
    kinds: frozenset[str] = frozenset()
    """Of those kinds of files that are read by a policy of their own, such as DICOM, which are among these."""
    n_trusted: int = 0
    """Files that were recognised by size and times, and not read."""
    spool: Spool | None = None
    """Where the bytes of some are, so that they need not be read again."""

    def with_spool(self, spool: Spool) -> Identified:
        """The same, with the bytes of some."""
        return replace(self, spool=spool)


def unheard(content_id: bytes, image: Encoded | None) -> None:
    """The listener of a call that nobody listens to."""
    del content_id, image


def identify(
    samples: Samples,
    workers: int,
    tell: Callable[[int, int], None],
    *,
    stamps: Stamps | None = None,
    hear: Callable[[bytes, Encoded | None], None] = unheard,
    check: Callable[[], None] = lambda: None,
) -> Identified:
    """Read and hash every file, and set those aside that cannot be read.

    Args:
        samples: the files.
        workers: threads.
        tell: called with (done, total).
        stamps: what vouches for files that need not be read; told of those that are.
        hear: called, by any thread, with each content id and the image, None where it was not read.
        check: called, by any thread, before each file; what it raises ends the call.

    Raises:
        DataError: if no file can be read.
        EnvironmentMismatchError: if one is a DICOM file, and pydicom is not installed.
    """
    kinds: set[str] = set()
    trusted: list[Path] = []

    def learn(path: Path) -> bytes | OSError:
        check()
        vouched, image = None if stamps is None else stamps.recall(path), None
        if vouched is not None:
            trusted.append(path)
        else:
            looked_at, before = now(), None if stamps is None else stamp_of(path)
            try:
                image = read_image(path)
            except OSError as error:
                return error
            vouched = Vouched(image.content_id, is_dicom(image.data))
            if stamps is not None:
                stamps.note(path, before, looked_at, vouched)
        if vouched.is_dicom:
            require_pydicom()
            kinds.add(KIND)
        hear(vouched.content_id, image)
        return vouched.content_id

    found = hash_files(samples.paths, workers, tell, learn)
    unread = {
        index: f"cannot be read: {why(error)}; run again once it can"
        for index, error in enumerate(found)
        if isinstance(error, OSError)
    }
    if len(unread) == len(samples):
        first, reason = next(iter(unread.items()))
        raise DataError(f"none of {counted(len(samples), 'file')} can be used; {samples.ids[first]}: {reason}")
    return Identified(
        samples=samples.only([index for index in range(len(samples)) if index not in unread]) if unread else samples,
        digests=[digest for digest in found if isinstance(digest, bytes)],
        unread={samples.ids[index]: reason for index, reason in unread.items()},
        unread_paths=[samples.paths[index] for index in unread],
        kinds=frozenset(kinds),
        n_trusted=len(trusted),
    )


def hash_file(path: Path) -> bytes | OSError:
    """An image's content id by its address, or why it cannot be read."""
    try:
        return read_image(path).content_id
    except OSError as error:
        return error


def hash_files(
    paths: Sequence[Path],
    workers: int,
    tell: Callable[[int, int], None],
    hash_one: Callable[[Path], bytes | OSError] = hash_file,
) -> list[bytes | OSError]:
    """(N,) what `hash_one` says of each file, many at a time; `tell` is called with (done, N)."""

    def hash_some(some: Sequence[Path]) -> list[bytes | OSError]:
        return [hash_one(path) for path in some]

    found: list[bytes | OSError] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), AT_ONCE):
            ahead = paths[start : start + AT_ONCE]
            for some in pool.map(hash_some, [ahead[at : at + IN_A_ROW] for at in range(0, len(ahead), IN_A_ROW)]):
                found += some
            tell(len(found), len(paths))
    return found
