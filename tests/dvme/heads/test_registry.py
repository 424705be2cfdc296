from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from dvme.errors import OptionError, UnknownNameError
from dvme.heads import HEADS, Head, get_head, head_of
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.training.schedule import TrainingProtocol

PROTOCOL = TrainingProtocol(learning_rate=1e-4, batch_size=8, sampling="shuffled")
OTHER = [
    Linear((1e-3,)),
    Concat(Linear((1e-3, 0.5))),
    MeanLogits(Linear((2.0,))),
    KNN((7, 3)),
    NetworkHead("mlp", PROTOCOL),
]


@pytest.mark.parametrize("head", [*map(get_head, HEADS), *OTHER], ids=lambda head: head.name)
def test_head_of__is_the_head_again_after_json(head: Head) -> None:
    settings = json.loads(json.dumps(asdict(head)))  # type: ignore[call-overload]
    again = head_of(head.name, settings)
    assert again == head
    assert hash(again) == hash(head)


def test_head_of__other_settings_are_refused() -> None:
    settings = asdict(Concat())
    with pytest.raises(UnknownNameError, match="unknown head 'forest'"):
        head_of("forest", settings)
    with pytest.raises(
        OptionError, match=r"the settings are is_fusion, linear, name; they must be is_fusion, link, name, str"
    ):
        head_of("linear", settings)
    with pytest.raises(OptionError, match="of 'mean-logits', not of 'concat'"):
        head_of("concat", asdict(MeanLogits()))
    with pytest.raises(OptionError, match=r"strengths -1\.0 is not possible"):
        head_of("concat", settings | {"linear": settings["linear"] | {"strengths": [-1.0]}})
