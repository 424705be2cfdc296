"""An unfolded backbone whose weights may change: pixels in, embeddings out, and gradients back."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import placing
from dvme.backbones.model.memory import is_out_of_memory
from dvme.backbones.model.normalised import normalised, scale_and_shift
from dvme.backbones.model.pooling import POOLS, check_pooling
from dvme.defaults import PRECISION
from dvme.errors import OptionError, parameter
from dvme.float32 import full_float32
from dvme.text import first_few, first_line

CHECKED_IMAGES = 2
ROUNDING = 1e-5
"""Between two passes of the same images through the same weights, relative to the largest element."""


class UntrainableError(OptionError):
    """A backbone that training would not reach, or only in part."""

    def __init__(self, reason: str, step: str = "") -> None:
        super().__init__(reason + step)
        self.reason = reason
        """Without the next step, which is another one in a study than elsewhere."""


class Trainable(nn.Module):
    """A backbone as it is trained. Build with `trainable`.

    A batch normalisation stands beside its convolution, and not folded into it as in `Backbone`. All weights ask for
    gradients; it begins in evaluation mode.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: BackboneSpec, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        if spec.dense:
            raise UntrainableError(f"{spec.name} has dense features", "; train the backbone itself, without dense")
        check_pooling(network, spec.pooling, spec.name)
        self.spec = spec
        self._pool = POOLS[spec.pooling]
        preprocess = spec.preprocess
        scale, shift = scale_and_shift(preprocess, device)
        self.register_buffer("scale", scale, persistent=False)  # no weights, so in no state
        self.register_buffer("shift", shift, persistent=False)
        with placing(spec, device), full_float32(device):
            self.network = network.eval().to(device).to(memory_format=torch.channels_last)
            """The model itself: its names of parameters are those of the architecture."""
            black = torch.zeros(1, preprocess.channels, preprocess.crop, preprocess.crop, device=device)
            with torch.no_grad():
                self.dim = int(self(black).shape[1])
                """D, the feature dimension."""
        for weights in network.parameters():
            if weights.is_floating_point():  # `check_trainable` sees to the others
                weights.requires_grad_(True)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.scale.device

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of cropped images, pooled as extraction does.

        Products are rounded as the caller lets torch; extraction's are not (`dvme.float32.full_float32`).

        Args:
            images: (B, C, S, S) float32 in 0..255, S = spec.preprocess.crop, on the device; C is 3, or 1 for a grey
                input. They stay as they are.

        Returns:
            (B, D) float32.
        """
        pixels = images.permute(0, 2, 3, 1)  # (B, S, S, C)
        features = self._pool(self.network, normalised(pixels, self.scale, self.shift)).float()
        assert features.ndim == 2, f"{self.spec.name} gives {tuple(features.shape)}, not (B, D)"
        return features


def trainable(
    spec: BackboneSpec,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    random_seed: int | None = None,
) -> Trainable:
    """Build a backbone with its published weights, to be trained.

    Args:
        spec: what to build; it computes in float32.
        weights: a local checkpoint, instead of a package or a download.
        device: a torch device.
        random_seed: of random weights, in place of the published ones; `weights` is not read then.

    Raises:
        WeightsError: if the weights are not here and cannot be fetched.
        CheckpointError: if they do not fit the architecture exactly.
        OptionError: if it computes in another precision, has no random weights, or the device has no memory for it.
    """
    if spec.precision != PRECISION:
        raise _left_out(f"{spec.name} computes in {spec.precision}, and weights are trained in {PRECISION}")
    if random_seed is None:
        network = build_model(spec, None if weights is None else Path(weights)).model
    else:
        network = build_model(_untrained(spec), seed=random_seed).model
    return Trainable(spec, network, torch.device(device))


def check_trainable(model: Trainable) -> None:
    """Try one step on noise, without taking it: refuse a backbone that training would not reach.

    Weights that the embeddings do not depend on, as those of a layer that the pooling passes by, need no gradient.

    Raises:
        OptionError: naming the backbone and the layer.
    """
    spec, refused = model.spec, f"{model.spec.name} cannot be trained: "
    if not any(True for _ in model.network.parameters()):
        raise _left_out(refused + "it has no weights")
    if lacking := _without_statistics(model.network):
        message = f"the batch normalisation {first_few(lacking)} has no statistics"
        raise _left_out(refused + message + ", so that an embedding depends on the other images of its batch")
    shape = (CHECKED_IMAGES, spec.preprocess.channels, spec.preprocess.crop, spec.preprocess.crop)
    generator = torch.Generator().manual_seed(0)
    images = (255.0 * torch.rand(shape, generator=generator)).to(model.scale.device)
    directions = torch.randn(CHECKED_IMAGES, model.dim, generator=generator).to(images.device)
    try:
        without = _without_gradients(model, images, directions)
    except RuntimeError as error:
        if is_out_of_memory(error):
            message = f"{images.device} has no memory for a step of {CHECKED_IMAGES} images through {spec.name}; "
            raise OptionError(
                message + "choose a smaller size or backbone, or " + parameter("device", "cpu")
            ) from error
        raise _left_out(refused + first_line(error)) from error
    if without:
        raise _left_out(refused + f"no gradient reaches {first_few(without)}, and embeddings change with them")


def _untrained(spec: BackboneSpec) -> BackboneSpec:
    """The same architecture with weights that are drawn."""
    if spec.source == "built":
        raise _left_out(f"{spec.name} is built with its weights, and has no random ones")
    arguments = {key: value for key, value in spec.architecture_args.items() if key != "num_classes"}
    return replace(spec, source="random", checkpoint=None, architecture_args=arguments)


def _without_statistics(network: nn.Module) -> list[str]:
    """Names of the batch normalisations that use those of a batch."""
    named = network.named_modules()
    return [name for name, each in named if isinstance(each, _BatchNorm) and each.running_mean is None]


def _without_gradients(model: Trainable, images: Tensor, directions: Tensor) -> list[str]:
    """Names of the weights that the embeddings depend on and that get no gradient; of all, where none is above zero."""
    named = dict(model.network.named_parameters())
    model.zero_grad(set_to_none=True)
    try:
        with full_float32(images.device), torch.enable_grad():
            features = model(images)
            if features.requires_grad:
                (features * directions).sum().backward()
        gradients = {name: weights.grad for name, weights in named.items() if weights.grad is not None}
        if not any(bool(gradient.any()) for gradient in gradients.values()):
            return list(named)
    finally:
        model.zero_grad(set_to_none=True)
    without = [name for name in named if name not in gradients]
    return without if without and _matter(model, without, images, features.detach()) else []


def _matter(model: Trainable, names: list[str], images: Tensor, features: Tensor) -> bool:
    """Whether embeddings (B, D) change by more than rounding if these weights do."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(1)
    with torch.no_grad(), full_float32(images.device):
        for name in names:
            weights = other.network.get_parameter(name)
            weights.add_(torch.randn(weights.shape, generator=generator).to(weights))
        return not bool((other(images) - features).abs().max() <= ROUNDING * features.abs().max())


def _left_out(message: str) -> UntrainableError:
    step = "; leave it out of " + parameter("backbones") + ", or the methods that train weights out of "
    return UntrainableError(message, step + parameter("heads"))
