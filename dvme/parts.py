"""Work that several processes share: `3/16` is the third of sixteen parts."""

from __future__ import annotations

from dvme.errors import OptionError, parameter
from dvme_cache.parts import Part


def parse_part(text: str | None) -> Part | None:
    """The part that is asked for, such as `3/16`; None without one.

    Raises:
        OptionError: if it is none.
    """
    try:
        return None if text is None else Part.parse(f"{text}")
    except ValueError as error:
        step = "; " + parameter("part", "3/16") + " is the third of sixteen, and all have the same total"
        raise OptionError(f"{error}" + step) from error
