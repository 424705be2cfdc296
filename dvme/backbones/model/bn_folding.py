"""Folding batch normalisation into the convolution before it: the same function with fewer passes over memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

AGREEMENT = 1e-4
"""Largest difference from the unfused model that is taken for rounding, relative to the largest output."""


Run = Callable[[Any, Tensor], Sequence[Tensor]]
"""(model, images (B, C, H, W)) to all that is taken of it."""


def _output(model: nn.Module, images: Tensor) -> Sequence[Tensor]:
    return (model(images),)


def fold_batch_norms(model: nn.Module, images: Tensor, run: Run = _output) -> nn.Module:
    """A copy of a frozen model whose convolution and batch-normalisation pairs are one convolution each.

    The pairs are found by watching a forward pass: a normalisation that receives the very tensor which a
    convolution returned. As a last check the copy must give the model's own outputs; where it does not,
    or where there is no pair, the model itself is returned.

    Args:
        model: in evaluation mode.
        images: (B, 3, H, W) to watch and compare on.
        run: what is computed by the model; each of its outputs is compared.
    """
    copied = copy.deepcopy(model)
    pairs = _watch(copied, images, run)
    for convolution, place in pairs:
        _fold(copied, convolution, place)
    if not pairs:
        return model
    with torch.inference_mode():
        outputs = zip(run(model, images), run(copied, images), strict=True)
        is_equal = all(_is_equal(expected, found) for expected, found in outputs)
    return copied if is_equal else model


def _is_equal(expected: Tensor, found: Tensor) -> bool:
    """Within rounding; not so where one is NaN."""
    return bool((found - expected).abs().max() <= AGREEMENT * expected.abs().max())


def _watch(model: nn.Module, images: Tensor, run: Run) -> list[tuple[nn.Conv2d, str]]:
    """(convolution, name of the normalisation that consumes its output), each of them called once."""
    from timm.layers.norm_act import BatchNormAct2d

    produced: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keeps the tensors alive, so that ids stay unique
    calls: dict[nn.Module, int] = {}
    pairs: list[tuple[nn.Conv2d, str]] = []

    def after_convolution(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        calls[module] = calls.get(module, 0) + 1
        produced[id(output)] = (module, output)

    def before_normalisation(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        source = produced.get(id(inputs[0]))
        if source is not None:
            pairs.append((source[0], names[module]))

    names = {module: name for name, module in model.named_modules()}
    hooks = []
    for module in names:
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif type(module) in {nn.BatchNorm2d, BatchNormAct2d} and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before_normalisation))
    try:
        with torch.inference_mode():
            run(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    once = {name for name in names.values() if calls.get(model.get_submodule(name)) == 1}
    return [(convolution, place) for convolution, place in pairs if place in once and names[convolution] in once]


def _fold(model: nn.Module, convolution: nn.Conv2d, place: str) -> None:
    """Move a normalisation's scale and shift into the convolution and leave its activation in its place."""
    normalisation = model.get_submodule(place)
    assert isinstance(normalisation, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(convolution, normalisation)
    convolution.weight, convolution.bias = fused.weight, fused.bias
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, getattr(normalisation, "act", nn.Identity()))
