from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from dvme.errors import OptionError, UnknownNameError
from dvme.json_values import rebuilt
from dvme.segmentation.unet.head import Unet, unet_head, unet_name


def test_unet__is_taher_2021_by_default() -> None:
    recipe = unet_head("unet").recipe
    assert (recipe.optimizer, recipe.learning_rates, recipe.weight_decay) == ("adam", (1e-3,), 0.0)
    assert (recipe.schedule, recipe.max_epochs, recipe.stop_patience) == ("epoch-cosine", 200, 20)
    assert recipe.batch_size == 32
    assert unet_head("unet@protocol=taher2021") == Unet()


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        "unet-random",
        "unet@loss=cross-entropy@size=512",
        "unet@learning-rates=0.0001:0.001@batch-size=16@max-epochs=60@stop-patience=10@size=256",
    ],
)
def test_unet_head__names_come_back(name: str) -> None:
    head = unet_head(name)
    assert unet_name(head) == name
    assert rebuilt(Unet, json.loads(json.dumps(asdict(head)))) == head


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet@size=32", "size 32 is not possible; it must be 0, or 64 pixels or more"),
        ("unet@size=-1", "size -1 is not possible"),
        ("unet@batch-size=0", "batch_size 0 is not possible"),
        ("unet@batch-size=many", "batch-size=many is not possible; it must be a whole number"),
        ("unet@learning-rates=0", "learning_rates 0.0 is not possible"),
        ("unet@loss=focal", "loss 'focal' is not known; choose from dice, cross-entropy"),
        ("unet@flips=up", "flips 'up' is not known"),
        ("unet@protocol=own", "protocol 'own' is not known; choose taher2021"),
        ("unet@lora-rank=4", "unet has no setting 'lora-rank'"),
        ("unet@max-epochs=0", "max_epochs 0 is not possible"),
    ],
)
def test_unet_head__refuses_in_one_line(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        unet_head(name)
    assert "\n" not in str(caught.value)


def test_unet_head__an_unknown_name() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown head 'u-net'; did you mean 'unet'\? choose from unet, unet-random"
    ):
        unet_head("u-net")
