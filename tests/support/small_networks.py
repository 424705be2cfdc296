"""Networks of few weights: one with the names of a wide one, and two that are described in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NARROW: dict[str, Any] = {"channels": (64, 16, 16, 24)}
"""Arguments of a ResNet-18 with all of its names, a fiftieth of its weights and NARROW_DIM features."""
NARROW_DIM = 24

TOML = """
name = "NAME"
architecture = "ARCHITECTURE"
pooling = "average"
[architecture_args]
ARGUMENTS
[preprocess]
resize = 40
crop = 32
[checkpoint]
filename = "NAME.pth"
"""
DESCRIBED: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("test_vit", {"img_size": 32, "depth": 3}),
    "cnn": ("test_resnet", {}),
}
"""By name: architecture, and its arguments."""


def write_network(folder: Path, name: str, *, scale: float = 1.0) -> Any:
    """Write `NAME.toml` and its random weights, for images of 32 x 32; the final norm of `vit` multiplies by a factor.

    Returns:
        The network itself.
    """
    import timm
    import torch

    architecture, arguments = DESCRIBED[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = timm.create_model(architecture, num_classes=0, **arguments).eval()
    if name == "vit":
        model.norm.weight.data *= scale
    told = "\n".join(f"{key} = {value}" for key, value in arguments.items())
    text = TOML.replace("NAME", name).replace("ARCHITECTURE", architecture).replace("ARGUMENTS", told)
    (folder / f"{name}.toml").write_text(text)
    torch.save(model.state_dict(), folder / f"{name}.pth")
    return model
