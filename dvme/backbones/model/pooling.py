"""From feature maps or tokens to one vector per image."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dvme.backbones.description.spec import Pooling
from dvme.errors import OptionError

LAST_BLOCKS = 4
Pool = Callable[[Any, Tensor], Tensor]
"""(model, images (B, C, H, W)) to (B, D)."""


def check_pooling(model: nn.Module, pooling: Pooling, name: str) -> None:
    """Refuse to take a class token from a model that has none.

    Raises:
        OptionError: naming what the model can do.
    """
    has_class_token = getattr(model, "cls_token", None) is not None
    if pooling.startswith("class") and not (has_class_token or _has_numbered_class_tokens(model)):
        raise OptionError(f"{name} has no class token for {pooling!r}; choose pool=average")
    if pooling == "model":
        return
    own = f"{name} pools on its own; choose pool=model"
    if not hasattr(model, "forward_features") or (has_class_token and not hasattr(model, "num_prefix_tokens")):
        raise OptionError(own)
    if pooling == "class-token-last-4" and not _gives_prefix_tokens(model):
        raise OptionError(own)


def _has_numbered_class_tokens(model: nn.Module) -> bool:
    """Whether each stage has a class token, as CoaT's, which then come first without being counted as a prefix."""
    return any(re.fullmatch(r"cls_token\d+", name) for name, _ in model.named_parameters())


def _n_prefix(model: Any) -> int:
    """Tokens before those of the patches."""
    n_prefix = getattr(model, "num_prefix_tokens", None)
    return int(_has_numbered_class_tokens(model)) if n_prefix is None else int(n_prefix)


def _gives_prefix_tokens(model: Any) -> bool:
    forward = getattr(model, "forward_intermediates", None)
    return forward is not None and "return_prefix_tokens" in inspect.signature(forward).parameters


def _features(model: Any, images: Tensor) -> Tensor:
    """Tokens (B, T, D) or a feature map.

    Raises:
        OptionError: if the model gives several.
    """
    features = model.forward_features(images)
    if not isinstance(features, Tensor):
        raise OptionError(f"{type(model).__name__} gives {type(features).__name__} of features; choose pool=model")
    return features


def _average(model: Any, images: Tensor) -> Tensor:
    features = _features(model, images)
    if features.ndim == 3:  # (B, T, D)
        return _after_pooling(model, features[:, _n_prefix(model) :].mean(dim=1))
    is_channels_first = features.shape[1] == model.num_features  # (B, D, H, W), or (B, H, W, D)
    return features.mean(dim=(2, 3) if is_channels_first else (1, 2))


def _class_token(model: Any, images: Tensor) -> Tensor:
    return _after_pooling(model, _features(model, images)[:, 0])


def _class_and_mean(model: Any, images: Tensor) -> Tensor:
    """(B, 2 D). Source: Oquab et al. 2023 (DINOv2), linear evaluation."""
    tokens = _features(model, images)  # (B, T, D): class, registers, patches
    pooled = torch.stack([tokens[:, 0], tokens[:, _n_prefix(model) :].mean(dim=1)], dim=1)
    return _after_pooling(model, pooled).flatten(start_dim=1)


def _class_tokens_of_last_4(model: Any, images: Tensor) -> Tensor:
    """(B, 4 D): the normalised class token of each of the last four blocks, oldest first.

    Source: Caron et al. 2021 (DINO), linear evaluation of ViT-S; Truong et al. 2021, section 5.1.
    """
    blocks = model.forward_intermediates(
        images, indices=LAST_BLOCKS, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    return torch.cat([_after_pooling(model, prefix[:, 0]) for _, prefix in blocks], dim=-1)


def _by_model(model: nn.Module, images: Tensor) -> Tensor:
    features: Tensor = model(images)
    return features


def _after_pooling(model: Any, pooled: Tensor) -> Tensor:
    """Some transformers normalise after pooling, and not before."""
    norm = getattr(model, "fc_norm", None)
    return pooled if norm is None else norm(pooled)


POOLS: dict[Pooling, Pool] = {
    "average": _average,
    "class-token": _class_token,
    "class-token-last-4": _class_tokens_of_last_4,
    "class-and-mean": _class_and_mean,
    "model": _by_model,
}
