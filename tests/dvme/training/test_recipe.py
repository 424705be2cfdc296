from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from dvme.errors import OptionError
from dvme.training.recipe import Recipe, count_batches, has_frozen_statistics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rates": ()}, "learning_rates () are not possible; name one or several"),
        ({"learning_rates": (1e-4, 0.0)}, "learning_rates 0.0 is not possible; it must be a number above 0 and finite"),
        ({"learning_rates": (math.nan,)}, "learning_rates nan is not possible"),
        ({"learning_rates": "fast"}, "learning_rates 'f' is not possible"),
        ({"learning_rates": None}, "learning_rates None are not possible"),
        ({"layer_decay": 0.0}, "layer_decay 0.0 is not possible; it must be a number above 0, 1 at most"),
        ({"layer_decay": 1.1}, "layer_decay 1.1 is not possible"),
        ({"layer_decay": True}, "layer_decay True is not possible"),
        ({"weight_decay": -0.1}, "weight_decay -0.1 is not possible; it must be a number, 0 or more and finite"),
        ({"weight_decay": math.inf}, "weight_decay inf is not possible"),
        ({"weight_decay": math.nan}, "weight_decay nan is not possible"),
        ({"batch_size": 0}, "batch_size 0 is not possible; it must be a whole number, 1 or more"),
        ({"max_epochs": 2.5}, "max_epochs 2.5 is not possible"),
        ({"stop_patience": -1}, "stop_patience -1 is not possible"),
        ({"warmup_epochs": "1"}, "warmup_epochs '1' is not possible"),
        (
            {"warmup_epochs": 3.0, "max_epochs": 3},
            "warmup-epochs=3 takes all epochs of max-epochs=3; set max-epochs=4 or more",
        ),
        ({"average_epochs": -1.0}, "average_epochs -1.0 is not possible"),
        ({"batch_norm": "froze"}, "batch_norm 'froze' is not known; choose from auto, frozen, updated"),
        ({"sampling": 3}, "sampling 3 is not known; choose from auto, shuffled, oversampled"),
        ({"flips": "vertical"}, "flips 'vertical' is not known; choose from none, horizontal, both"),
        ({"degrees": 181.0}, "degrees 181.0 is not possible; it must be a number, from 0 to 180"),
        ({"least_scale": 0}, "least_scale 0 is not possible; it must be a number above 0, 1 at most"),
    ],
)
def test_recipe__what_cannot_be_trained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{re.escape(message)}"):
        Recipe(**settings)


def test_recipe__numbers_become_plain_ones_and_rates_rise() -> None:
    recipe = Recipe(learning_rates=(np.float64(3e-4), 1e-4, 3e-4), batch_size=np.int64(8), degrees=0)  # type: ignore[arg-type]
    assert recipe == Recipe(learning_rates=(1e-4, 3e-4), batch_size=8, degrees=0.0)
    assert Recipe(learning_rates=1e-4).learning_rates == (1e-4,)  # type: ignore[arg-type]
    assert not any(isinstance(value, bool) for value in asdict(recipe).values())
    json.dumps(asdict(recipe))


@pytest.mark.parametrize(
    ("batch_norm", "n_images", "batch_size", "expected"),
    [
        ("auto", 499, 32, True),
        ("auto", 500, 32, False),
        ("auto", 500, 1, True),
        ("frozen", 5000, 32, True),
        ("updated", 2, 32, False),
        ("updated", 5, 3, False),
    ],
)
def test_has_frozen_statistics__by_hand(batch_norm: Any, n_images: int, batch_size: int, expected: bool) -> None:
    assert has_frozen_statistics(Recipe(batch_norm=batch_norm, batch_size=batch_size), n_images) is expected


@pytest.mark.parametrize(("n_images", "batch_size"), [(1, 32), (3, 2), (10, 1)])
def test_has_frozen_statistics__single_images_have_none(n_images: int, batch_size: int) -> None:
    recipe = Recipe(batch_norm="updated", batch_size=batch_size)
    assert min(len(part) for part in np.array_split(np.arange(n_images), count_batches(recipe, n_images))) == 1
    with pytest.raises(OptionError, match="batch_norm 'updated' needs minibatches of two images or more"):
        has_frozen_statistics(recipe, n_images)
