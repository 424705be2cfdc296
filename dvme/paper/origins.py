"""Where the backbones of a run come from, as far as the run tells: published, adapted, imported, or not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.kept import is_imported
from dvme.backbones.zoo import ZOO

NOT_TOLD = frozenset({"", "not stated", "see timm", "see the model card"})
"""Of a description, what stands where nobody said anything."""
UNTRAINED = "random"
"""As a source of weights, and as a method."""
OTHER_DATA = {
    "vanhorn2021benchmarking": "iNat2021",
    "oquab2023dinov2": "LVD-142M",
    "simeoni2025dinov3": "LVD-1689M",
    "perezgarcia2024raddino": "chest radiographs",
}
"""What the weights of dvme's list were trained on, by their first paper; all others of it on ImageNet."""
USUAL_DATA = "ImageNet"
_PUBLISHED = {spec.name: spec for spec in ZOO}


@dataclass(frozen=True)
class Origin:
    """One backbone's."""

    paper: str = ""
    """As its description has it; "" where nobody said any."""
    licence: str = ""
    method: str = ""
    remark: str = ""
    adapted_from: str = ""
    source: str = ""
    is_imported: bool = False
    """Whether another tool made the embeddings."""
    imported: Mapping[str, Any] = field(default_factory=dict)
    """What is known of that: `file`, `digest`, and `made_by` or `like`, the word of who imported them."""
    is_listed: bool = False
    """Whether it is one of dvme's own list."""

    @property
    def is_known(self) -> bool:
        """Whether anything tells how it was made."""
        return bool(self.paper or self.remark or self.is_imported or self.source == UNTRAINED)

    @property
    def is_adapted(self) -> bool:
        """Whether `dvme adapt` made it, which says so in a remark."""
        return " adapted by " in self.remark

    @property
    def began_random(self) -> bool:
        """Whether such an adaptation began with random weights; its paper is then of the architecture alone."""
        return self.remark.startswith("random weights adapted by ")


def origin_of(backbone: Mapping[str, Any]) -> Origin:
    """What a run says of a backbone; of one that an older dvme described, what its name stands for.

    Args:
        backbone: as run.json has it.
    """
    fingerprint = backbone.get("fingerprint") or {}
    kept = backbone.get("provenance") or {}
    base = split_name(str(backbone["name"]))[0]
    if "paper" in kept:
        paper, licence, remark = (_told(kept.get(name, "")) for name in ("paper", "licence", "remark"))
        method, adapted_from, source = (str(kept.get(name, "")) for name in ("method", "adapted_from", "source"))
        return Origin(paper, licence, method, remark, adapted_from, source, is_listed=base in _PUBLISHED)
    if is_imported(fingerprint) or "imported" in kept:
        word = {"made_by": fingerprint["made_by"]} if "made_by" in fingerprint else {}
        return Origin(is_imported=True, imported=word | dict(kept.get("imported") or {}))
    spec = _PUBLISHED.get(base)
    if spec is None or fingerprint.get("architecture") != spec.architecture:
        return Origin()
    return Origin(spec.paper, spec.licence, spec.method, spec.remark, source=spec.source, is_listed=True)


def _told(value: Any) -> str:
    return "" if str(value) in NOT_TOLD else str(value)
