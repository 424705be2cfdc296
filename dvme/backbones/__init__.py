"""Frozen feature extractors: what they are, where their weights are, how they are loaded."""

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout, Preprocess
from dvme.backbones.loading.registry import get_spec, listed, names, register

__all__ = ["BackboneSpec", "Checkpoint", "Layout", "Preprocess", "get_spec", "listed", "names", "register"]
