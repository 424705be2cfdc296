"""`segment-conv`: a small convolutional decoder over the maps of several layers, what it is and what it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import Grid
from dvme.limits import positive, whole
from dvme.segmentation.maps import FINER, finest_of
from dvme.segmentation.scene import BLOCK_BYTES, Scene
from dvme.segmentation.segmenter import OnGrid
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dvme.segmentation.decoder import Decoder
else:
    torch = deferred("torch")

LEAST = {"batch_size": 1, "min_epochs": 0, "max_epochs": 1, "stop_patience": 1}
"""Smallest values of the head's whole numbers."""
COUNTERS = "num_batches_tracked"
"""Of batch normalisation; they tell nothing once a decoder is trained."""
ROUND = 8
"""Images that are looked at together, where fewer would fit as well."""


@dataclass(frozen=True)
class ConvHead:
    """How the decoder is trained: AdamW under a cosine, soft cross entropy on the shares of classes in each cell."""

    learning_rate: float = 1e-3
    """At the start; half a cosine takes it to 0."""
    weight_decay: float = 1e-2
    """Of AdamW; torch's default."""
    batch_size: int = 8
    """Images of a minibatch; minibatches are of even sizes."""
    min_epochs: int = 10
    """Epochs before which nothing stops early."""
    max_epochs: int = 50
    """Epochs after which training ends."""
    stop_patience: int = 10
    """Epochs without a new best after which training stops."""
    name: str = "segment-conv"
    is_fusion: bool = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, least in LEAST.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        for name in ("learning_rate", "weight_decay"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))


@dataclass(frozen=True)
class ConvSegmenter(OnGrid):
    """A trained decoder on the CPU."""

    state: Mapping[str, Tensor]
    """Under torch's names."""
    grids: tuple[Grid, ...]
    """Of the backbone's maps."""
    backbones: tuple[str, ...]
    names: tuple[str, ...]
    is_exclusive: bool
    chosen: Mapping[str, Any]
    """The `epoch` whose weights these are, `n_epochs` trained, and the `validation_loss`, nan without validation."""
    device: str = "cpu"
    """Where to compute; not saved."""

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """See OnGrid: twice as fine as the finest map."""
        finest = finest_of(self.grids)
        return FINER * finest.rows, FINER * finest.columns

    @property
    def n_parameters(self) -> int:
        """Numbers that it holds, running statistics included."""
        return sum(value.numel() for value in self.state.values())

    def probabilities(self, scene: Scene, positions: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """See OnGrid."""
        from dvme.float32 import full_float32

        device = torch.device(self.device)
        decoder = self._decoder().to(device).eval()
        for at, maps in blocks_of_maps(scene, self.backbones[0], positions):
            with torch.inference_mode(), full_float32(device):
                logits = decoder([each.to(device) for each in maps]).flatten(2).mT.double()
                found = torch.softmax(logits, dim=2) if self.is_exclusive else torch.sigmoid(logits)
            yield at, found.cpu().numpy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learned, by name; with `settings`, enough to build it again."""
        return {name: value.numpy() for name, value in self.state.items()}

    def settings(self) -> dict[str, Any]:
        """JSON values that `restored` needs beside the arrays."""
        loss = self.chosen["validation_loss"]
        return {
            "grids": [grid.text for grid in self.grids],
            "backbones": list(self.backbones),
            "names": list(self.names),
            "is_exclusive": self.is_exclusive,
            "chosen": dict(self.chosen) | {"validation_loss": None if math.isnan(loss) else loss},
        }

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ConvSegmenter:
        """The segmenter whose `settings` and `arrays` these are."""
        chosen, grids = dict(settings["chosen"]), [map(int, text.split("x")) for text in settings["grids"]]
        loss = chosen["validation_loss"]
        return cls(
            {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()},
            tuple(Grid(*numbers) for numbers in grids),
            tuple(settings["backbones"]),
            tuple(settings["names"]),
            settings["is_exclusive"],
            chosen | {"validation_loss": math.nan if loss is None else loss},
        )

    def _decoder(self) -> Decoder:
        from dvme.segmentation.decoder import Decoder

        decoder = Decoder(self.grids, len(self.names) + self.is_exclusive)
        counters = {name: value for name, value in decoder.state_dict().items() if name.endswith(COUNTERS)}
        decoder.load_state_dict(dict(self.state) | counters)
        return decoder


def blocks_of_maps(
    scene: Scene, backbone: str, positions: NDArray[Any], at_once: int | None = None
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The maps of a backbone, some images at a time, each on its own grid: (b, n_tokens, channels)."""
    maps = scene.maps[backbone]
    a_row = 4 * sum(grid.n_values for grid in maps.grids)
    size = at_once or max(1, min(ROUND, BLOCK_BYTES // a_row))
    for start in range(0, len(positions), size):
        at = slice(start, min(start + size, len(positions)))
        yield at, [torch.from_numpy(each) for each in maps.read(scene.rows[positions[at]])]
