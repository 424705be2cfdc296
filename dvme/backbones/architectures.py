"""Architectures by name: timm's, and the ResNets of TensorFlow and JAX, which pad otherwise than PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dvme.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    from torch import nn


def create(spec: BackboneSpec) -> nn.Module:
    """A model without classifier and without its weights, at the input size of its publication.

    Raises:
        EnvironmentMismatchError: if torch and torchvision do not fit together.
    """
    if spec.build is not None:
        built: nn.Module = spec.build()
        return built
    timm = import_timm()
    architecture, own_args = spec.architecture, {}
    if architecture in _RESNETS:
        architecture, make_args = _RESNETS[architecture]
        own_args = make_args()
    model: nn.Module = timm.create_model(architecture, num_classes=0, **own_args, **spec.architecture_args)
    return model


def exists(architecture: str) -> bool:
    """Whether there is an architecture of that name, with or without a tag."""
    return architecture in _RESNETS or bool(import_timm().is_model(architecture))


def import_timm() -> Any:
    """The module timm, or one readable message about what keeps it from being imported.

    Raises:
        EnvironmentMismatchError: if torch and torchvision do not fit together.
    """
    from dvme.backbones.environment import explain_import

    with explain_import():
        import timm
    return timm


def _same_pool() -> dict[str, Any]:
    """SimCLR's: symmetric padding as in PyTorch, except TensorFlow's SAME padding of the stem's maximum pooling.

    A `width_factor` multiplies every channel, unlike torchvision's wide_resnet50_2, whose bottlenecks alone are wide.
    """
    return {"preact": False, "stem_type": "same"}


def _same_everywhere() -> dict[str, Any]:
    """BYOL's in haiku: SAME padding of every strided convolution, and of the maximum pooling."""
    from timm.layers import create_conv2d  # type: ignore[attr-defined]

    return _same_pool() | {"conv_layer": partial(create_conv2d, padding="same")}


_RESNETS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "resnet50_same_pool": ("resnetv2_50", _same_pool),
    "resnet152_same_pool": ("resnetv2_152", _same_pool),
    "resnet50_same": ("resnetv2_50", _same_everywhere),
}
"""timm's ResNetV2 without pre-activation is ResNet v1.5 with the choices that torchvision's lacks."""
