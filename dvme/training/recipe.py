"""How the weights of a backbone are trained on from where they are: rates, decay, length, augmentation."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, Literal, get_args

from dvme.errors import OptionError
from dvme.limits import every, positive, whole
from dvme.training.batches import Sampling

BatchNorm = Literal["auto", "frozen", "updated"]
Flips = Literal["none", "horizontal", "both"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "epoch-cosine", "plateau", "constant"]
Augment = Literal["light", "xray", "photo", "pathology"]
STRONG = get_args(Augment)[1:]
"""Augmentations of `dvme.training.augmentations`."""
Precision = Literal["auto", "float32", "bf16"]
FEWEST_FOR_STATISTICS = 500
"""Training images below which `auto` leaves the statistics of batch normalisation as they are."""
NAMES = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "batch_norm": get_args(BatchNorm),
    "sampling": get_args(Sampling),
    "flips": get_args(Flips),
    "augment": get_args(Augment),
}
"""Fields that are one of a few words."""
LEAST = {
    "batch_size": 1,
    "min_epochs": 0,
    "max_epochs": 1,
    "n_steps": 0,
    "stop_patience": 0,
    "plateau_patience": 0,
    "lora_rank": 0,
}
"""Smallest values of the whole numbers."""
SHARES = ("layer_decay", "plateau_factor", "transformer_factor", "least_scale", "most_scale")
"""Fields above 0, 1 at most."""
RANGES = {
    "weight_decay": (0.0, math.inf),
    "warmup_epochs": (0.0, math.inf),
    "average_epochs": (0.0, math.inf),
    "degrees": (0.0, 180.0),
    "most_aspect": (1.0, 10.0),
}
"""Smallest and largest values of further fields."""
LAYERS = re.compile(r"all|last-[1-9][0-9]*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a backbone and its classifier are trained together. The defaults are dvme's own.

    Few labels are the usual case: hence several learning rates, as the order of backbones flips with a single one
    (Krones et al. 2026, table 4), rates that fall towards the input, and statistics that stay as they are.
    """

    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    """Of the classifier, after the warm-up; validation chooses. Rising, each once."""
    transformer_factor: float = 1.0
    """What those are multiplied with for a backbone with attention."""
    optimizer: Optimizer = "adamw"
    """`adamw`, whose weight decay is apart from the gradient; `adam`; or `sgd` with a momentum of 0.9."""
    layer_decay: float = 0.8
    """What the rate is multiplied with for every layer farther from the classifier; 1 is the same for all."""
    weight_decay: float = 0.05
    """None of biases, norms and what the architecture excepts."""
    batch_size: int = 32
    """Images of a minibatch, at most."""
    min_epochs: int = 0
    """Epochs before which nothing stops early; `max_epochs` end it in any case."""
    max_epochs: int = 20
    """Epochs that a learning rate is tried for."""
    n_steps: int = 0
    """Steps that it is tried for, rounded up to whole epochs, in place of `max_epochs`; 0: those count."""
    schedule: Schedule = "cosine"
    """What becomes of the rates after the warm-up: half a cosine to 0, step by step or epoch by epoch; a fall at every
    `plateau` of the validation loss; or nothing."""
    warmup_epochs: float = 1.0
    """In which the rates rise."""
    stop_patience: int = 4
    """Epochs without a new best of its own after which a learning rate is given up; 0: never. The start is no such
    best: what is trained from a fitted classifier often loses before it gains."""
    plateau_factor: float = 0.1
    """What the rates are multiplied with on a plateau."""
    plateau_patience: int = 5
    """Epochs without progress that are tolerated before that."""
    average_epochs: float = 1.0
    """Window of an exponential average of the weights, which is then what counts; 0 is none."""
    precision: Precision = "auto"
    """Of the products in the backbone, on the way there and back: `float32`, `bf16`, or `auto`: the latter on CUDA
    devices. Weights, loss and optimizer are in float32, and so is what validation chooses by."""
    batch_norm: BatchNorm = "auto"
    """Whether batch normalisation keeps its statistics: `frozen`, `updated`, or `auto`: frozen below 500 images."""
    sampling: Sampling = "auto"
    """`shuffled`, `oversampled`, or `auto`: oversampled where the classes differ in number. Of several labels an image
    may have, all are shuffled."""
    augment: Augment = "light"
    """`light`: images are mirrored, turned and cut as the following says. Or one of STRONG, which changes colours as
    well; the following then counts for nothing."""
    flips: Flips = "horizontal"
    """Which ways half of the images are mirrored."""
    degrees: float = 7.0
    """That an image is turned by, at most."""
    least_scale: float = 0.8
    """Of the area of an image's central square that is shown, at least."""
    most_scale: float = 1.0
    """At most."""
    most_aspect: float = 1.0
    """Of the longer side of what is shown to the shorter one, at most; 1 is a square."""
    layers: str = "all"
    """Which weights of the backbone are trained: `all`, or `last-K`: the K deepest layers."""
    lora_rank: int = 0
    """Rank of what is added to the weights of attention, all others staying as they are; 0: weights are trained
    themselves. Source: Hu et al. 2022, LoRA, section 4."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, allowed in NAMES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} {getattr(self, name)!r} is not known; choose from {', '.join(allowed)}")
        rates = tuple(sorted(every("learning_rates", self.learning_rates, positive)))
        checked: dict[str, Any] = {"learning_rates": rates}
        checked |= {name: whole(name, getattr(self, name), least) for name, least in LEAST.items()}
        checked |= {name: _within(name, getattr(self, name), *ends) for name, ends in RANGES.items()}
        checked |= {name: _share(name, getattr(self, name)) for name in SHARES}
        for field in fields(self):
            if field.name in checked:
                object.__setattr__(self, field.name, checked[field.name])
        if LAYERS.fullmatch(str(self.layers)) is None:
            raise OptionError(f"layers {self.layers!r} is not possible; it is all, or last-K such as last-1")
        if self.layers != "all" and self.lora_rank:
            raise OptionError(f"layers {self.layers!r} and lora_rank {self.lora_rank} exclude each other; choose one")
        if self.least_scale > self.most_scale:
            raise OptionError(
                f"least_scale {self.least_scale:g} is above most_scale {self.most_scale:g}; exchange them"
            )
        if not self.n_steps and self.warmup_epochs >= self.max_epochs:
            raise OptionError(
                f"warmup-epochs={self.warmup_epochs:g} takes all epochs of max-epochs={self.max_epochs}; "
                f"set max-epochs={math.floor(self.warmup_epochs) + 1} or more, or warmup-epochs=0"
            )


def resolved(recipe: Recipe, n_images: int, *, is_transformer: bool) -> Recipe:
    """The recipe for one training: its rates for the backbone, its length in epochs.

    A length in steps may leave fewer epochs than the warm-up or the shortest training has; these give way.

    Raises:
        OptionError: see `has_frozen_statistics`.
    """
    has_frozen_statistics(recipe, n_images)
    rates = tuple(rate * recipe.transformer_factor for rate in recipe.learning_rates) if is_transformer else None
    n_epochs = -(-recipe.n_steps // count_batches(recipe, n_images)) if recipe.n_steps else recipe.max_epochs
    return replace(
        recipe,
        learning_rates=rates or recipe.learning_rates,
        transformer_factor=1.0,
        n_steps=0,
        max_epochs=n_epochs,
        min_epochs=min(recipe.min_epochs, n_epochs),
        warmup_epochs=recipe.warmup_epochs if recipe.warmup_epochs < n_epochs else 0.0,
        stop_patience=recipe.stop_patience or n_epochs,
    )


def count_batches(recipe: Recipe, n_images: int) -> int:
    """Minibatches of an epoch."""
    return -(-n_images // recipe.batch_size)


def is_halved(recipe: Recipe, device_type: str) -> bool:
    """Whether steps compute in bfloat16 where that is allowed, on a device of a type such as `cuda`."""
    return recipe.precision == "bf16" or (recipe.precision == "auto" and device_type == "cuda")


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
