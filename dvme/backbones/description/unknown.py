"""What a name that is no backbone's was perhaps meant to be: a near one, an architecture, or a weights file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.timm_names import architecture_names
from dvme.backbones.description.variation import KEYS
from dvme.errors import Text, parameter

WEIGHT_SUFFIXES = frozenset({".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar", ".pkl", ".pickle", ".th", ".npz"})
OTHERS = (
    "timm:NAME, hf-hub:ORGANISATION/NAME, FILE.toml, FILE.py:NAME and NAME with "
    + parameter("architectures")
    + " work as well"
)


def unknown_backbone(name: str, specs: Sequence[BackboneSpec], installed: Sequence[str]) -> str:
    """One line that says so, and what to do."""
    base, *settings = name.split("@")
    key = next((key for each in settings if (key := each.partition("=")[0]) not in KEYS), None)
    if key is not None and base in {spec.name for spec in specs}:
        return f"{base} has no setting {key!r}; choose from {', '.join(KEYS)}, as in {base}@size=160"
    path = Path(name)
    if path.suffix.lower() in WEIGHT_SUFFIXES or path.is_file():
        own = re.sub(r"[^A-Za-z0-9._+-]", "-", path.name.partition(".")[0]).strip("-._+") or "mine"
        way = parameter("backbones", [own]) + " " + _own_weights(own, "ARCHITECTURE", name)
        what = "is a file" if path.is_file() else "looks like a file that is not there"
        return f"{name} {what}, not the name of a backbone; for weights pass " + way
    known = [*(spec.name for spec in specs), *installed]
    same = [item for item in known if _letters(item) == _letters(name)]
    longer = [item for item in known if name and item.startswith(name.lower())]
    started = [item for item in architecture_names() if name and item.startswith(name.lower())]
    family = [f"timm:{item}" for item in sorted(started, key=lambda item: (len(item), item))]
    nearest = same or longer[:3] or family[:3] or difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    architecture = next((item for item in architecture_names() if _letters(item) == _letters(name)), None)
    if architecture is not None and not same:
        trained = [spec.name for spec in specs if spec.architecture == architecture]
        near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.8)
        nearest = list(dict.fromkeys([*trained[:3], *longer[:2], *near, f"timm:{architecture}"]))
        way = _own_weights("NAME", architecture, "FILE")
        hint = f"did you mean {_either(nearest)}? It is an architecture: weights of your own go with "
        return f"unknown backbone {name!r}; {hint}" + way
    if not nearest:
        near = difflib.get_close_matches(name.lower(), architecture_names(), n=2, cutoff=0.7)
        nearest = [f"timm:{item}" for item in near]
    hint = f"did you mean {_either(nearest)}? " if nearest else ""
    return f"unknown backbone {name!r}; {hint}dvme backbones lists them; " + OTHERS


def _own_weights(name: str, architecture: str, file: str) -> Text:
    return parameter("architectures", {name: architecture}) + " " + parameter("weights", {name: file})


def _letters(name: str) -> str:
    """Without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
