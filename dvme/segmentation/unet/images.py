"""Images as U-Nets see them: squashed to a square, read once for all that look at them in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.view import PLAIN
from dvme.extraction.decoding import Way, Work
from dvme.extraction.pictures import read_pictures
from dvme.runtime import Progress, Runtime, silent
from dvme.training.pictures import Pictures

READ = "read images"
"""The stage of its name."""


class Images:
    """N images, and the backbones that networks begin with. The pixels of the last way are kept."""

    def __init__(
        self,
        work: Sequence[Work],
        specs: Mapping[str, BackboneSpec],
        *,
        runtime: Runtime | None = None,
        n_bytes: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            work: the images, row by row.
            specs: the backbones, by the names that jobs have.
            runtime: workers and the largest image.
            n_bytes: that pixels may take of memory; None: as much as the runtime says.
            folder: for a file of those that take more; None: they are refused.
        """
        self.work, self.specs = work, specs
        self._runtime, self._folder = runtime or Runtime(), folder
        self.n_bytes = self._runtime.memory_budget("cpu") if n_bytes is None else n_bytes
        """That pixels, and what is made of them, may take."""
        self._way: Way | None = None
        self._pictures: Pictures | None = None

    def __len__(self) -> int:
        return len(self.work)

    def pictures(self, spec: BackboneSpec, progress: Progress = silent, n_bytes: int | None = None) -> Pictures:
        """The pixels that a backbone sees.

        Args:
            spec: of the backbone, see `squashed`.
            progress: told of READ, if they have to be read.
            n_bytes: that they may take of memory; None: all that there is for the images.

        Raises:
            DataError: if images are gone, changed or broken, or neither memory nor disk holds them.
        """
        way, most = pixels_of(spec), self.n_bytes if n_bytes is None else n_bytes
        if self._pictures is None or way != self._way:
            self._pictures = None  # before the others are read
            tell = partial(progress, READ)
            self._pictures = read_pictures(self.work, spec, self._runtime, tell, most, self._folder)
            self._way = way
        return self._pictures


def squashed(spec: BackboneSpec, size: int = 0) -> BackboneSpec:
    """A backbone that sees the whole of an image in a square, so that every pixel of the image is in it.

    Args:
        spec: as published or varied.
        size: pixels of a side; 0: as many as its crop has.
    """
    side = size or spec.preprocess.crop
    return replace(spec, preprocess=replace(spec.preprocess, mode="squash", resize=side, crop=side), view=PLAIN)


def pixels_of(spec: BackboneSpec) -> Way:
    """The way to a backbone's pixels without what networks do to them: backbones that differ in that share pixels."""
    way, channels = Way.of(spec), spec.preprocess.channels
    return replace(way, preprocess=replace(way.preprocess, mean=(0.0,) * channels, std=(1.0,) * channels))
