"""Bytes of images that were hashed and are to be decoded, kept in bounded memory, so that their files are read once."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from dvme.data.encoded import Encoded
from dvme.runtime import available_memory

MOST_BYTES = 256 << 20
SHARE = 8
"""Of the free memory, the part that is at most taken is one in so many."""


def spool_bytes() -> int:
    """What a spool may hold on this machine now."""
    return min(MOST_BYTES, available_memory() // SHARE)


class Spool:
    """Images by content id, each until it is taken; what does not fit any more is not kept, and is read again.

    Any number of threads may use it.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_free = n_bytes
        self._images: dict[bytes, Encoded] = {}
        self._n_users: Counter[int] = Counter()
        """Of each bytes object: the frames of one file share one, which counts once."""
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Spool], tuple[int]]:
        """In another process it is empty, and its images are read again: bytes are not sent."""
        return Spool, (0,)

    def keep(self, content_id: bytes, image: Encoded) -> None:
        """Keep an image, if there is room and none of its content is kept."""
        whose = id(image.data)
        with self._lock:
            size = 0 if self._n_users[whose] else len(image.data)
            if size > self._n_free or content_id in self._images:
                return
            self._n_free -= size
            self._n_users[whose] += 1
            self._images[content_id] = image

    def take(self, content_id: bytes) -> Encoded | None:
        """The image of a content id, which is kept no longer; None where it is not kept."""
        with self._lock:
            image = self._images.pop(content_id, None)
            if image is not None:
                whose = id(image.data)
                self._n_users[whose] -= 1
                if not self._n_users[whose]:
                    del self._n_users[whose]
                    self._n_free += len(image.data)
            return image
