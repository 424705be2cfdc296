"""The backbones of a run: loaded, checked against the cache, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.backbones.environment import installed
from dvme.backbones.registry import get_spec
from dvme.errors import OptionError
from dvme.runtime import Runtime, keep_freed_memory
from dvme_cache import EmbeddingCache

if TYPE_CHECKING:
    from dvme.backbones.model import Backbone

DTYPES = ("float32", "float16")


def load_backbones(names: Sequence[str], weights: Mapping[str, str | Path], runtime: Runtime) -> list[Backbone]:
    """Load every named backbone on the runtime's device.

    Raises:
        OptionError: if none is named, one is named twice, or weights are given for another.
        UnknownNameError, WeightsError, CheckpointError: if one cannot be loaded.
    """
    from dvme.backbones.model import load_backbone

    if not names:
        raise OptionError("no backbone is named; pass --backbones, such as --backbones supervised,dino")
    if len(set(names)) != len(names):
        raise OptionError(f"a backbone is named twice in {','.join(names)}; name each once")
    stray = sorted(set(weights) - set(names))
    if stray:
        raise OptionError(f"--weights names {', '.join(stray)}, which --backbones does not")
    specs = [get_spec(name) for name in names]
    device = runtime.torch_device()
    if device == "cpu":
        keep_freed_memory()
    return [
        load_backbone(spec, weights=Path(weights[spec.name]) if spec.name in weights else None, device=device)
        for spec in specs
    ]


def check_dtype(dtype: str) -> None:
    """Refuse a stored type that there is not.

    Raises:
        OptionError: naming the choices.
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")


def check_fingerprints(cache: EmbeddingCache, models: Sequence[Backbone], dtype: str) -> None:
    """Refuse to mix embeddings that were made differently.

    Raises:
        FingerprintMismatchError: naming every field that differs, with both values.
    """
    for model in models:
        cache.check_fingerprint(model.spec.name, model.fingerprint(dtype))


def provenance(model: Backbone) -> dict[str, Any]:
    """What is worth knowing of a model's origin and does not change its numbers."""
    versions = {name: installed(name) for name in ("dvme", "torch", "torchvision", "timm", "pillow")}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(model.device),
        "licence": model.spec.licence,
        "paper": model.spec.paper,
        "versions": versions,
    }
