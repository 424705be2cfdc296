"""DICOM: what is one, its pixels as 8 bits, what its header tells. Only reading needs the extra `dicom`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.data.dicom.sniff import is_dicom

if TYPE_CHECKING:
    from collections.abc import Iterable

KIND = "dicom"
DICOM_DECODING = (
    "modality LUT, then the VOI LUT or else the first window, scaled from the bounds that the header gives to 0..255 "
    "(floating point without these: from each image's own); MONOCHROME1 inverted last; padding black; palettes and "
    "colour as RGB, scaled by the declared bits; first frame"
)
"""The policy in words, in the fingerprint of every backbone that has embedded a DICOM file: change it when the pixels
change."""

__all__ = ["DICOM_DECODING", "KIND", "decoding_fields", "is_dicom"]


def decoding_fields(kinds: Iterable[str]) -> dict[str, str]:
    """The fields of a fingerprint that say how files of some kinds are read, beyond what holds for every image."""
    return {f"decoding.{KIND}": DICOM_DECODING} if KIND in kinds else {}
