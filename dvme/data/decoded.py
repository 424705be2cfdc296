"""An image of 8 bits, and what there is to say about it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dvme.data.stretch import FewGreys, Outliers

Told = Outliers | FewGreys
"""What there is to say about an image's range of grey."""


@dataclass(frozen=True)
class Decoded:
    """An image of 8 bits, and what there is to say about it."""

    image: Image.Image
    """In mode `L` or `RGB`."""
    outliers: Told | None = None
    """The few pixels that set the range of a deep grey, if they do, or how few greys are left of it."""
