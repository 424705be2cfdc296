"""What DICOM files are called, which is often nothing that shows what they are."""

from __future__ import annotations

import re
from posixpath import splitext

SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
DIRECTORY = "dicomdir"
"""The name, in any capitals, of the table of contents that lies beside DICOM files."""
FRAME = re.compile(r"frame=(0|[1-9]\d*)")
"""What stands behind a file in the address of one of its frames."""


def is_unclear(name: str) -> bool:
    """Whether the name of a file says nothing of its kind: it has no suffix, or a number for one, as in `1.2.840.5`."""
    suffix = splitext(name.rstrip())[1]
    return len(suffix) < 2 or suffix[1:].isdecimal()


def is_dicom_name(name: str) -> bool:
    """Whether a file is taken for one by its suffix."""
    return splitext(name.rstrip())[1].lower() in SUFFIXES


def frame_of(name: str) -> int | None:
    """The number in `frame=12`; None for another name."""
    found = FRAME.fullmatch(name)
    return int(found[1]) if found else None
