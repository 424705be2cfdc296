"""What was found out about one thing, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line."""

    topic: str
    """What it is about: `torch`, `memory`."""
    said: str
    step: str = ""
    """What to do; "" where nothing is to be done."""
    is_wrong: bool = False
    """Whether dvme, or a part of it, does not work as it is."""

    @property
    def mark(self) -> str:
        """`wrong`, `note`, or nothing."""
        return "wrong" if self.is_wrong else "note" if self.step else ""

    @property
    def line(self) -> str:
        """All of it."""
        return f"{self.topic}: {self.said}" + (f"; {self.step}" if self.step else "")
