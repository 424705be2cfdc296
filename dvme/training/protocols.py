"""Recipes by name: dvme's own, and those of the papers as they state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dvme.errors import OptionError
from dvme.text import choose_from
from dvme.training.recipe import Recipe

OWN = "dvme"
AS_PUBLISHED = Recipe(layer_decay=1.0, average_epochs=0.0, warmup_epochs=0.0, batch_norm="updated")
"""What most papers have in common: one rate for all layers, no average of weights, no warm-up, statistics that move."""
PROTOCOLS: Mapping[str, Recipe] = {
    OWN: Recipe(),
    "truong2021": replace(
        AS_PUBLISHED,
        optimizer="adam",
        learning_rates=(1e-3,),
        transformer_factor=0.1,
        weight_decay=0.0,
        batch_size=64,
        min_epochs=30,
        max_epochs=50,
        schedule="plateau",
        stop_patience=10,
        degrees=10.0,
        least_scale=(224 / 256) ** 2,
        most_scale=(224 / 256) ** 2,
    ),
    "taher2021": replace(
        AS_PUBLISHED,
        optimizer="adam",
        learning_rates=(2e-4,),
        weight_decay=0.0,
        max_epochs=1000,
        schedule="plateau",
        plateau_factor=0.5,
        stop_patience=10,
        sampling="shuffled",
        least_scale=0.08,
        most_aspect=4 / 3,
    ),
    "azizi2021": replace(
        AS_PUBLISHED,
        optimizer="sgd",
        learning_rates=tuple(10.0 ** (exponent / 2) for exponent in range(-7, 0)),
        weight_decay=0.0,
        batch_size=256,
        n_steps=30_000,
        schedule="constant",
        stop_patience=0,
        sampling="shuffled",
        augment="photo",
    ),
    "krones2026": replace(
        AS_PUBLISHED,
        learning_rates=(2.5e-6,),
        max_epochs=30,
        warmup_epochs=5.0,
        stop_patience=0,
        sampling="shuffled",
        least_scale=0.08,
        most_aspect=4 / 3,
    ),
    "krones2026-sgd": replace(
        AS_PUBLISHED,
        optimizer="sgd",
        learning_rates=(0.01,),
        weight_decay=0.0,
        max_epochs=30,
        stop_patience=0,
        sampling="shuffled",
        least_scale=0.08,
        most_aspect=4 / 3,
    ),
}
"""By name. What a paper does not state, or does otherwise than dvme can:

- `truong2021` (sections 5.2, B.1 and B.3): flips or rotations "depending on the modality"; here both, by 10 degrees at
  most. Of DINO they take minibatches of 16.
- `taher2021` (section 3 of its supplement, classification of X-rays, and its code): the crop of 8 to 100 per cent is
  taken from the resized image, so that a small one is blurred. Its test images are seen in ten crops.
- `azizi2021` (section 4.3): its strengths are not stated; here those of its pre-training on photographs, without the
  rotation, which `augment=xray` has. Of its grid of weight decays (0, 1e-5, 1e-4, 1e-3) `weight-decay` takes one.
- `krones2026` and `krones2026-sgd` (table 4, a and b): augmentation as in the code of Taher et al., which theirs is
  made from. That code hands the loss to a scheduler that takes epochs: its rate stays near 1.05e-6 in all 30 epochs of
  (a), and near 0.01 in those of (b). `schedule=constant` does what was run of (b), and of (a) with `warmup-epochs=0`
  and `learning-rates=1.05e-06`.

The papers begin with a classifier of random weights: `finetune-scratch-head` does.
"""


def recipe_of(protocol: str) -> Recipe:
    """The recipe of this name.

    Raises:
        OptionError: naming those there are.
    """
    if protocol not in PROTOCOLS:
        raise OptionError(f"protocol {protocol!r} is not known; {choose_from(protocol, PROTOCOLS)}")
    return PROTOCOLS[protocol]
