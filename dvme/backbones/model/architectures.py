"""Architectures by name: timm's, and the ResNets of TensorFlow and JAX, which pad otherwise than PyTorch's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.timm_names import architecture_names, is_mentioned, nearest
from dvme.environment import explain_import
from dvme.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

ANY_CLASSES = 10


def create(spec: BackboneSpec) -> nn.Module:
    """A model without classifier and without its weights, at the input size of its publication.

    Raises:
        EnvironmentMismatchError: if torch and torchvision do not fit together.
        DataError: if the user's own function fails, or makes something else.
    """
    if spec.build is None:
        return _created(spec, 0)
    from torch import nn

    try:
        model = spec.build()
    except Exception as error:
        raise DataError(f"{spec.name}: build failed with {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise DataError(f"{spec.name}: build returned {type(model).__name__}, not a torch.nn.Module")
    return model


def own_classifier(spec: BackboneSpec, names: Collection[str]) -> set[str]:
    """Names of the parameters that an architecture has only with its classifier.

    Args:
        spec: of a timm architecture.
        names: those that it has without.
    """
    import torch

    arguments = {key: value for key, value in spec.architecture_args.items() if key != "num_classes"}
    plain = replace(spec, architecture_args=arguments)
    try:
        with torch.device("meta"):  # names alone: no memory, no initial values
            model = _created(plain, ANY_CLASSES)
    except (DataError, NotImplementedError):  # some initialisations look at values
        model = _created(plain, ANY_CLASSES)
    return set(model.state_dict()) - set(names)


def _created(spec: BackboneSpec, num_classes: int) -> nn.Module:
    timm = import_timm()
    check_architecture(spec.architecture, f"{spec.name}: {spec.architecture}")
    architecture, own_args = timm_arguments(spec.architecture)
    try:
        model: nn.Module = timm.create_model(
            architecture, num_classes=num_classes, **own_args, **spec.architecture_args
        )
    except (TypeError, ValueError, AssertionError, RuntimeError, LookupError) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in spec.architecture_args.items())
        message = f"{spec.name}: {spec.architecture} cannot be built with ({arguments}): {error}"
        raise DataError(" ".join(message.split())) from error
    return model


def timm_arguments(architecture: str) -> tuple[str, dict[str, Any]]:
    """What timm calls an architecture, and the arguments by which it is this one."""
    if architecture not in _RESNETS:
        return architecture, {}
    name, make_args = _RESNETS[architecture]
    return name, make_args()


def check_architecture(architecture: str, where: str) -> None:
    """Refuse a name that is no architecture, with or without a tag.

    Raises:
        UnknownNameError: naming the nearest.
    """
    if architecture in _RESNETS or architecture in architecture_names():
        return
    near = nearest(architecture, *_RESNETS, cutoff=0.5)
    if is_mentioned(architecture):
        timm = import_timm()
        if timm.is_model(architecture):
            return
        near = difflib.get_close_matches(architecture, [*_RESNETS, *timm.list_models()], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists them"
    raise UnknownNameError(where + f": there is no such architecture; {hint}")


def import_timm() -> Any:
    """The module timm, or one readable message about what keeps it from being imported.

    Raises:
        EnvironmentMismatchError: if torch and torchvision do not fit together.
    """
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
