"""Shenzhen's chest X-rays: tuberculosis or not, and for most of them a mask of both lungs that others have drawn."""

from __future__ import annotations

from dvme.sets import tuberculosis
from dvme.sets.building import Published
from dvme.sets.unpacked import Unpacked

LAYOUT = tuberculosis.Layout(
    prefix="CHNCXR",
    n_images=662,
    lists={
        "train": ("Shen*CXR_train_data.txt", 463),
        "val": ("Shen*CXR_valid_data.txt", 65),
        "test": ("Shen*CXR_test_data.txt", 134),
    },
)
"""The lists are those of Hosseinzadeh Taher et al. 2021, who spell it Shenzen."""


def published(unpacked: Unpacked) -> Published:
    """What the publisher says, see `tuberculosis`."""
    return tuberculosis.published(unpacked, LAYOUT)
