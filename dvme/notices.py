"""Lines that the reader of a result has to know, and which of them change no decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dvme.errors import Text


class Aside(Text):
    """A notice that changes no decision; every other one may."""

    __slots__ = ()


def asides(notices: Iterable[str]) -> tuple[str, ...]:
    """Those of the notices that change no decision, as plain texts."""
    return tuple(str(each) for each in notices if isinstance(each, Aside))


def told_apart(notices: Iterable[str], aside: Collection[str]) -> list[str]:
    """Notices that were plain texts for a while, with those that change no decision told apart again."""
    return [Aside(each) if each in aside else each for each in notices]
