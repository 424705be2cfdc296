"""Fitted segmentations: what they say of cells becomes masks of any image, scored at the mask's own resolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads import FittedHead, fitted_class
from dvme.metrics.segmentation import overlaps
from dvme.segmentation.scene import BLOCK_BYTES, Scene
from dvme.segmentation.shares import restored, taken
from dvme.segmentation.standard import Standard

COPIES = 4
"""Of the maps that are looked at together: themselves, standardised, and in float64."""
HEAD = "head."
Seen = Callable[[int, NDArray[np.bool_], NDArray[np.uint8]], None]
"""Is told of an image: its place among those that are asked, (L, H, W) what is predicted, and its mask."""


class OnGrid(ABC):
    """What tells the probability of every class in every cell of a grid."""

    shape: tuple[int, int]
    """Rows and columns of the grid."""
    names: tuple[str, ...]
    """The L classes or structures, the background not among them."""
    is_exclusive: bool
    """Whether a pixel has one class."""

    @abstractmethod
    def probabilities(self, scene: Scene, positions: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Of some images, in blocks of bounded memory.

        Yields:
            Where in `positions`, and (b, r * c, L + 1) with the background first; of structures that may overlap
            (b, r * c, L).
        """

    def planes(self, scene: Scene, position: int, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """(L, H, W) what the pixels of one image are taken for.

        Args:
            scene: with the image.
            position: of the image in it.
            size: H and W; None: those of its mask, which it then must have.
        """
        n_rows, n_columns = scene.masks.sizes[position].tolist() if size is None else size
        ((_, found),) = self.probabilities(scene, np.array([position]))
        return self.planes_of(found[0], (n_rows, n_columns))

    def counts(
        self, scene: Scene, positions: NDArray[Any], names: Sequence[str] | None = None, told: Seen | None = None
    ) -> NDArray[np.int64]:
        """What scores of some images are made of, at each mask's own resolution.

        Args:
            scene: with the images.
            positions: (B,) of the images.
            names: the classes that are counted; None: all. Images of another cache may have them in another order.
            told: gets the place of each image in `positions`, what its pixels are taken for, and its mask.

        Returns:
            (B, L, 3) intersection, predicted and true pixels, see `overlaps`.

        Raises:
            DataError: if masks lack a class, or it was not learned.
        """
        wanted = self.names if names is None else tuple(names)
        own, theirs = self._places(self.names, wanted), self._places(scene.masks.names, wanted)
        counts = np.zeros((len(positions), len(wanted), 3), dtype=np.int64)
        for at, found in self.probabilities(scene, positions):
            for place, values in zip(range(at.start, at.stop), found, strict=True):
                truth = scene.masks.read(int(positions[place]))
                predicted = self.planes_of(values, (truth.shape[1], truth.shape[2]))
                counts[place] = overlaps(predicted[own], truth[theirs])
                if told is not None:
                    told(place, predicted[own], truth[theirs])
        return counts

    def planes_of(self, values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
        """(L, H, W) what pixels are taken for, given the probabilities of one image's cells."""
        return taken(restored(values, self.shape, size), self.is_exclusive)

    @staticmethod
    def _places(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
        lacking = [name for name in wanted if name not in names]
        if lacking:
            raise DataError(f"masks and head do not fit together: {', '.join(names)} have no {lacking[0]}")
        return [names.index(name) for name in wanted]


@dataclass(frozen=True)
class Segmenter(OnGrid):
    """A head of tokens with what stands between it and images."""

    head: FittedHead
    """Of standardised tokens."""
    token_head: str
    """The name of its kind among the heads of embeddings, such as `linear`."""
    backbones: tuple[str, ...]
    shape: tuple[int, int]
    names: tuple[str, ...]
    is_exclusive: bool
    standards: tuple[Standard, ...]
    """Of each backbone."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """What validation chose."""
        return self.head.chosen

    @property
    def n_parameters(self) -> int:
        """Numbers that the head holds."""
        return sum(array.size for array in self.head.arrays().values())

    def probabilities(self, scene: Scene, positions: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """See OnGrid."""
        n_tokens = self.shape[0] * self.shape[1]
        for at, blocks in scene.blocks(self.backbones, positions, self.shape, BLOCK_BYTES // COPIES):
            tokens = [
                standard.applied(block.reshape(-1, block.shape[2]))
                for standard, block in zip(self.standards, blocks, strict=True)
            ]
            found = self.head.predict_proba(tokens)
            yield at, found.reshape(-1, n_tokens, found.shape[1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learned, by name; with `settings`, enough to build the segmenter again."""
        own = {HEAD + name: array for name, array in self.head.arrays().items()}
        for number, standard in enumerate(self.standards):
            own |= {f"mean.{number}": standard.mean, f"scale.{number}": standard.scale}
        return own

    def settings(self) -> dict[str, Any]:
        """JSON values that `restored` needs beside the arrays."""
        return {
            "head": self.head.settings(),
            "token_head": self.token_head,
            "backbones": list(self.backbones),
            "shape": list(self.shape),
            "names": list(self.names),
            "is_exclusive": self.is_exclusive,
        }

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Segmenter:
        """The segmenter whose `settings` and `arrays` these are."""
        own = {name.removeprefix(HEAD): array for name, array in arrays.items() if name.startswith(HEAD)}
        backbones, (n_rows, n_columns) = tuple(settings["backbones"]), settings["shape"]
        return cls(
            fitted_class(settings["token_head"]).restored(settings["head"], own),
            settings["token_head"],
            backbones,
            (n_rows, n_columns),
            tuple(settings["names"]),
            settings["is_exclusive"],
            tuple(Standard(arrays[f"mean.{m}"], arrays[f"scale.{m}"]) for m in range(len(backbones))),
        )
