"""How the weights of a backbone are trained on from where they are: rates, decay, length, augmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from dvme.errors import OptionError
from dvme.limits import every, positive, whole
from dvme.training.batches import Sampling

BatchNorm = Literal["auto", "frozen", "updated"]
Flips = Literal["none", "horizontal", "both"]
FEWEST_FOR_STATISTICS = 500
"""Training images below which `auto` leaves the statistics of batch normalisation as they are."""
NAMES = {"batch_norm": get_args(BatchNorm), "sampling": get_args(Sampling), "flips": get_args(Flips)}
"""Fields that are one of a few words."""
LEAST = {"batch_size": 1, "max_epochs": 1, "stop_patience": 1}
"""Smallest values of the whole numbers."""
RANGES = {
    "weight_decay": (0.0, math.inf),
    "warmup_epochs": (0.0, math.inf),
    "average_epochs": (0.0, math.inf),
    "degrees": (0.0, 180.0),
}
"""Fields that may be 0."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a backbone and its classifier are trained together. The defaults are dvme's own.

    Few labels are the usual case: hence several learning rates, as the order of backbones flips with a single one
    (Krones et al. 2026, table 4), rates that fall towards the input, and statistics that stay as they are.
    """

    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    """Of the classifier, after the warm-up; validation chooses. Rising, each once."""
    layer_decay: float = 0.8
    """What the rate is multiplied with for every layer farther from the classifier; 1 is the same for all."""
    weight_decay: float = 0.05
    """AdamW's; none of biases, norms and what the architecture excepts."""
    batch_size: int = 32
    """Images of a minibatch, at most."""
    max_epochs: int = 20
    """Epochs that a learning rate is tried for."""
    warmup_epochs: float = 1.0
    """In which the rates rise."""
    stop_patience: int = 4
    """Epochs without a new best after which a learning rate is given up."""
    average_epochs: float = 0.0
    """Window of an exponential average of the weights, which is then what counts; 0 is none."""
    batch_norm: BatchNorm = "auto"
    """Whether batch normalisation keeps its statistics: `frozen`, `updated`, or `auto`: frozen below 500 images."""
    sampling: Sampling = "auto"
    """`shuffled`, `oversampled`, or `auto`: oversampled where the classes differ in number. Of several labels an image
    may have, all are shuffled."""
    flips: Flips = "horizontal"
    """Which ways half of the images are mirrored."""
    degrees: float = 7.0
    """That an image is turned by, at most."""
    least_scale: float = 0.8
    """Of the area of an image's central square that is shown, at least."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, allowed in NAMES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} {getattr(self, name)!r} is not known; choose from {', '.join(allowed)}")
        rates = tuple(sorted(every("learning_rates", self.learning_rates, positive)))
        checked: dict[str, Any] = {"learning_rates": rates}
        checked |= {name: whole(name, getattr(self, name), least) for name, least in LEAST.items()}
        checked |= {name: _within(name, getattr(self, name), *ends) for name, ends in RANGES.items()}
        checked |= {name: _share(name, getattr(self, name)) for name in ("layer_decay", "least_scale")}
        for field in fields(self):
            if field.name in checked:
                object.__setattr__(self, field.name, checked[field.name])
        if self.warmup_epochs >= self.max_epochs:
            raise OptionError(
                f"warmup_epochs {self.warmup_epochs:g} leaves no epoch at full rates; choose fewer than max_epochs, "
                f"which is {self.max_epochs}"
            )


def count_batches(recipe: Recipe, n_images: int) -> int:
    """Minibatches of an epoch."""
    return -(-n_images // recipe.batch_size)


def has_frozen_statistics(recipe: Recipe, n_images: int) -> bool:
    """Whether batch normalisation keeps its statistics in a training on so many images.

    A minibatch of one image has none to speak of: there `auto` leaves them. Minibatches are of even sizes.

    Raises:
        OptionError: if they are to be updated from single images.
    """
    is_single = n_images // count_batches(recipe, n_images) < 2
    if recipe.batch_norm == "updated" and is_single:
        raise OptionError(
            "batch_norm 'updated' needs minibatches of two images or more; choose frozen, or raise batch_size"
        )
    is_small = n_images < FEWEST_FOR_STATISTICS or is_single
    return recipe.batch_norm == "frozen" or (recipe.batch_norm == "auto" and is_small)


def _within(name: str, value: Any, least: float, most: float) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not least <= float(value) <= most or math.isinf(value):
        allowed = f"{least:g} or more and finite" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise OptionError(f"{name} {value!r} is not possible; it must be a number, {allowed}")
    return float(value)


def _share(name: str, value: Any) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0.0 < float(value) <= 1.0:
        raise OptionError(f"{name} {value!r} is not possible; it must be a number above 0, 1 at most")
    return float(value)
