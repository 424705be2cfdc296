"""A DICOM file opened with pydicom, in silence; what holds no pixels is refused by what it is."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from dvme.errors import ImageError
from dvme.text import printable

NEEDS = "is a DICOM file, for which dvme needs pydicom 3 or newer: pip install 'dvme[dicom]'"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
RAISED = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, AttributeError,
    AssertionError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises on damaged files, beside its own errors."""
SAID_ANYWAY = "Unable to decode as exceptions were raised by all available plugins: "
LONGEST = 300
"""Letters of a reason: damaged headers are quoted in it."""
SILENCED = {"action": "ignore", "module": r"pydicom\b|PIL\.Image$"}
"""Warnings on files that bend the standard: what matters of them is an error, and what does not is read."""


@dataclass
class _Silence:
    """The threads that are within `quiet`, and the filter they share."""

    n_within: int = 0
    filter: Any = None
    lock: Lock = field(default_factory=Lock)


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of pydicom and of Pillow's size limit to themselves, while any thread is within.

    `warnings.catch_warnings` puts back the filters of the whole process, which threads would do for each other.
    """
    with _SILENCE.lock:
        _SILENCE.n_within += 1
        if _SILENCE.n_within == 1 or _SILENCE.filter not in warnings.filters:
            warnings.filterwarnings(**SILENCED)  # type: ignore[arg-type]
            _SILENCE.filter = warnings.filters[0]
    try:
        yield
    finally:
        with _SILENCE.lock:
            _SILENCE.n_within -= 1
            if not _SILENCE.n_within and _SILENCE.filter in warnings.filters:
                warnings.filters.remove(_SILENCE.filter)  # type: ignore[attr-defined]


def opened(data: bytes) -> Any:
    """The pydicom data set of a file that has pixels, which are not decoded yet.

    Raises:
        ImageError: if pydicom is not installed, or it is an object of another kind.
        Any of `raised()`: if the file is damaged.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ImageError(NEEDS) from error
    header = pydicom.dcmread(io.BytesIO(data), force=True)
    if not any(keyword in header and header.get(keyword) for keyword in PIXELS):
        raise ImageError(_instead_of_pixels(header))
    return header


def raised() -> tuple[type[Exception], ...]:
    """What pydicom raises on damaged files. Its own errors share no base."""
    from pydicom import errors

    return (*RAISED, errors.BytesLengthException, errors.InvalidDicomError)


def why(error: BaseException) -> str:
    """What an error says, in one line, without pydicom's guesses behind a dash and the bytes that it quotes."""
    text = in_one_line(re.split(r" - the dataset| Instead received", str(error))[0])
    is_telling = isinstance(error, (OSError, ValueError, RuntimeError)) and text
    return text if is_telling else f"{type(error).__name__}: {text}"


def in_one_line(text: str) -> str:
    """A text that quotes a file: no line break, nothing unprintable, not too long."""
    line = printable(" ".join(text.split()).replace(SAID_ANYWAY, ""))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def elements_of_frame(header: Any, frame: int) -> list[Any]:
    """Where what holds for a frame is looked for, the nearest first: its own groups, the shared ones, the file.

    Source: DICOM PS3.3, section C.7.6.16.
    """
    groups = [
        sequence[at]
        for keyword, at in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0))
        if (sequence := header.get(keyword)) and len(sequence) > at
    ]
    inner = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    return [group.get(keyword)[0] for group in groups for keyword in inner if group.get(keyword)] + [header]


def numbers(places: Sequence[Any], keyword: str) -> list[float]:
    """The finite numbers of an element, from the first of several places that has it; none where none has.

    Raises:
        ImageError: if they are no numbers.
    """
    for place in places:
        value = place.get(keyword)
        if value is None or value == "":
            continue
        try:
            found = [
                float(each) for each in (value if isinstance(value, (list, tuple)) or _is_many(value) else [value])
            ]
        except (TypeError, ValueError) as error:
            raise ImageError(f"has no number in {keyword}") from error
        if not all(map(math.isfinite, found)):
            raise ImageError(f"has {keyword} {value!r}, which is not finite")
        return found
    return []


def _is_many(value: Any) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(value, MultiValue)


def _instead_of_pixels(header: Any) -> str:
    """What a data set without pixels is."""
    from pydicom.uid import UID

    meta = getattr(header, "file_meta", {})
    named = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    uid = UID(str(named or ""))
    kind = uid.name.removesuffix(" Storage") if uid.is_valid else ""
    if header.get("EncryptedAttributesSequence"):
        return "is encrypted, pixels included; decrypt it first"
    if header.get("PixelDataProviderURL"):
        return "has its pixels on a server (PixelDataProviderURL); fetch them first"
    if kind == "Media Storage Directory" or "DirectoryRecordSequence" in header:
        return "is a DICOMDIR, the list of a medium's files, and holds no pixels"
    if "Image" in kind:
        return f"holds no pixels, though it is a DICOM file of the kind {kind}; it may be cut off"
    return f"holds no pixels: it is a DICOM file of {f'the kind {kind}' if kind else 'no known kind'}"
