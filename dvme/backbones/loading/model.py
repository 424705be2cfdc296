"""A loaded backbone: pixels in, embeddings out, and the fingerprint of what made them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dvme.backbones.description.code_identity import arguments_digest, code_digest
from dvme.backbones.description.dense import Grid, grids_text, maps_text
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.variation import seen_in, split_name
from dvme.backbones.description.view import PLAIN
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.registry import named_spec
from dvme.backbones.model.bn_folding import fold_batch_norms
from dvme.backbones.model.dense import DensePool, grids_of_maps
from dvme.backbones.model.memory import NoMemoryForOneError, Room, is_out_of_memory
from dvme.backbones.model.normalised import normalised, scale_and_shift
from dvme.backbones.model.pooling import POOLS, Pool, check_pooling
from dvme.backbones.model.precision import as_input, cast, check_precision, switched
from dvme.backbones.weights.key_problems import COUNTER
from dvme.defaults import PRECISION
from dvme.errors import CheckpointError, OptionError, parameter
from dvme.float32 import full_float32
from dvme_cache import Fingerprint


class Backbone:
    """A frozen model on a device. Build with `load_backbone`."""

    def __init__(self, spec: BackboneSpec, model: nn.Module, device: torch.device) -> None:
        self.spec = spec
        self.choice = ""
        """Which of several sets of weights in its file it has, a sentence."""
        self.weights_hash = hash_weights(model)
        # Before any image runs through it, for a model may keep what it has seen.
        self._own_code: dict[str, str] = {}
        if spec.build is not None:
            arguments = arguments_digest(spec.build, model)
            self._own_code = {"code": code_digest(spec.build, model), "code.arguments": arguments}
        self.device = device
        self.room = Room(device)
        """How many images fit into its memory at once, as far as is known."""
        check_precision(spec, device)
        self.grids: tuple[Grid, ...] = ()
        """Of dense features; () of one vector an image."""
        self._pool: Pool = DensePool(spec.name, spec.dense) if spec.dense else POOLS[spec.pooling]
        if not spec.dense:
            check_pooling(model, spec.pooling, spec.name)
        with placing(spec, device):
            measured = self._place(model)
        if spec.dim not in {None, measured}:
            raise CheckpointError(f"{spec.name} gives {measured} features, its specification says {spec.dim}")
        self.dim = measured

    def __repr__(self) -> str:
        given = maps_text(self.grids) or f"{self.dim} values an image"
        size = f"{self.spec.preprocess.crop} x {self.spec.preprocess.crop}"
        return f"Backbone {self.spec.name}: images of {size} become {given}, on {self.device}"

    def _place(self, model: nn.Module) -> int:
        """Put a model on the device, in the form that computes; D, as it gives it."""
        preprocess, device = self.spec.preprocess, self.device
        crop, channels = preprocess.crop, preprocess.channels
        self._scale, self._shift = scale_and_shift(preprocess, device)
        frozen = model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        noise = torch.randn(2, channels, crop, crop, generator=torch.Generator().manual_seed(0)).to(device)
        images = noise.contiguous(memory_format=torch.channels_last)
        with full_float32(device):
            if isinstance(self._pool, DensePool):
                folded = fold_batch_norms(frozen, images, self._pool.maps)
            else:
                folded = fold_batch_norms(frozen, images)
        self._model = cast(folded, self.spec.precision)
        if isinstance(self._pool, DensePool):
            with torch.inference_mode():
                self.grids = grids_of_maps(self._pool.maps(self._model, as_input(images[:1], self.spec.precision)))
        return int(self.embed(torch.zeros(1, crop, crop, channels, dtype=torch.uint8)).shape[1])

    def on(self, device: torch.device) -> Backbone:
        """The same on another device of the same kind; itself on its own.

        Raises:
            OptionError: if the device does not have the precision, or the memory.
        """
        if device == self.device:
            return self
        check_precision(self.spec, device)
        twin = copy.copy(self)
        twin.device, twin.room = device, Room(device)
        try:
            vars(twin).update(
                _model=copy.deepcopy(self._model).to(device),
                _scale=self._scale.to(device),
                _shift=self._shift.to(device),
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            message = f"{device} has no memory for the weights of {self.spec.name}; leave it out of "
            raise OptionError(message + parameter("device")) from error
        return twin

    def embed(self, pixels: Tensor) -> Tensor:
        """Embeddings of a batch of cropped images; where it does not fit into memory, in parts that do.

        Args:
            pixels: (B, H, W, C) uint8, on any device; C is 3, or 1 for a grey input.

        Returns:
            (B, D) float32 on the backbone's device.

        Raises:
            OptionError: if not even one image fits.
        """
        # Not without waiting: Apple's GPUs would read the pixels after they are gone (pytorch issue 189690).
        try:
            return self.room.embed(lambda part: self.embed_on_device(part.to(self.device)), pixels)
        except NoMemoryForOneError:
            size = f"{self.spec.preprocess.crop} x {self.spec.preprocess.crop}"
            message = f"{self.device} has no memory for a single image of {size} through {self.spec.name}; "
            step = "free some, choose a smaller size or backbone, or pass " + parameter("device", "cpu")
            raise OptionError(message + step) from None

    def embed_on_device(self, pixels: Tensor) -> Tensor:
        """Embeddings of a batch that lies on the backbone's device, all at once; may return before they are computed.

        Args:
            pixels: (B, H, W, C) uint8.

        Returns:
            (B, D) float32.

        Raises:
            RuntimeError: as torch says it, if there is no memory; see `is_out_of_memory`.
        """
        images = normalised(pixels, self._scale, self._shift)
        with torch.inference_mode(), switched(self.spec.precision, self.device):
            features = self._pool(self._model, as_input(images, self.spec.precision)).float()
        assert features.ndim == 2, f"{self.spec.name} gives {tuple(features.shape)}, not (B, D)"
        return features

    def is_of(self, spec: BackboneSpec) -> bool:
        """Whether a spec describes this very model, perhaps in another view of the images."""
        is_named_so = seen_in(self.spec.name, PLAIN) == seen_in(spec.name, PLAIN)
        return is_named_so and replace(self.spec, name=spec.name, view=spec.view) == spec

    def seeing(self, spec: BackboneSpec) -> Backbone:
        """The same model, on the same device, in the view that this spec of it says."""
        other = copy.copy(self)
        other.spec = spec
        return other

    def fingerprint(self, dtype: str) -> Fingerprint:
        """Everything that changes the numbers stored for this backbone."""
        maps = grids_text(self.grids)
        return fingerprint_of(
            self.spec, weights=self.weights_hash, dim=self.dim, dtype=dtype, maps=maps, code=self._own_code
        )


@contextmanager
def placing(spec: BackboneSpec, device: torch.device) -> Iterator[None]:
    """Within it a model is put on a device and embeds a first image; what fails there is said in one line.

    Raises:
        OptionError: if the device has no memory for the weights.
        CheckpointError: if the model cannot take its images.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, OptionError):
            raise
        if is_out_of_memory(error):
            message = f"{device} has no memory for the weights of {spec.name}; choose a smaller backbone, or "
            raise OptionError(message + parameter("device", "cpu")) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shape = f"{spec.preprocess.crop} x {spec.preprocess.crop} x {spec.preprocess.channels}"
        where = "" if spec.precision == PRECISION else f" in {spec.precision} on {device}"
        raise CheckpointError(f"{spec.name} cannot take images of {shape}{where}: {reason}") from error


