"""Frozen feature extractors: what they are, where their weights are, how they are loaded."""

from dvme.backbones.registry import get_spec, names, register
from dvme.backbones.spec import BackboneSpec, Checkpoint, Preprocess

__all__ = ["BackboneSpec", "Checkpoint", "Preprocess", "get_spec", "names", "register"]
