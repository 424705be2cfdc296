"""What identifies images: a hash of each file's bytes, for whatever looks images up in a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path

from dvme.data.listing import file_bytes, why
from dvme.data.samples import Samples
from dvme.errors import DataError
from dvme.text import counted
from dvme_cache import content_id

AT_ONCE = 256


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


def identify(samples: Samples, workers: int, tell: Callable[[int, int], None]) -> Identified:
    """Read and hash every file, and set those aside that cannot be read; `tell` is called with (done, total).

    Raises:
        DataError: if no file can be read.
    """
    found = hash_files(samples.paths, workers, tell)
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
    )


def hash_file(path: Path) -> bytes | OSError:
    """A file's content id, or why it cannot be read."""
    try:
        return content_id(file_bytes(path))
    except OSError as error:
        return error
    except ValueError as error:  # a path that no file can have
        return OSError(EINVAL, str(error))


def hash_files(
    paths: Sequence[Path],
    workers: int,
    tell: Callable[[int, int], None],
    hash_one: Callable[[Path], bytes | OSError] = hash_file,
) -> list[bytes | OSError]:
    """(N,) what `hash_one` says of each file, many at a time; `tell` is called with (done, N)."""
    found: list[bytes | OSError] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), AT_ONCE):
            found += pool.map(hash_one, paths[start : start + AT_ONCE])
            tell(len(found), len(paths))
    return found
