"""Segmentations as the lines of a table: which heads there are, on which backbones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass

from dvme.backbones.description.variation import split_name as split_variations
from dvme.backbones.description.variation import vary_name
from dvme.errors import OptionError, UnknownNameError, parameter
from dvme.heads import UNETS, Head, get_head, segments
from dvme.heads.variation import split_name
from dvme.segmentation.conv import ConvHead
from dvme.segmentation.heads import FACTORIES, TokenHead, full_name, token_head
from dvme.segmentation.unet.head import Unet, unet_head, unet_name
from dvme.study.methods import Method

ATTENTION, FUSED_CONTROLS = "segment-dvme", ("segment-concat", "segment-mean-logits")
SINGLE_CONTROL = "segment-linear"


def are_segmentations(heads: Sequence[str | Head]) -> bool:
    """Whether heads are of segmentations.

    Raises:
        OptionError: if some are and others are not.
        UnknownNameError: if one of these is no head at all.
    """
    names = [split_name(head)[0] if isinstance(head, str) else getattr(head, "name", "") for head in heads]
    own = [segments(name) for name in names]
    if any(own) and not all(own):
        one, other = names[own.index(True)], names[own.index(False)]
        if isinstance(heads[own.index(False)], str):
            get_head(other)  # which may be none at all
        raise OptionError(
            f"{one} segments images and {other} classifies them; a study does one of the two: leave one out of "
            + parameter("heads")
        )
    return any(own)


def segment_methods(heads: Sequence[str | Head], backbones: Sequence[str], *, with_controls: bool) -> list[Method]:
    """The lines of a segmentation's table: single heads on each backbone, fusions on all of them.

    Args:
        heads: names, with settings if they are to differ from the defaults, or heads.
        backbones: with dense features.
        with_controls: beside `segment-dvme` also the fusions without attention, and every single backbone under
            `segment-linear`.

    Raises:
        OptionError, UnknownNameError: if an unknown head is named, or two settings have one name.
    """
    wanted: dict[str, Head] = {}
    for given in heads:
        head = _head(given)
        name = unet_name(head) if isinstance(head, Unet) else full_name(head)
        if wanted.setdefault(name, head) != head:
            raise OptionError(f"{name} is named twice with different settings; a study has each name once")
    there = {head.name for head in wanted.values()}
    if with_controls and ATTENTION in there:
        first = {} if SINGLE_CONTROL in there else {SINGLE_CONTROL: token_head(SINGLE_CONTROL)}
        wanted = first | wanted | {name: token_head(name) for name in FUSED_CONTROLS if name not in there}
    # Of a backbone with several kinds of maps there is one U-Net: it sees images.
    firsts = {seen_in_full(own): own for own in reversed(backbones)}.values()
    single = [
        Method(name, head, (own,))
        for own in backbones
        for name, head in wanted.items()
        if not head.is_fusion and (own in firsts or not isinstance(head, Unet))
    ]
    return single + [Method(name, head, tuple(backbones)) for name, head in wanted.items() if head.is_fusion]


def seen_in_full(name: str) -> str:
    """The name of a backbone without the layers that its maps are of."""
    base, own = split_variations(name)
    return vary_name(base, {key: value for key, value in own.items() if key != "dense"})


def _head(given: str | Head) -> Head:
    if isinstance(given, str):
        return unet_head(given) if split_name(given)[0] in UNETS else token_head(given)
    if not is_dataclass(given) or not isinstance(given, TokenHead | ConvHead | Unet):
        raise UnknownNameError(f"{given!r} is no head of segmentation; choose from {', '.join([*FACTORIES, *UNETS])}")
    return given
