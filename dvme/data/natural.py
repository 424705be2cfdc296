"""Names in the order in which people count them."""

from __future__ import annotations

import re
from typing import Any

DIGITS = re.compile("([0-9]+)")


def natural_key(name: str) -> Any:
    """The sort key under which `grade2` comes before `grade10`: runs of digits by their value, the rest by character.

    It is total: names that differ only in leading zeros are ordered as text.
    """
    parts = DIGITS.split(name)
    numbers = [(len(digits), digits) for digits in (part.lstrip("0") for part in parts[1::2])]
    return tuple(zip(parts[::2], [*numbers, (0, "")], strict=True)), name
