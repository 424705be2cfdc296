"""A loaded backbone: pixels in, embeddings out, and the fingerprint of what made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dvme.backbones.description.code_identity import arguments_digest, code_digest
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.registry import named_spec
from dvme.backbones.model.bn_folding import fold_batch_norms
from dvme.backbones.model.pooling import POOLS, check_pooling
from dvme.backbones.weights.key_problems import COUNTER
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
        check_pooling(model, spec.pooling, spec.name)
        self._pool = POOLS[spec.pooling]
        # Tiled along an image row, so that the normalisation runs over contiguous memory.
        mean, std = (torch.tensor(values, device=device) for values in (spec.preprocess.mean, spec.preprocess.std))
        self._scale = (1.0 / (255.0 * std)).repeat(spec.preprocess.crop)
        self._shift = (-mean / std).repeat(spec.preprocess.crop)
        frozen = model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        crop, channels = spec.preprocess.crop, spec.preprocess.channels
        try:
            noise = torch.randn(2, channels, crop, crop, generator=torch.Generator().manual_seed(0)).to(device)
            with full_float32(device):
                self._model = fold_batch_norms(frozen, noise.contiguous(memory_format=torch.channels_last))
            measured = int(self.embed(torch.zeros(1, crop, crop, channels, dtype=torch.uint8)).shape[1])
        except (RuntimeError, ValueError, AssertionError, TypeError, LookupError, AttributeError) as error:
            if isinstance(error, OptionError | torch.OutOfMemoryError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            shape = f"{crop} x {crop} x {channels}"
            raise CheckpointError(f"{spec.name} cannot take images of {shape}: {reason}") from error
        if spec.dim not in {None, measured}:
            raise CheckpointError(f"{spec.name} gives {measured} features, its specification says {spec.dim}")
        self.dim = measured

    def embed(self, pixels: Tensor) -> Tensor:
        """Embeddings of a batch of cropped images.

        Args:
            pixels: (B, H, W, C) uint8, on any device; C is 3, or 1 for a grey input.

        Returns:
            (B, D) float32 on the backbone's device.
        """
        rows = pixels.to(self.device, non_blocking=True).flatten(start_dim=2).to(torch.float32)  # (B, H, W * C)
        images = rows.mul_(self._scale).add_(self._shift).view(pixels.shape).permute(0, 3, 1, 2)
        with torch.inference_mode(), full_float32(self.device):
            try:
                features = self._pool(self._model, images)
            except torch.OutOfMemoryError as error:
                message = f"{self.device} has no memory for {len(pixels)} images at once; pass a smaller "
                raise OptionError(message + parameter("batch_size")) from error
        assert features.ndim == 2, f"{self.spec.name} gives {tuple(features.shape)}, not (B, D)"
        return features

    def fingerprint(self, dtype: str) -> Fingerprint:
        """Everything that changes the numbers stored for this backbone."""
        return fingerprint_of(self.spec, weights=self.weights_hash, dim=self.dim, dtype=dtype, code=self._own_code)


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
