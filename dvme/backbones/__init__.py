"""Frozen feature extractors: what they are, where their weights are, how they are loaded."""

from dvme.backbones.registry import get_spec, listed, names, register
from dvme.backbones.spec import BackboneSpec, Checkpoint, Layout, Preprocess

__all__ = ["BackboneSpec", "Checkpoint", "Layout", "Preprocess", "get_spec", "listed", "names", "register"]
