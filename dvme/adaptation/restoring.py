"""GMML as a task: groups of patches are hidden, and a vision transformer learns to restore them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.adaptation.views import augmented
from dvme.backbones.loading.trainable import Trainable
from dvme.backbones.model.normalised import normalised
from dvme.errors import OptionError, parameter
from dvme.training.augmentations import Augmentation
from dvme.training.gmml import Decoder, corrupted, group_mask, reconstruction_loss
from dvme.training.pictures import Pictures

HIDDEN = (0.5, 0.75)
"""Shares of the patches that are hidden, one for each minibatch, all alike; for each image in GMML's code."""


class Restoring:
    """Pixels of hidden patches, restored from the tokens of the others; a decoder of a few layers is thrown away.

    Source: Atito et al. 2022; Krones et al. 2026, appendix A.9.3.
    """

    def __init__(self, n_images: int, pictures: Pictures, augmentation: Augmentation, model: Trainable) -> None:
        """Make a decoder for a backbone's patches.

        Raises:
            OptionError: if it has none.
        """
        self._n_images, self._pictures, self._augmentation = n_images, pictures, augmentation
        self._patch, self._grid = patches_of(model)
        width = int(getattr(model.network, "embed_dim", model.dim))
        self.head: nn.Module = Decoder(width, self._patch, model.spec.preprocess.channels)

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """See Task."""
        return rng.permutation(self._n_images)[:, None]

    def loss(self, model: Trainable, items: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """See Task."""
        views = augmented(self._pictures, items[:, 0], self._augmentation, rng, model.device)
        images = normalised(views.permute(0, 2, 3, 1), model.scale, model.shift)
        mask = group_mask(len(items), self._grid, rng.uniform(*HIDDEN), rng)
        network: Any = model.network
        tokens = network.forward_features(corrupted(images, mask, rng))
        return reconstruction_loss(images, self.head(tokens, self._grid), mask)


def patches_of(model: Trainable) -> tuple[int, int]:
    """Pixels of a patch's side, and patches of an image's side.

    Raises:
        OptionError: if the backbone is no transformer over patches.
    """
    import torch

    network: Any = model.network
    size = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    side, spec = model.spec.preprocess.crop, model.spec
    if isinstance(size, tuple) and len(set(size)) == 1 and hasattr(network, "forward_features"):
        grid = side // size[0]
        with torch.no_grad():
            black = torch.zeros(1, spec.preprocess.channels, side, side, device=model.device)
            tokens = network.forward_features(black)
        n_prefix = int(getattr(network, "num_prefix_tokens", -1))
        if isinstance(tokens, Tensor) and tokens.ndim == 3 and tokens.shape[1] == grid**2 + n_prefix:
            return int(size[0]), grid
    step = "; name a vision transformer, such as dino-vits16, or pass " + parameter("method", "simclr")
    raise OptionError(f"gmml restores patches of a vision transformer, and {spec.name} is none" + step)
