"""Segmentation masks of images: from the files or runs that a table names to planes of pixels."""

from dvme.data.masks.masks import Masks
from dvme.metrics.segmentation import VOID

__all__ = ["VOID", "Masks"]
