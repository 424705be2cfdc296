"""Montgomery County's chest X-rays: tuberculosis or not, and masks of both lungs, each alone."""

from __future__ import annotations

from dvme.sets import tuberculosis
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked

LAYOUT = tuberculosis.Layout(prefix="MCUCXR", n_images=138, lists={})


def published(unpacked: Unpacked) -> Published:
    """What the publisher says, see `tuberculosis`."""
    return tuberculosis.published(unpacked, LAYOUT)
