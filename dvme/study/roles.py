"""What the methods of a study stand for: single backbones, fusions, attention, controls; and who of them leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dvme.heads import ATTENTION_HEADS, CONTROLS, FUSIONS, SEGMENTS, TUNED, UNETS, base_name
from dvme.study.standing import Standing

TRAINED = frozenset({*TUNED, *UNETS})
"""Heads that train the backbone as well."""
ONE_BY_ONE = TRAINED | {"segment-conv"}
"""Those whose jobs are fitted one after the other, epoch by epoch."""


@dataclass(frozen=True)
class Roles:
    """Positions of methods, by what they stand for."""

    methods: Sequence[tuple[str, tuple[str, ...]]]
    """(head, backbones) of each; a head may have settings in its name."""

    @cached_property
    def heads(self) -> list[str]:
        """The methods' heads without their settings; those of tokens as the heads that they are."""
        return [base_name(head).removeprefix(SEGMENTS) for head, _ in self.methods]

    @cached_property
    def singles(self) -> list[int]:
        """On one backbone as it is, by a head that is not made to fuse."""
        alone = [m for m, (_, names) in enumerate(self.methods) if len(names) == 1]
        return [m for m in alone if self.heads[m] not in FUSIONS and self.heads[m] not in TRAINED]

    @cached_property
    def tuned(self) -> list[int]:
        """On one backbone that is trained as well."""
        return [m for m, head in enumerate(self.heads) if head in TRAINED]

    @cached_property
    def fusions(self) -> list[int]:
        """On several backbones."""
        return [m for m, (_, names) in enumerate(self.methods) if len(names) > 1]

    @cached_property
    def attention(self) -> list[int]:
        """By attention, on however many backbones."""
        return [m for m, head in enumerate(self.heads) if head in ATTENTION_HEADS]

    @cached_property
    def controls(self) -> list[int]:
        """By a head that fuses without attention, on however many backbones."""
        return [m for m, head in enumerate(self.heads) if head in CONTROLS]

    @property
    def judged(self) -> list[int]:
        """Those whose gains a study is about: by attention; without such a one, all fusions."""
        return self.attention or self.fusions

    def controls_of(self, method: int) -> list[int]:
        """Controls on the same backbones, but for those that are judged themselves."""
        names = self.methods[method][1]
        return [m for m in self.controls if self.methods[m][1] == names and m not in self.judged]


@dataclass(frozen=True)
class Leaders:
    """Who leads on validation at one size, of all methods or of some."""

    roles: Roles
    standing: Standing
    size: int

    def of(self, methods: Sequence[int]) -> int | None:
        """Of these; None where validation says nothing of any."""
        return self.standing.leader(self.size, methods)

    @property
    def overall(self) -> int:
        """Of all; the first where validation says nothing."""
        return self.of(range(len(self.roles.methods))) or 0

    @property
    def shown(self) -> list[int]:
        """The method that leads, then of each kind the one that does: what is looked at more closely."""
        kinds = (range(len(self.roles.methods)), self.roles.singles, self.roles.attention, self.roles.controls)
        return list(dict.fromkeys(m for m in map(self.of, kinds) if m is not None)) or [0]
