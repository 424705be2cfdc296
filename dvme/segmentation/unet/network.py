"""smp's U-Net with the layers of a backbone as its encoder, filled with the weights of the backbone.

The encoder is smp's `tu-NAME`, timm's own architecture of this name cut into its feature levels. It has what dvme's
backbones have and smp's own encoders lack: padding as in TensorFlow, other widths. Of a ResNet it is the network that
smp calls `resnet50`: that one is torchvision's, v1.5 with the stride on the 3x3 convolution, and timm's has the same
names, without torchvision's classifier `fc` (a test compares the two).

Names are timm's behind `model.`, but that `stages.0` is `stages_0` where timm takes a container apart. Every tensor of
the encoder has to be one of the backbone's, by name and shape. What the backbone has beyond these follows its last
feature map, for that map is compared with the backbone's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading.trainable import Trainable, trainable
from dvme.backbones.loading.tuned import own_arguments
from dvme.backbones.model.architectures import import_timm, timm_arguments
from dvme.backbones.model.normalised import normalised, scale_and_shift
from dvme.errors import DataError, DvmeError, EnvironmentMismatchError, OptionError, parameter
from dvme.float32 import full_float32
from dvme.text import first_few, first_line

NEEDS = "U-Nets need segmentation_models_pytorch: pip install 'dvme[segment]'"
ROUNDING = 1e-5
"""Between two ways through the same weights, relative to the largest element."""


class NoEncoderError(OptionError):
    """A backbone that cannot be the encoder of a U-Net."""

    def __init__(self, name: str, reason: str) -> None:
        step = "; choose a ResNet or another convolutional backbone, or leave unet out of " + parameter("heads")
        super().__init__(f"{name} cannot be the encoder of a U-Net: {reason}" + step)
        self.reason = reason
        """Without the name and the next step."""


class UNet(nn.Module):
    """From the pixels of squashed images to the logits of each pixel."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, spec: BackboneSpec, arguments: Mapping[str, Any], device: torch.device
    ) -> None:
        super().__init__()
        self.spec = spec
        """Of the encoder; its input is that of the network."""
        self.arguments = dict(arguments)
        """Of the encoder's architecture, see `arguments_of`."""
        scale, shift = scale_and_shift(spec.preprocess, device)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.scale.device

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (B, C, S, S) float32 pixels of 0 to 255: (B, K, S, S)."""
        pixels = images.permute(0, 2, 3, 1)
        logits: Tensor = self.network(normalised(pixels, self.scale, self.shift))
        return logits


def arguments_of(backbone: Trainable) -> dict[str, Any]:
    """Arguments by which the architecture of a backbone has its tensors, without those of the input's channels.

    Raises:
        OptionError: if the architecture is none of timm's.
    """
    spec = backbone.spec
    found = None if spec.build is not None else own_arguments(backbone)
    if found is None:
        raise NoEncoderError(spec.name, "its architecture is not one that timm builds by name")
    return {key: value for key, value in found.items() if key != "in_chans"}


def built(
    spec: BackboneSpec, arguments: Mapping[str, Any], n_outputs: int, *, seed: int = 0, device: str = "cpu"
) -> UNet:
    """A U-Net of random weights.

    Args:
        spec: has the architecture of the encoder, and the input.
        arguments: of the architecture, see `arguments_of`.
        n_outputs: K, logits of a pixel.
        seed: of the weights.
        device: a torch device.

    Raises:
        EnvironmentMismatchError: if smp is not installed.
        OptionError: if the architecture gives no feature levels that smp knows.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise EnvironmentMismatchError(NEEDS) from error
    name, own = timm_arguments(spec.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = smp.Unet(
                f"tu-{name}",
                encoder_weights=None,
                in_channels=spec.preprocess.channels,
                classes=n_outputs,
                **own,
                **arguments,
            )
        except Exception as error:  # of smp and timm, which say in many ways that levels are not theirs
            raise NoEncoderError(spec.name, f"{name} gives no feature levels ({first_line(error)})") from error
    return UNet(network, spec, arguments, torch.device(device))


def with_encoder(backbone: Trainable, n_outputs: int, *, seed: int = 0) -> UNet:
    """A U-Net whose encoder is a backbone, with its weights, on its device; the decoder has random ones.

    Args:
        backbone: at the input that the U-Net is to have.
        n_outputs: K, logits of a pixel.
        seed: of the decoder.

    Raises:
        EnvironmentMismatchError: if smp is not installed.
        OptionError: if smp has no such encoder, or a tensor or the last feature map is another than the backbone's.
    """
    spec = backbone.spec
    made = built(spec, arguments_of(backbone), n_outputs, seed=seed, device=str(backbone.device))
    encoder: Any = made.network.encoder
    encoder.load_state_dict(filled(encoder.state_dict(), backbone.network.state_dict(), spec.name))
    _check_same_map(encoder, backbone)
    return made


def why_no_encoder(spec: BackboneSpec) -> str:
    """What keeps a backbone from being an encoder, as a sentence goes on; "": nothing. Tried with random weights.

    Raises:
        EnvironmentMismatchError: if smp is not installed.
    """
    if spec.build is not None:
        return "is no architecture that timm builds by name"
    if not _has_levels(spec):  # before weights are drawn: of a large transformer that takes long
        return "gives tokens"
    try:
        with_encoder(trainable(spec, random_seed=0), 1)
    except EnvironmentMismatchError:
        raise
    except DvmeError as error:
        return f"does not fit ({getattr(error, 'reason', first_line(error))})"
    return ""


def _has_levels(spec: BackboneSpec) -> bool:
    """Whether the layers of an architecture have several grids; False of tokens, which have one."""
    name, own = timm_arguments(spec.architecture)
    try:
        with torch.device("meta"):
            layers = import_timm().create_model(name, features_only=True, **own)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return True  # what builds the encoder says why it has none
    return len(set(layers.feature_info.reduction())) > 1


def filled(own: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state of an encoder, every tensor of which is one of a backbone's.

    Args:
        own: names and shapes of the encoder.
        given: the state of the backbone.
        name: of the backbone.

    Raises:
        OptionError: naming what the encoder has and the backbone lacks, or has in another shape.
    """
    by_name: dict[str, list[str]] = {}
    for each in given:
        by_name.setdefault(_flat(each), []).append(each)
    sources = {each: by_name.get(_flat(each), []) for each in own}
    lacking = [each for each, found in sources.items() if len(found) != 1 or given[found[0]].shape != own[each].shape]
    if lacking:
        raise NoEncoderError(name, f"the encoder needs {first_few(lacking)}, which the backbone lacks")
    return {each: given[found[0]] for each, found in sources.items()}


def _flat(name: str) -> str:
    """A name as it is in whatever containers."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace(".", "_")


def _check_same_map(encoder: Any, backbone: Trainable) -> None:
    """Refuse an encoder whose last feature map is not that of the backbone.

    Raises:
        OptionError: naming the backbone.
    """
    network, preprocess = backbone.network, backbone.spec.preprocess
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, preprocess.channels, preprocess.crop, preprocess.crop, generator=generator)
    encoder.eval()
    with torch.no_grad(), full_float32(backbone.device):
        try:
            maps: Any = network.forward_intermediates
            expected = maps(noise.to(backbone.device), indices=1, intermediates_only=True)[-1]
            found = encoder(noise.to(backbone.device))[-1]
        except (AttributeError, RuntimeError, ValueError, AssertionError) as error:
            raise NoEncoderError(backbone.spec.name, first_line(error)) from error
    if found.shape != expected.shape or not (found - expected).abs().max() <= ROUNDING * expected.abs().max():
        raise NoEncoderError(backbone.spec.name, "the encoder's last feature map is not the backbone's")


def check_output(network: UNet) -> None:
    """Refuse a U-Net that gives logits for other pixels than those of its input.

    Raises:
        DataError: naming both sizes.
    """
    spec = network.spec
    channels, side = spec.preprocess.channels, spec.preprocess.crop
    with torch.no_grad():
        found = network.eval()(torch.zeros(1, channels, side, side, device=network.device)).shape[-2:]
    if tuple(found) != (side, side):
        raise DataError(f"the U-Net on {spec.name} gives {found[0]} x {found[1]} logits of {side} x {side} pixels")
