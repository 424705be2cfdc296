"""Heads of segmentation by name: heads of embeddings, fitted on tokens, and what learns from whole maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dvme.errors import OptionError, UnknownNameError
from dvme.heads import HEADS, SEGMENT, TUNED, UNETS, Head, with_settings
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.heads.variation import differences, needs_order, split_name, vary
from dvme.limits import whole
from dvme.segmentation.conv import ConvHead
from dvme.segmentation.tokens import TOKENS
from dvme.text import choose_from
from dvme.training.schedule import TrainingProtocol


@dataclass(frozen=True)
class TokenHead:
    """A head of embeddings that classifies tokens."""

    name: str
    """Of SEGMENT."""
    of: Any
    """The head of embeddings, a Head."""
    tokens: int = TOKENS
    """Of each image, to learn from and to choose on."""

    def __post_init__(self) -> None:
        """Refuse what tokens cannot be drawn or decided by."""
        object.__setattr__(self, "tokens", whole("tokens", self.tokens, 1))
        if needs_order(self.of):
            raise OptionError(f"leave out link and tune of {self.name}: classes of pixels have no order")

    @property
    def takes_shares(self) -> bool:
        """Whether it learns from the shares of a token as they are, else from a row for each of its classes.

        Neighbours that are the same token twice would be equally near to everything.
        """
        return isinstance(self.of, KNN)

    @property
    def is_fusion(self) -> bool:
        """See Head."""
        return bool(self.of.is_fusion)

    @property
    def revision(self) -> int:
        """See Head: of the tokens, in hundreds, and of the head itself."""
        return 100 + int(self.of.revision)


FACTORIES: dict[str, Callable[[], Head]] = {
    "segment-linear": lambda: TokenHead("segment-linear", Linear()),
    "segment-knn": lambda: TokenHead("segment-knn", KNN(choose_by="accuracy")),
    "segment-concat": lambda: TokenHead("segment-concat", Concat()),
    "segment-mean-logits": lambda: TokenHead("segment-mean-logits", MeanLogits()),
    "segment-dvme": lambda: TokenHead("segment-dvme", NetworkHead("dvme", TrainingProtocol(sampling="shuffled"))),
    "segment-conv": ConvHead,
}
"""A class drawn oftener than it occurs would be found in too many pixels: `segment-dvme` draws tokens as they are."""


def token_head(name: str) -> Head:
    """A head of segmentation, with the settings in its name: `segment-linear@tokens=512@strengths=0.01:0.1`.

    Raises:
        UnknownNameError: naming the heads that there are.
        OptionError: naming the settings that there are, or what a value may be.
    """
    base, settings = split_name(name)
    if base in {*HEADS, *TUNED}:
        step = f"choose from {', '.join([*SEGMENT, *UNETS])}"
        raise UnknownNameError(f"{base} classifies images, and this is a segmentation; {step}")
    if base not in FACTORIES:
        raise UnknownNameError(f"unknown head of segmentation {base!r}; {choose_from(base, [*SEGMENT, *UNETS])}")
    return vary(FACTORIES[base](), settings)


def full_name(head: Head) -> str:
    """The name with the settings that differ from the defaults, as `token_head` takes it."""
    return "@".join([head.name, *differences(token_head(head.name), head)])


def head_of(name: str, settings: Mapping[str, Any]) -> Head:
    """The head of this name with the settings that `dataclasses.asdict` gave of it, also after a way through JSON.

    Raises:
        UnknownNameError, OptionError: as `token_head`, and if the settings are not those of such a head.
    """
    head: Head = with_settings(token_head(name), settings)
    return head
