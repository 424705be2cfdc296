"""A U-Net that has learned: masks of images at any size, and all that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.own.custom import spec_from_mapping, spec_to_mapping
from dvme.errors import DataError
from dvme.json_values import plain, rebuilt
from dvme.metrics.segmentation import overlaps
from dvme.segmentation.shares import restored, taken
from dvme.segmentation.unet.head import Unet
from dvme.segmentation.unet.images import Images

if TYPE_CHECKING:
    from dvme.data.masks import Masks
    from dvme.segmentation.segmenter import Seen
    from dvme.segmentation.unet.network import UNet
    from dvme.training.pictures import Pictures

ROWS = 16
"""Images that go through the network at a time."""


@dataclass(frozen=True)
class FittedUnet:
    """A trained network, and what was chosen on the way."""

    head: Unet
    network: UNet
    names: tuple[str, ...]
    """L classes."""
    is_exclusive: bool
    """Whether a pixel has one class at most."""
    chosen: Mapping[str, Any]
    """`epoch`, `n_epochs`, `validation_loss`, `learning_rate`, `n_trained`: what validation chose, and how it went."""

    @property
    def spec(self) -> BackboneSpec:
        """Of the backbone that is the encoder, at the input of the network."""
        return self.network.spec

    @property
    def n_parameters(self) -> int:
        """Numbers that it holds."""
        return sum(value.numel() for value in self.network.parameters())

    def planes(self, images: Images, position: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Where each class is in an image: (L, H, W).

        Args:
            images: has the image.
            position: of the image.
            size: (H, W) of what is asked for, such as the mask's. Logits are brought to it bilinearly.
        """
        ((_, logits),) = self._logits(images, [position])
        return self._taken(logits, size)

    def counts(
        self, images: Images, masks: Masks, positions: NDArray[Any], told: Seen | None = None
    ) -> NDArray[np.int64]:
        """(B, L, 3) what is right, what is predicted and what is true of each class, at each mask's own resolution.

        Args:
            images: has the images.
            masks: theirs.
            positions: (B,) of the images.
            told: as `OnGrid.counts` has it.

        Source of the three: `dvme.metrics.segmentation.overlaps`.
        """
        found = np.zeros((len(positions), len(self.names), 3), dtype=np.int64)
        for place, (position, logits) in enumerate(self._logits(images, [int(each) for each in positions])):
            truth = masks.read(position)
            predicted = self._taken(logits, truth.shape[1:])
            found[place] = overlaps(predicted, truth)
            if told is not None:
                told(place, predicted, truth)
        return found

    def logits(self, pictures: Pictures, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, K, S, S) of some pictures."""
        import torch

        from dvme.float32 import full_float32

        self.network.eval()
        with torch.inference_mode(), full_float32(self.network.device):
            found: NDArray[np.float32] = self.network(pictures.plain(rows, self.network.device)).float().cpu().numpy()
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learned, by name; with `settings`, enough to build it again."""
        state = self.network.state_dict()
        return {name: value.detach().cpu().contiguous().numpy() for name, value in state.items()}

    def settings(self) -> dict[str, Any]:
        """JSON values that `restored` needs beside the arrays."""
        found: dict[str, Any] = plain(
            {
                "head": asdict(self.head),
                "spec": spec_to_mapping(self.spec),
                "arguments": self.network.arguments,
                "names": self.names,
                "is_exclusive": self.is_exclusive,
                "chosen": dict(self.chosen),
            }
        )
        return found

    @classmethod
    def restored(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, device: str = "cpu"
    ) -> FittedUnet:
        """The one whose `settings` and `arrays` these are.

        Raises:
            DataError: if the arrays are not those of such a network.
            EnvironmentMismatchError: if smp is not installed.
        """
        import torch

        from dvme.segmentation.unet.losses import n_outputs
        from dvme.segmentation.unet.network import built

        spec = spec_from_mapping(settings["spec"], source="the description of a U-Net")
        names, is_exclusive = tuple(settings["names"]), bool(settings["is_exclusive"])
        network = built(spec, settings["arguments"], n_outputs(len(names), is_exclusive=is_exclusive), device=device)
        try:
            network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        except RuntimeError as error:
            message = str(error).splitlines()
            raise DataError(f"the weights are not those of {spec.architecture}: {message[-1].strip()}") from error
        head = rebuilt(Unet, settings["head"])
        return cls(head, network, names, is_exclusive, dict(settings["chosen"]))

    def _logits(self, images: Images, positions: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(K, S, S) of each image."""
        pictures = images.pictures(self.spec)
        for start in range(0, len(positions), ROWS):
            rows = np.array(positions[start : start + ROWS])
            yield from zip(rows.tolist(), self.logits(pictures, rows), strict=True)

    def _taken(self, logits: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.bool_]:
        return taken_together([logits], len(self.names), (size[0], size[1]))


def taken_together(several: Sequence[NDArray[np.float32]], n_classes: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(L, H, W) what the pixels of an image are taken for by several networks, by their mean probability.

    Args:
        several: (K, S, S) logits of each network.
        n_classes: L.
        size: (H, W).
    """
    from scipy.special import expit, softmax

    is_exclusive = len(several[0]) > n_classes
    large = [restored(each.reshape(len(each), -1).T, each.shape[1:], size) for each in several]
    if not is_exclusive:
        return taken(np.mean([expit(each) for each in large], axis=0), is_exclusive=False)
    if len(large) == 1:  # the largest logit is the largest probability
        return taken(large[0], is_exclusive=True)
    return taken(np.mean([softmax(each, axis=0) for each in large], axis=0), is_exclusive=True)
