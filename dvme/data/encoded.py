"""An image as its source holds it: bytes that are decoded later, and what identifies them."""

from __future__ import annotations

from dataclasses import dataclass

from dvme_cache import content_id


@dataclass(frozen=True)
class Encoded:
    """The bytes of an image file, and which of its frames is meant."""

    data: bytes
    frame: int | None = None
    """Of a file with a row for each frame, from 0 on; None: the file is one image."""
    digest: bytes | None = None
    """Of the data, where it is known already, as for the frames of a file that was read once."""

    @property
    def content_id(self) -> bytes:
        """What identifies the image: the digest of the file, and of the frame's number beside it where one is meant."""
        whole = content_id(self.data) if self.digest is None else self.digest
        return whole if self.frame is None else frame_id(whole, self.frame)


def frame_id(whole: bytes, frame: int) -> bytes:
    """What identifies a frame of the file with this content id."""
    return content_id(whole + f"frame {frame}".encode())