def in_view(spec: BackboneSpec, there: Iterable[Backbone]) -> Backbone | None:
    """The backbone of a spec made of one that is there and differs in the view alone; None where none is."""
    return next((own.seeing(spec) for own in there if own.is_of(spec)), None)


def load_backbone(
    spec: BackboneSpec | str,
    *,
    weights: str | Path | Mapping[str, str | Path] | None = None,
    architectures: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Backbone:
    """Find a backbone's weights, load them strictly, and put the model on a device.

    Args:
        spec: what to load, or its name as `dvme.extract` takes it, with variations if any.
        weights: a local checkpoint in the published layout, instead of a package or a download; or such files by
            backbone name, as `dvme.extract` takes them.
        architectures: timm architectures of torchvision-style checkpoints, by a backbone name of one's own.
        device: a torch device.

    Raises:
        TypeError: if spec is neither, or weights no path.
        UnknownNameError: if there is no backbone of that name.
        WeightsError: if the weights are not here and cannot be fetched.
        CheckpointError: if they do not fit the architecture exactly.
        EnvironmentMismatchError: if torch and torchvision do not fit together.
        OptionError: if the device does not have the precision, or the memory.

    Example:
        >>> backbone = dvme.load_backbone("efficientnet-lite0")
        >>> backbone.dim
        1280
    """
    if not isinstance(spec, BackboneSpec | str):
        message = f"load_backbone takes a backbone's name or a BackboneSpec, not {type(spec).__name__}"
        raise TypeError(f"{message}; such as load_backbone('efficientnet-lite0')")
    asked = spec if isinstance(spec, str) else spec.name
    if isinstance(spec, str):
        spec = named_spec(spec, architectures or {})
    if isinstance(weights, Mapping):
        names = (spec.name, asked, split_name(spec.name)[0], split_name(asked)[0])
        weights = next((weights[name] for name in names if name in weights), None)
    if not isinstance(weights, str | Path | None):
        raise TypeError(f"weights is {type(weights).__name__}; pass the path of a file, or paths by backbone name")
    check_precision(spec, torch.device(device))
    loaded = build_model(spec, None if weights is None else Path(weights))
    backbone = Backbone(spec, loaded.model, torch.device(device))
    backbone.choice = loaded.taken.remark()
    return backbone


def hash_weights(model: nn.Module) -> str:
    """Digest of all parameters and buffers by name, shape, type and value; batch counters do not count.

    The same tensors give the same digest whatever file they came from.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        if not name.endswith(COUNTER):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
