"""Embedding maps: where the images lie in the plane, side by side for several backbones, and how far to trust it."""
