"""Strong augmentation of a minibatch for contrastive learning: another part, turned, in other colours, blurred.

Each image has numbers of its own, and all images are computed at once. What is shown of an image is as in `motions.py`:
a part of the central square that lies inside it, so that no corner is made up. Colours are changed as torchvision's
ColorJitter does, in an order of its own for each image.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.training.motions import Motions, moved
from dvme.training.recipe import Flips
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

RED, GREEN, BLUE = 0.2989, 0.587, 0.114
"""What they weigh in grey, as torchvision has it."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LARGEST = 255.0
BLUR_SIZE = 224
"""Pixels of a side of the images that sigmas are meant for."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far views of an image differ. The defaults change nothing."""

    least_area: float = 1.0
    """Of the central square that is shown, above 0, 1 at most; up to 1, all alike."""
    most_aspect: float = 1.0
    """Width over height of what is shown: up to this, and down to one over it, 1 or more."""
    flips: Flips = "none"
    """Which ways half of the images are mirrored."""
    degrees: float = 0.0
    """That an image is turned by, at most, from 0 to 180."""
    jittered: float = 0.0
    """Share of the images whose colours change, from 0 to 1."""
    brightness: float = 0.0
    """Factors from 1 - this, and 0 at least, to 1 + this."""
    contrast: float = 0.0
    """As brightness; about the mean grey of the image."""
    saturation: float = 0.0
    """As brightness; about the grey of each pixel."""
    hue: float = 0.0
    """Of a full turn of the colour wheel, either way, from 0 to 0.5."""
    greyed: float = 0.0
    """Share of the images that lose their colours."""
    blurred: float = 0.0
    """Share of the images that are blurred."""
    sigmas: tuple[float, float] = (0.1, 2.0)
    """The least and the largest width of the blur: pixels of an image of 224, and in proportion of others."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        ends = {field.name: (0.0, 1.0) for field in fields(self)}
        ends |= {"degrees": (0.0, 180.0), "hue": (0.0, 0.5), "most_aspect": (1.0, math.inf)}
        ends |= dict.fromkeys(("brightness", "contrast", "saturation"), (0.0, math.inf))
        for name in ends.keys() - {"flips", "sigmas"}:
            (least, most), value = ends[name], getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not is_number or not least <= value <= min(most, sys.float_info.max):
                allowed = f"{least:g} or more and finite" if math.isinf(most) else f"from {least:g} to {most:g}"
                raise OptionError(f"{name} {value!r} is not possible; it must be a number, {allowed}")
        if self.flips not in get_args(Flips):
            raise OptionError(f"flips {self.flips!r} is not known; choose from {', '.join(get_args(Flips))}")
        if self.least_area == 0.0:
            raise OptionError("least_area 0 is not possible; it must be above 0, 1 at most")
        if not 0.0 < self.sigmas[0] <= self.sigmas[1] < math.inf:
            raise OptionError(f"sigmas {self.sigmas!r} are not possible; they must be above 0, the least one first")


AUGMENTATIONS = {
    "xray": Augmentation(
        least_area=0.08,
        most_aspect=4 / 3,
        flips="horizontal",
        degrees=45.0,
        jittered=0.8,
        brightness=0.4,
        contrast=0.4,
    ),
    "photo": Augmentation(
        least_area=0.08,
        most_aspect=4 / 3,
        flips="horizontal",
        jittered=0.8,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.2,
        greyed=0.2,
        blurred=0.5,
    ),
    "pathology": Augmentation(
        least_area=0.25,
        most_aspect=4 / 3,
        flips="both",
        degrees=180.0,
        jittered=0.8,
        brightness=0.2,
        contrast=0.2,
        saturation=0.3,
        hue=0.05,
        blurred=0.25,
    ),
}
"""By what is on the images.

