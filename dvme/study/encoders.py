"""U-Nets of a study whose backbone can be their encoder; the others are left out, and a line says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dvme.backbones.loading.kept import is_imported, kept_spec
from dvme.errors import DvmeError
from dvme.segmentation.unet.head import Unet
from dvme.segmentation.unet.images import squashed
from dvme.study.mask_methods import seen_in_full
from dvme.study.methods import Method
from dvme_cache import EmbeddingCache, Embeddings


def with_encoders(methods: Sequence[Method], store: EmbeddingCache) -> tuple[list[Method], list[str]]:
    """The methods without U-Nets on backbones that cannot be an encoder, and a line on each of those backbones.

    Raises:
        OptionError: if that leaves nothing.
        EnvironmentMismatchError: if there are U-Nets, and smp is not installed.
    """
    named = dict.fromkeys(method.backbones[0] for method in methods if isinstance(method.head, Unet))
    found = {name: _why_not(store.embeddings(name)) for name in named if name in store.backbones}
    reasons = {name: reason for name, reason in found.items() if reason}
    kept = [method for method in methods if not isinstance(method.head, Unet) or method.backbones[0] not in reasons]
    if reasons and not kept:
        from dvme.segmentation.unet.network import NoEncoderError

        name, reason = next(iter(reasons.items()))
        raise NoEncoderError(seen_in_full(name), f"it {reason}")
    needs = "unet needs a convolutional backbone, whose layers have several grids"
    return kept, [f"{needs}; {seen_in_full(name)} {reason}: its U-Net is left out" for name, reason in reasons.items()]


def _why_not(embeddings: Embeddings) -> str:
    """What keeps the backbone of some dense features from being an encoder, as a sentence goes on; "": nothing."""
    if is_imported(embeddings.fingerprint.fields):
        return "has its features from a file"
    try:
        spec = kept_spec(embeddings)
    except DvmeError:
        return "is known here by its features alone"
    from dvme.segmentation.unet.network import why_no_encoder

    return why_no_encoder(squashed(replace(spec, dense="")))
