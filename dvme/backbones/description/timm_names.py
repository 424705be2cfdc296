"""The names of timm's architectures, read off its sources: importing timm takes seconds."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


@cache
def architecture_names() -> tuple[str, ...]:
    """Every name without a tag that timm's sources register; others may be known to timm all the same."""
    return tuple(REGISTERED.findall(_sources()))


@cache
def is_mentioned(architecture: str) -> bool:
    """Whether timm's sources so much as mention a name, with or without a tag; True where they cannot be read."""
    text, base = _sources(), architecture.partition(".")[0]
    return not REGISTERED.search(text) or re.search(rf"\b{re.escape(base)}\b", text) is not None


def nearest(name: str, *more: str, cutoff: float) -> list[str]:
    """The registered name, or other known one, that is nearest to a name; none where none is near."""
    return difflib.get_close_matches(name, [*more, *architecture_names()], n=1, cutoff=cutoff)


@cache
def _sources() -> str:
    """All that timm's models are made by; "" where it cannot be read."""
    try:
        found = importlib.util.find_spec("timm")
        folder = Path(found.origin).parent / "models" if found is not None and found.origin else None
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))) if folder else ""
    except (ImportError, OSError, ValueError):
        return ""
