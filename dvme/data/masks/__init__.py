"""Segmentation masks of images: from the files or runs that a table names to planes of pixels.

A mask is a text in the column `mask` (`cell`). So it is kept, replaced, exported and pruned as every column is, and
whoever asks which classes occur reads no file. Masks are read once while a manifest is listed, in threads; only their
values, sizes and digests stay in memory. They are read again, checked, one image at a time (`Masks.read`). All masks of
a cache have the same classes. A class of which no pixel of an image is known has -1 for all of its counts: 0 would be
an empty mask, which scores 1.
"""

from dvme.data.masks.masks import Masks
from dvme.metrics.segmentation import VOID

__all__ = ["VOID", "Masks"]
