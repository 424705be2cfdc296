"""Whether bytes are a DICOM file. Needs no pydicom."""

from __future__ import annotations

import struct

PREAMBLE, MARK = 128, b"DICM"
FIRST_BYTES = 512
"""Of a file, that tell whether it is one."""
GROUPS = frozenset({0x0002, 0x0008})
"""Of the first element of a file without a preamble."""
EXPLICIT = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def is_dicom(data: bytes) -> bool:
    """Whether these first bytes of a file, 140 or more of them if it has that many, are a DICOM file's.

    Files without the preamble of 128 bytes are recognised by their first element, of group 0002 or 0008.

    Source: DICOM PS3.5, section 7.1, and PS3.10, section 7.1.
    """
    if data[PREAMBLE : PREAMBLE + len(MARK)] == MARK:
        return True
    return any(_begins_with_element(data, order) for order in "<>")


def _begins_with_element(data: bytes, order: str) -> bool:
    if len(data) < 12:
        return False
    group, element = struct.unpack_from(f"{order}HH", data)
    if group not in GROUPS or element > 0x0060:
        return False
    if data[4:6] in EXPLICIT:
        return True
    (length,) = struct.unpack_from(f"{order}I", data, 4)
    return bool(length < len(data) and length % 2 == 0 and length < 128)