`photo` is SimCLR's (Chen et al. 2020, appendix A) at colour strength 1.0, which Azizi et al. 2021, section 4.2, take
for dermatology. `xray` is what they found best for chest X-rays: crop, jitter of strength 0.5, rotation up to 45
degrees, horizontal flip, no blur. SimCLR's strength s is a brightness, a contrast and a saturation of 0.8 s, hence 0.4;
saturation and hue are left out, for X-rays are grey. `pathology` is dvme's own: a section has no upright, its stain
varies little in hue, and magnification tells something, so that crops are larger.
"""


@dataclass(frozen=True)
class Variations:
    """What becomes of B images."""

    motions: Motions
    orders: NDArray[np.int64]
    """(B, 4) which of brightness, contrast, saturation and hue comes first, second, ..."""
    factors: NDArray[np.float64]
    """(B, 4) of brightness, contrast and saturation, and by how much of a turn the hue is moved."""
    is_greyed: NDArray[np.bool_]
    """(B,)."""
    sigmas: NDArray[np.float64]
    """(B,) widths of the blur, in pixels of an image of 224; 0 where there is none."""


def varied(n: int, augmentation: Augmentation, rng: np.random.Generator) -> Variations:
    """Variations of n images. All numbers are drawn whatever the augmentation, which says what of them is used.

    A part of an area and an aspect that does not fit into the square is shown smaller; torchvision draws again.
    """
    numbers = iter(rng.random((n, 19)).T)
    signed = (2.0 * number - 1.0 for number in numbers)
    motions = Motions(
        is_mirrored=(next(numbers) < 0.5) & (augmentation.flips != "none"),
        is_upturned=(next(numbers) < 0.5) & (augmentation.flips == "both"),
        angles=augmentation.degrees * next(signed),
        areas=augmentation.least_area + (1.0 - augmentation.least_area) * next(numbers),
        stretches=augmentation.most_aspect ** next(signed),
        right=next(signed),
        down=next(signed),
    )
    orders = np.argsort(np.stack([next(numbers) for _ in range(4)], axis=1), axis=1)
    strengths = augmentation.brightness, augmentation.contrast, augmentation.saturation
    factors = [_between(max(0.0, 1.0 - each), 1.0 + each, next(numbers)) for each in strengths]
    factors.append(augmentation.hue * next(signed))
    unchanged = np.array([1.0, 1.0, 1.0, 0.0])
    is_jittered = next(numbers) < augmentation.jittered
    return Variations(
        motions,
        orders,
        factors=np.where(is_jittered[:, None], np.stack(factors, axis=1), unchanged),
        is_greyed=next(numbers) < augmentation.greyed,
        sigmas=np.where(next(numbers) < augmentation.blurred, _between(*augmentation.sigmas, next(numbers)), 0.0),
    )


def applied(squares: Tensor, variations: Variations, crop: int) -> Tensor:
    """What the variations make of the images.

    Args:
        squares: (B, C, S, S) float, from 0 to 255; C is 3, or 1 for grey images, which have no saturation and no hue.
        variations: of the B images.
        crop: pixels of a side of what is returned.

    Returns:
        (B, C, crop, crop), from 0 to 255.
    """
    assert squares.ndim == 4, f"(B, C, S, S), not {tuple(squares.shape)}"
    assert squares.shape[1] in (1, 3), f"{squares.shape[1]} channels"
    assert len(squares) == len(variations.orders), f"{len(squares)} images, {len(variations.orders)} variations"
    images = moved(squares, variations.motions, crop).contiguous()
    _recolour(images, variations)
    _blur(images, variations.sigmas * (crop / BLUR_SIZE))
    return images


def _between(least: float, most: float, shares: NDArray[Any]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = least + (most - least) * shares
    return values


def _recolour(images: Tensor, variations: Variations) -> None:
    """Change the colours, in place. Images whose changes come in the same order are computed at once."""
    is_coloured = images.shape[1] > 1
    changes = [_brightened, _contrasted, *([_saturated, _turned] if is_coloured else [])]
    factors, neutral = variations.factors[:, : len(changes)], np.array([1.0, 1.0, 1.0, 0.0])[: len(changes)]
    is_changed = factors != neutral
    used = np.flatnonzero(is_changed.any(axis=0))
    rows = np.flatnonzero(is_changed.any(axis=1))
    orders = variations.orders[rows]
    kinds, kind = np.unique(orders[np.isin(orders, used)].reshape(len(rows), len(used)), axis=0, return_inverse=True)
    for number, order in enumerate(kinds):
        own = rows[kind.ravel() == number]
        places = torch.from_numpy(own).to(images.device)
        part = images[places]
        for each in order:
            part = changes[each](part, torch.from_numpy(factors[own, each]).to(part)[:, None, None, None])
        images[places] = part
    if is_coloured and variations.is_greyed.any():
        places = torch.from_numpy(np.flatnonzero(variations.is_greyed)).to(images.device)
        images[places] = _grey(images[places]).expand(-1, 3, -1, -1)


def _brightened(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors).clamp_(0.0, LARGEST)


def _contrasted(images: Tensor, factors: Tensor) -> Tensor:
    return _mixed(_grey(images).mean(dim=(2, 3), keepdim=True), images, factors)


def _saturated(images: Tensor, factors: Tensor) -> Tensor:
    return _mixed(_grey(images), images, factors)


def _mixed(other: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """All of the images and none of the other at a factor of 1; away from it beyond."""
    return torch.lerp(other, images, factors).clamp_(0.0, LARGEST)


def _grey(images: Tensor) -> Tensor:
    """(B, 1, S, S)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return (RED * red).add_(green, alpha=GREEN).add_(blue, alpha=BLUE)


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """With the hues of HSV moved by shares of a full turn.

    Conditions are products with 0 or 1, and the hue is in sixths of a turn: `torch.where` takes many times as long.
    """
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    most = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = most - least
    is_not_red, is_not_green = (most - red).sign_(), (most - green).sign_()
    if_red = green - blue
    if_green = (blue - red).add_(chroma, alpha=2.0)
    if_blue = (red - green).add_(chroma, alpha=4.0)
    hue = if_blue.sub_(if_green).mul_(is_not_green).add_(if_green).sub_(if_red).mul_(is_not_red).add_(if_red)
    hue.div_(chroma.clamp(min=1e-6)).add_(6.0 * turns)
    hue.sub_(torch.floor(hue / 6.0), alpha=6.0)
    turned = torch.empty_like(images)
    for channel, (centre, sign, start) in enumerate(((3.0, 1.0, -1.0), (2.0, -1.0, 2.0), (4.0, -1.0, 2.0))):
        part = torch.sub(hue, centre, out=turned[:, channel : channel + 1]).abs_().mul_(sign).add_(start)
        part.clamp_(0.0, 1.0).mul_(chroma).add_(least)
    return turned


def _blur(images: Tensor, sigmas: NDArray[np.float64]) -> None:
    """Gaussian blur as far as four sigmas, in place; beyond a border is its reflection."""
    rows = np.flatnonzero(sigmas)
    radius = min(math.ceil(4.0 * sigmas.max(initial=0.0)), images.shape[-1] - 1)
    if len(rows) == 0 or radius == 0:
        return
    distances = np.arange(-radius, radius + 1)
    weights = np.exp(-(distances**2) / (2.0 * sigmas[rows, None] ** 2))
    places = torch.from_numpy(rows).to(images.device)
    planes = images[places].flatten(0, 1)  # (b C, S, S), each with weights of its own
    n_planes = len(planes)
    kernels = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(planes)
    kernels = kernels.repeat_interleave(images.shape[1], dim=0)[:, None, None]
    padded = torch.nn.functional.pad(planes[None], [radius] * 4, mode="reflect")
    blurred = torch.nn.functional.conv2d(padded, kernels, groups=n_planes)
    blurred = torch.nn.functional.conv2d(blurred, kernels.transpose(2, 3), groups=n_planes)
    images[places] = blurred.reshape(len(rows), *images.shape[1:])
