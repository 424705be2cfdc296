"""What a backbone's embeddings are made by, in fields that are compared one by one. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from dvme.backbones.description.code_identity import plain_argument
from dvme.backbones.description.spec import BackboneSpec
from dvme.data import DECODING
from dvme.defaults import PRECISION
from dvme_cache import Fingerprint


def fingerprint_of(
    spec: BackboneSpec,
    *,
    weights: str,
    dim: int,
    dtype: str,
    maps: str = "",
    code: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Everything that changes the numbers stored for a backbone.

    Args:
        spec: what was loaded.
        weights: hash of the loaded tensors.
        dim: D, measured.
        dtype: stored type.
        maps: the grids of dense features, as `grids_text` writes them.
        code: of a model that a function of the user's builds, what only code tells.
    """
    preprocess = {f"preprocess.{name}": value for name, value in asdict(spec.preprocess).items()}
    architecture = {f"architecture.{name}": plain_argument(value) for name, value in spec.architecture_args.items()}
    fields = {
        # A tag names timm's weights; in the label of a model of one's own a dot is just a dot.
        "architecture": spec.architecture if spec.build else spec.architecture.partition(".")[0],
        "weights": weights,
        **({"dense": spec.dense, "maps": maps} if spec.dense else {"pooling": spec.pooling}),
        "decoding": DECODING,
        "dim": dim,
        "dtype": dtype,
    }
    precision = {} if spec.precision == PRECISION else {"precision": spec.precision}
    reading = {f"reading.{name}": value for name, value in spec.reading.set_fields.items()}
    view = {f"view.{name}": value for name, value in spec.view.set_fields.items()}
    return Fingerprint(fields | architecture | preprocess | reading | precision | view | dict(code or {}))
