"""Which codec decodes the pixels of a DICOM file, and one frame of them decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.apart import decoded_apart
from dvme.data.dicom.codestream import Codestream, codestream_of, unboxed
from dvme.data.dicom.opened import raised, why
from dvme.data.dicom.picture import Picture
from dvme.errors import ImageError

WITHIN = ("pydicom", "pillow")
"""pydicom's plugins that raise an error for whatever is damaged, the first to be asked."""
EXTENDED_12_BIT = "1.2.840.10008.1.2.4.51"
HIGH_THROUGHPUT = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
RLE = "1.2.840.10008.1.2.5"
VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}{part}" for number in range(100, 109) for part in ("", ".1"))
INSTALL = {
    EXTENDED_12_BIT: "pip install pylibjpeg pylibjpeg-libjpeg reads it, whose licence is the GPL",
    **dict.fromkeys(HIGH_THROUGHPUT, "pip install pylibjpeg pylibjpeg-openjpeg reads it"),
}
USUALLY = "pip install 'dvme[dicom]' brings python-gdcm, which reads it"


def decoded_frame(header: Any, picture: Picture, frame: int) -> tuple[NDArray[Any], str]:
    """The pixels of one frame as they are stored, and their photometric interpretation as they are now.

    Bits that the header calls unused are left as they are.

    Returns:
        (H, W), or (H, W, 3) in RGB; and `RGB`, or what the header says.

    Raises:
        ImageError: if they cannot be decoded.
    """
    from pydicom.uid import UID

    named = UID(picture.transfer_syntax).name
    try:
        array, photometric = (_compressed if picture.is_encapsulated else _native)(header, picture, frame)
    except raised() as error:
        raise ImageError(f"has pixels that cannot be decoded ({named}): {why(error)}") from error
    return array, photometric


def _native(header: Any, picture: Picture, frame: int) -> tuple[NDArray[Any], str]:
    from pydicom.pixels.decoders.base import get_decoder

    element = header[picture.keyword]
    options = _options(picture) | {"number_of_frames": picture.n_frames, "pixel_vr": element.VR, "view_only": True}
    options["allow_excess_frames"] = False
    array, found = get_decoder(picture.transfer_syntax).as_array(element.value, index=frame, **options)
    return array, str(found["photometric_interpretation"])


def _compressed(header: Any, picture: Picture, frame: int) -> tuple[NDArray[Any], str]:
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(picture.transfer_syntax)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        video = "a video: save frames of it as images" if uid in VIDEO else "compressed as pydicom cannot read"
        raise ImageError(f"is {video}") from error
    offsets = [header.get(keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    encoded = get_frame(
        header[picture.keyword].value,
        frame,
        number_of_frames=picture.n_frames,
        extended_offsets=tuple(offsets) if all(offsets) else None,
    )
    stream = None
    if uid != RLE:
        encoded = unboxed(encoded)
        stream = codestream_of(encoded)
        _check(stream, picture)
    plugins = _plugins(decoder.available_plugins, stream, uid)
    if not plugins:
        raise ImageError(INSTALL.get(uid, USUALLY))
    asked = {"transfer_syntax": str(uid), "options": _options(picture) | {"number_of_frames": 1}}
    return _first_decoded(decoder, encoded, plugins, asked)


def _first_decoded(decoder: Any, encoded: bytes, plugins: list[str], asked: dict[str, Any]) -> tuple[NDArray[Any], str]:
    """By the first plugin that can."""
    from pydicom.encaps import encapsulate

    reasons = []
    for plugin in plugins:
        try:
            if plugin not in WITHIN:
                return decoded_apart(encoded, asked | {"plugin": plugin})
            array, found = decoder.as_array(encapsulate([encoded]), index=0, decoding_plugin=plugin, **asked["options"])
            return array, str(found["photometric_interpretation"])
        except raised() as error:
            reasons.append(why(error))
    raise ImageError("; ".join(dict.fromkeys(reasons)))


def _plugins(available: tuple[str, ...], stream: Codestream | None, uid: str) -> list[str]:
    """Those that can decode a frame, in a fixed order: which one does must not hang on what else is installed."""
    order = [*WITHIN, "gdcm", *sorted(available)]
    names = [name for name in dict.fromkeys(order) if name in available]
    if uid == EXTENDED_12_BIT and stream is not None and stream.bits > 8:
        return [name for name in names if name == "pylibjpeg"]
    return names


def _check(stream: Codestream | None, picture: Picture) -> None:
    if stream is None:
        raise ImageError("they do not begin as such pixels do")
    found, said = (stream.rows, stream.columns), (picture.rows, picture.columns)
    if found != said:
        of = "{0[0]:,} rows of {0[1]:,} pixels"
        raise ImageError(f"they are {of.format(found)}, but the header says {of.format(said)}")
    if stream.components != picture.samples:
        raise ImageError(f"they have {stream.components} samples each, but the header says {picture.samples}")


def _options(picture: Picture) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rows": picture.rows,
        "columns": picture.columns,
        "samples_per_pixel": picture.samples,
        "photometric_interpretation": picture.photometric,
        "planar_configuration": picture.planar,
        "bits_allocated": picture.allocated,
        "pixel_keyword": picture.keyword,
    }
    if not picture.is_float:
        options |= {"bits_stored": picture.stored, "pixel_representation": int(picture.is_signed)}
        options["correct_unused_bits"] = False
    return options


def in_native_order(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False) if not array.dtype.isnative else np.asarray(array)
