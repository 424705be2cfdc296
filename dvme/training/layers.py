"""How deep in a backbone each parameter is, and the learning rates that follow from it.

The rates are the optimizer's own `lr`: nothing depends on a scheduler that knows of layers. (timm's `layer_decay`
writes `lr_scale`, which its own schedulers alone apply; with any other it does nothing.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dvme.errors import OptionError
from dvme.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

MOST_DEPTHS = 13
"""Of an input and twelve blocks. Where an architecture counts more, as convolutional ones do that count every block,
its stages are counted instead: 0.8 to the power of 17 would leave the stem 2 per cent of the rate."""


def depths(model: nn.Module) -> dict[str, int]:
    """The depth of every parameter; 0 is the input.

    Args:
        model: an architecture of timm, or a module that holds one: its own groups count. Else the children that have
            parameters, in order.

    Returns:
        Depths by the names of `model.named_parameters()`. What a module has beside the architecture that it holds
        counts as deep as that one's end.
    """
    prefix, inner = _architecture(model)
    if inner is None:
        return _by_children(model)
    found = _by_matcher(inner, is_coarse=False)
    if max(found.values()) >= MOST_DEPTHS:
        found = _by_matcher(inner, is_coarse=True)
    deepest = max(found.values())
    named = {prefix + name: depth for name, depth in found.items()}
    return {name: named.get(name, deepest) for name, _ in model.named_parameters()}


def groups(model: nn.Module, classifier: nn.Module, recipe: Recipe, learning_rate: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, from the input to the classifier.

    A parameter at depth l of L has learning_rate * layer_decay ** (L - l), where the classifier is at L, one beyond the
    backbone's deepest. Vectors and scalars are not decayed, nor what `no_weight_decay()` of the architecture names.

    Args:
        model: the backbone; parameters that need no gradient are left out.
        classifier: what follows it.
        recipe: has the decays.
        learning_rate: of the classifier.

    Returns:
        Of each group `params`, `lr`, `base_lr`, which `set_rates` reads, and `weight_decay`.
    """
    by_depth = depths(model)
    n_depths = 1 + max(by_depth.values(), default=-1)
    excepted = _undecayed(model)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            found.setdefault((by_depth[name], value.ndim > 1 and name not in excepted), []).append(value)
    for value in classifier.parameters():
        if value.requires_grad:
            found.setdefault((n_depths, value.ndim > 1), []).append(value)
    made = []
    for depth, is_decayed in sorted(found):
        rate = learning_rate * recipe.layer_decay ** (n_depths - depth)
        decay = recipe.weight_decay if is_decayed else 0.0
        made.append({"params": found[depth, is_decayed], "lr": rate, "base_lr": rate, "weight_decay": decay})
    return made


def freeze_all_but_last(model: nn.Module, layers: str) -> None:
    """Let only the deepest K layers of a backbone be trained, of `last-K`; of `all`, all.

    Raises:
        OptionError: if it has fewer.
    """
    if layers == "all":
        return
    n_last, by_depth = int(layers.removeprefix("last-")), depths(model)
    deepest = sorted(set(by_depth.values()))
    if n_last > len(deepest):
        raise OptionError(f"layers {layers!r} is more than the {len(deepest)} that this backbone has; choose fewer")
    for name, value in model.named_parameters():
        value.requires_grad_(value.requires_grad and by_depth[name] in deepest[-n_last:])


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Give every group its own rate times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _architecture(model: nn.Module) -> tuple[str, nn.Module | None]:
    """The outermost module that groups its parameters, and what its names begin with."""
    for name, module in model.named_modules():
        if callable(getattr(module, "group_matcher", None)):
            return f"{name}." if name else "", module
    return "", None


def _by_matcher(module: nn.Module, *, is_coarse: bool) -> Mapping[str, int]:
    from timm.models import group_parameters

    matcher: Any = module.group_matcher
    found: Mapping[str, int] = group_parameters(module, matcher(coarse=is_coarse), reverse=True)
    return found


def _by_children(model: nn.Module) -> dict[str, int]:
    prefix, module = "", model
    while True:
        children = [
            (name, child) for name, child in module.named_children() if next(child.parameters(), None) is not None
        ]
        if len(children) != 1 or next(module.parameters(recurse=False), None) is not None:
            break
        prefix, module = f"{prefix}{children[0][0]}.", children[0][1]
    places = {name: depth for depth, (name, _) in enumerate(children)}
    return {name: places.get(name.removeprefix(prefix).split(".")[0], 0) for name, _ in model.named_parameters()}


def _undecayed(model: nn.Module) -> set[str]:
    prefix, inner = _architecture(model)
    names = getattr(inner, "no_weight_decay", None)
    return {prefix + name for name in names()} if callable(names) else set()
