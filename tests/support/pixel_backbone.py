"""A backbone whose embedding is the picture itself, so that it can be told what a view has shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 12
SOURCE = """
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

def net():
    return nn.Flatten()

NAME = BackboneSpec(name="NAME", method="ours", architecture="net", dim=None, pooling="model", checkpoint=None,
    preprocess=Preprocess(resize=RESIZE, crop=CROP, mean=(0.0,), std=(1.0,)), licence="MIT", paper="ours",
    source="built", build=net)
"""


def pixel_backbone(folder: Path, name: str = "pixels", *, crop: int = SIDE, resize: int = SIDE + 2) -> str:
    """Write it to a Python file, and say what to type for it."""
    path = folder / f"{name}.py"
    text = SOURCE.replace("NAME", name).replace("RESIZE", f"{resize}").replace("CROP", f"{crop}")
    path.write_text(text)
    return f"{path}:{name}"


def as_embedding(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What it makes of (H, W, 1) pixels: (H * W,)."""
    return (pixels.astype(np.float32) / np.float32(255.0)).ravel()
