"""Headers of DICOM files: read without the pixels, and only the elements that are wanted, in threads."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dvme.data.dicom.fields import FIELDS, IDS, pseudonym, text_of
from dvme.data.dicom.sniff import FIRST_BYTES, is_dicom
from dvme.errors import EnvironmentMismatchError, ImageError
from dvme.runtime import Runtime
from dvme.text import first_line

if TYPE_CHECKING:
    from pydicom import Dataset

BASIC = ("PatientID", "StudyInstanceUID", "NumberOfFrames", "Rows", "SOPClassUID")
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
"""Media Storage Directory: a DICOMDIR, whatever it is called. Source: DICOM PS3.4, B.5."""
LEAST_BYTES = 8
"""Of a frame in a file: those of an item's header."""
DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError, AttributeError),
    *(AssertionError, struct.error, zlib.error),
)
"""What pydicom raises on damaged headers."""


@dataclass(frozen=True)
class Header:
    """What a DICOM file tells of itself."""

    patient: str = ""
    """Its plain id."""
    study: str = ""
    """Its plain id."""
    n_frames: int = 1
    is_picture: bool = False
    """Whether it tells the size of one: reports, structures of radiotherapy and damaged headers do not."""
    is_directory: bool = False
    is_damaged: bool = False
    """Whether some of it could not be read."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By the names that were asked for."""


def require_pydicom() -> None:
    """Refuse to go on without the packages that read DICOM.

    Raises:
        EnvironmentMismatchError: with the command that installs them.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise EnvironmentMismatchError("DICOM files need pydicom: pip install 'dvme[dicom]'") from error


def read_headers(
    paths: Sequence[Path],
    names: Sequence[str],
    read: Callable[[Path], bytes],
    *,
    plain_ids: bool = False,
) -> list[Header | None]:
    """(N,) the headers of some files; None for what is no DICOM file, or cannot be read just now.

    Args:
        paths: N addresses.
        names: of `FIELDS`, that are wanted as columns.
        read: the bytes at an address that is no file of its own, but one inside of another.
        plain_ids: ids as they are, in place of their pseudonyms.

    Raises:
        EnvironmentMismatchError: if one is a DICOM file, and pydicom is not installed.
    """
    wanted = sorted({*BASIC, *(keyword for name in names for keyword in FIELDS[name].keywords)})

    def read_one(path: Path) -> Header | None:
        try:
            with path.open("rb") if path.is_file() else io.BytesIO(read(path)) as file:
                if not is_dicom(file.read(FIRST_BYTES)):
                    return None
                require_pydicom()
                n_bytes = file.seek(0, io.SEEK_END)
                file.seek(0)
                return _header(file, n_bytes, wanted, names, plain_ids=plain_ids)
        except (OSError, ValueError):
            return None

    # pydicom warns of values against the standard, and threads cannot filter warnings on their own.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(Runtime().n_workers) as pool:
        return list(pool.map(read_one, paths))


def _header(file: BinaryIO, n_bytes: int, wanted: list[str], names: Sequence[str], *, plain_ids: bool) -> Header:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        found = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(wanted))
    except (InvalidDicomError, *DAMAGED):
        return Header(is_damaged=True)
    failed: list[str] = []

    def get(keyword: str) -> Any:
        try:
            return found.get(keyword)
        except DAMAGED:
            failed.append(keyword)
            return None

    columns: dict[str, str] = {}
    for name in names:
        columns[name] = ""
        try:
            value = FIELDS[name].tell(get)
        except DAMAGED:
            failed.append(name)
        else:
            columns[name] = pseudonym(value) if name in IDS and not plain_ids else value
    n_frames = 1
    with suppress(ValueError):
        n_frames = max(1, int(text_of(get("NumberOfFrames")) or 1))
    if n_frames * LEAST_BYTES > n_bytes:
        n_frames, failed = 1, [*failed, "NumberOfFrames"]
    return Header(
        patient=text_of(get("PatientID")),
        study=text_of(get("StudyInstanceUID")),
        n_frames=n_frames,
        is_picture=bool(text_of(get("Rows"))),
        is_directory=_class_of(found, get) == DIRECTORY_CLASS,
        is_damaged=bool(failed),
        columns=columns,
    )


def _class_of(found: Dataset, get: Callable[[str], Any]) -> str:
    """What kind of object it is, by its own word or that of the file's preface."""
    meta = getattr(found, "file_meta", None)
    try:
        return text_of(get("SOPClassUID")) or text_of(getattr(meta, "MediaStorageSOPClassUID", None))
    except DAMAGED:
        return ""


def picture_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of the frames of a DICOM file.

    Raises:
        ImageError: if the header does not tell.
        EnvironmentMismatchError: if pydicom is not installed.
    """
    require_pydicom()
    import pydicom

    try:
        wanted = ["Rows", "Columns"]
        found = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True, specific_tags=wanted)
        return int(found.Rows), int(found.Columns)
    except DAMAGED as error:
        raise ImageError(f"is a DICOM file whose header tells no size: {first_line(error)}") from error
