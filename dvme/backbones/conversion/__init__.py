"""Published checkpoints that cannot be loaded safely, turned into flat .safetensors files."""

from dvme.backbones.conversion.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
