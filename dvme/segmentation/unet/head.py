"""U-Nets by name, with their settings: `unet@max-epochs=60@batch-size=16`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from dvme.errors import OptionError, UnknownNameError
from dvme.heads import UNETS
from dvme.heads.variation import differences, split_name, vary
from dvme.limits import whole
from dvme.segmentation.unet.losses import Loss
from dvme.text import choose_from
from dvme.training.recipe import Flips, Precision, Recipe

UNET, RANDOM = UNETS
TAHER = "taher2021"
LEAST_SIDE = 64
"""Pixels: the deepest layers see a thirty-second of a side, and normalise over more than one place."""


@dataclass(frozen=True)
class Unet:
    """A U-Net, all of whose weights are trained on the images and masks of the training rows.

    - `unet` has the layers of a backbone as its encoder, which begins with the weights of the backbone.
    - `unet-random` begins with random weights everywhere: what the pre-training is worth.

    The defaults are the protocol `taher2021`: Adam at 1e-3, half a cosine over 200 epochs that falls after each of
    them, minibatches of 32, Dice loss, an end after 20 epochs without a lower loss of validation. Source: Taher et al.
    2021, section 3 of the supplement (segmentation), and the authors' code.

    Three things that the authors' code does are left out, for they cost accuracy or honesty: it resizes images to the
    nearest pixel (here Pillow's antialiased filter of the backbone), it augments the validation images (here they are
    as they are), and it squeezes the radiographs of SIIM into 8 bits without a window (here `@range` and `@voi` of the
    backbone say what becomes of deep grey). What else differs: the rate of their epoch e is that of e - 1 here; they
    end after 21 epochs without progress; they change contrast and bend images elastically in 3 of 10 cases and cut them
    in a quarter, where images here are turned a little and cut as `finetune` does.
    """

    protocol: str = TAHER
    learning_rates: tuple[float, ...] = (1e-3,)
    """Of Adam at the start; of several, validation chooses."""
    batch_size: int = 32
    """Images of a minibatch, at most."""
    max_epochs: int = 200
    loss: Loss = "dice"
    """`dice`, or `cross-entropy` of pixels, by which Taher et al. train on the vessels of DRIVE."""
    stop_patience: int = 20
    """Epochs without a new best after which training ends; 0: never."""
    size: int = 0
    """Pixels of a side of the input, to which whole images are squashed; 0: what the backbone takes."""
    flips: Flips = "none"
    """Which ways half of the images are mirrored. Where left and right are told apart, none may be."""
    degrees: float = 7.0
    """That an image is turned by, at most."""
    least_scale: float = 0.8
    """Of the area of an image that is shown, at least."""
    precision: Precision = "auto"
    """See `Recipe`."""
    name: str = UNET
    is_fusion: bool = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse what is not known."""
        if self.protocol != TAHER:
            raise OptionError(f"protocol {self.protocol!r} is not known; choose {TAHER}")
        if self.loss not in get_args(Loss):
            raise OptionError(f"loss {self.loss!r} is not known; choose from {', '.join(get_args(Loss))}")
        size = whole("size", self.size, 0)
        if 0 < size < LEAST_SIDE:
            raise OptionError(f"size {size} is not possible; it must be 0, or {LEAST_SIDE} pixels or more")
        recipe = self.recipe
        for name in ("learning_rates", "batch_size", "max_epochs", "stop_patience", "degrees", "least_scale"):
            object.__setattr__(self, name, getattr(recipe, name))

    @property
    def recipe(self) -> Recipe:
        """How it is trained.

        Raises:
            OptionError: naming a setting that is not possible.
        """
        return Recipe(
            learning_rates=self.learning_rates,
            optimizer="adam",
            layer_decay=1.0,
            weight_decay=0.0,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            schedule="epoch-cosine",
            warmup_epochs=0.0,
            stop_patience=self.stop_patience,
            average_epochs=0.0,
            precision=self.precision,
            batch_norm="updated",
            sampling="shuffled",
            flips=self.flips,
            degrees=self.degrees,
            least_scale=self.least_scale,
        )


def unet_head(name: str) -> Unet:
    """A U-Net with its default settings, but for those in its name.

    Raises:
        UnknownNameError: naming the U-Nets that there are.
        OptionError: naming the settings that there are, or what a value may be.
    """
    base, settings = split_name(name)
    if base not in UNETS:
        raise UnknownNameError(f"unknown head {base!r}; {choose_from(base, UNETS)}")
    head = vary(Unet(name=base), settings)
    assert isinstance(head, Unet)
    return head


def unet_name(head: Unet) -> str:
    """The name with the settings that differ from the defaults, as `unet_head` takes it."""
    return "@".join([head.name, *differences(Unet(name=head.name), head)])
