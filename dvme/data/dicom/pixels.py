"""One picture of a DICOM file as 8 bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from PIL import Image

from dvme.data.decoded import Decoded
from dvme.data.dicom.codecs import decoded_frame, in_native_order
from dvme.data.dicom.colour import colour_of
from dvme.data.dicom.grey import grey_of
from dvme.data.dicom.opened import elements_of_frame, in_one_line, opened, quiet, raised, why
from dvme.data.dicom.picture import GREY, frame_of, picture_of
from dvme.data.reading import Reading
from dvme.errors import ImageError


@dataclass
class _OfFrames:
    """The file whose frames were decoded last: reading it anew for each would take its length times their number."""

    data: bytes = b""
    header: Any = None
    lock: Lock = field(default_factory=Lock)

    def opened(self, data: bytes) -> Any:
        """As `opened`, once for all frames of the same bytes."""
        with self.lock:
            if self.data is not data:
                self.data, self.header = b"", None
                self.data, self.header = data, opened(data)
            return self.header


_OF_FRAMES = _OfFrames()


def decode_dicom(data: bytes, frame: int | None, max_pixels: int, reading: Reading) -> Decoded:
    """Decode a DICOM file, or one frame of it, to 8 bits.

    Args:
        data: the file.
        frame: of a row that is one frame; None: the reading says which.
        max_pixels: the largest picture to decode.
        reading: its range, window and frame.

    Raises:
        ImageError: if pydicom or a codec is not installed, or the file holds no such picture, or is damaged.
    """
    with quiet():
        try:
            header = opened(data) if frame is None else _OF_FRAMES.opened(data)
            return _decoded(header, frame, max_pixels, reading)
        except ImageError as error:
            raise ImageError(in_one_line(str(error))) from error
        except MemoryError as error:
            raise ImageError("too large for the memory of this machine") from error
        except raised() as error:
            raise ImageError(f"is a damaged DICOM file: {why(error)}") from error


def _decoded(header: Any, row_frame: int | None, max_pixels: int, reading: Reading) -> Decoded:
    picture = picture_of(header, max_pixels)
    frame = frame_of(picture, row_frame, reading.frame)
    array, photometric = decoded_frame(header, picture, frame)
    samples = in_native_order(array)
    if picture.photometric not in GREY:
        return Decoded(Image.fromarray(colour_of(samples, photometric, header, picture)))
    greys, told = grey_of(samples, header, elements_of_frame(header, frame), picture, reading)
    return Decoded(Image.fromarray(greys), told)
