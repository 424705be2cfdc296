"""What a method takes where nobody says otherwise, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dvme.adaptation.settings import METHODS, settings_of
from dvme.errors import OptionError, UnknownNameError
from dvme.training.augmentations import AUGMENTATIONS
from dvme.training.recipe import STRONG


def test_settings_of__has_the_papers_values() -> None:
    assert METHODS == ("simclr", "micle", "gmml", "supervised")
    assert set(STRONG) == set(AUGMENTATIONS)
    micle = settings_of("micle", seed=3)
    assert (micle.epochs, micle.batch_size, micle.learning_rate, micle.temperature) == (100, 128, 1e-4, 0.1)
    assert (micle.weight_decay, micle.warmup_epochs, micle.seed, micle.is_lars) == (0.04, 10.0, 3, False)
    large = settings_of("simclr", batch_size=512, seed=0)
    assert (large.is_lars, large.learning_rate, large.weight_decay) == (True, pytest.approx(0.3), 1e-6)
    assert settings_of("simclr", batch_size=256, seed=0).learning_rate == pytest.approx(0.15)
    few = settings_of("simclr", batch_size=4096, seed=0, n_images=300)
    assert (few.batch_size, few.is_lars, few.learning_rate) == (300, True, pytest.approx(0.3 * 300 / 512))
    fewer = settings_of("simclr", batch_size=4096, seed=0, n_images=100)
    assert (fewer.batch_size, fewer.is_lars, fewer.learning_rate, fewer.weight_decay) == (100, False, 1e-4, 0.04)
    assert settings_of("simclr", batch_size=4096, learning_rate=2.0, seed=0, n_images=300).learning_rate == 2.0
    assert not settings_of("supervised", batch_size=512, seed=0).is_lars
    assert settings_of("supervised", seed=0).learning_rate == 2e-4
    assert settings_of("gmml", seed=0).batch_size == 64
    assert settings_of("gmml", seed=0).plain()["optimizer"] == "adamw"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"method": "simclrr"}, UnknownNameError, "did you mean 'simclr'"),
        ({"method": "dino"}, UnknownNameError, "choose from simclr, micle, gmml, supervised"),
        ({"method": "simclr", "epochs": 0}, OptionError, "epochs 0 is not possible"),
        ({"method": "simclr", "batch_size": 1}, OptionError, "batch_size 1 is not possible"),
        ({"method": "simclr", "learning_rate": float("nan")}, OptionError, "learning_rate nan"),
        ({"method": "simclr", "temperature": 0.0}, OptionError, "temperature 0.0"),
        ({"method": "gmml", "temperature": 0.1}, OptionError, "temperature is of the contrastive loss, and gmml"),
    ],
)
def test_settings_of__refuses_in_one_line(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        settings_of(seed=0, **given)
