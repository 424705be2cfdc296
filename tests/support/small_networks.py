"""A network with the names of a wide one, and few weights."""

from __future__ import annotations

from typing import Any

NARROW: dict[str, Any] = {"channels": (64, 16, 16, 24)}
"""Arguments of a ResNet-18 with all of its names, a fiftieth of its weights and NARROW_DIM features."""
NARROW_DIM = 24
