"""What identifies images: a hash of each file's bytes, for whatever looks images up in a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dvme.data.dicom import KIND, is_dicom
from dvme.data.dicom.headers import require_pydicom
from dvme.data.encoded import Encoded
from dvme.data.listing import why
from dvme.data.samples import Samples
from dvme.data.sources import read_image
from dvme.errors import DataError
from dvme.text import counted

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
    kinds: frozenset[str] = frozenset()
    """Of those kinds of files that are read by a policy of their own, such as DICOM, which are among these."""


def identify(samples: Samples, workers: int, tell: Callable[[int, int], None]) -> Identified:
    """Read and hash every file, and set those aside that cannot be read; `tell` is called with (done, total).

    Raises:
        DataError: if no file can be read.
        EnvironmentMismatchError: if one is a DICOM file, and pydicom is not installed.
    """
    kinds: set[str] = set()

    def look(image: Encoded) -> None:
        if is_dicom(image.data):
            require_pydicom()
            kinds.add(KIND)

    found = hash_files(samples.paths, workers, tell, partial(hash_file, look=look))
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
    )


def hash_file(path: Path, look: Callable[[Encoded], None] | None = None) -> bytes | OSError:
    """An image's content id by its address, or why it cannot be read; `look` is shown what was read."""
    try:
        image = read_image(path)
    except OSError as error:
        return error
    if look is not None:
        look(image)
    return image.content_id


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
