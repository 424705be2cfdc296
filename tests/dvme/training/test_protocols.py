"""The papers' figures, copied by hand from their text, and what becomes of the rates in a training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dvme.errors import OptionError
from dvme.heads import full_name, get_head
from dvme.heads.tuned.finetune import Finetune
from dvme.training.protocols import PROTOCOLS, recipe_of
from dvme.training.recipe import Recipe, resolved


def test_protocols__truong2021() -> None:
    """Sections 5.2, B.1, B.3: Adam, 1e-3 (DINO 1e-4), a tenth after 5 epochs, 30 to 50 epochs, stop after 10, 64."""
    own = recipe_of("truong2021")
    assert (own.optimizer, own.learning_rates, own.batch_size) == ("adam", (1e-3,), 64)
    assert (own.schedule, own.plateau_factor, own.plateau_patience) == ("plateau", 0.1, 5)
    assert (own.min_epochs, own.max_epochs, own.stop_patience) == (30, 50, 10)
    assert resolved(own, 100, is_transformer=True).learning_rates == pytest.approx((1e-4,))
    assert resolved(own, 100, is_transformer=False).learning_rates == (1e-3,)


def test_protocols__azizi2021_lasts_for_30_000_steps() -> None:
    """Section 4.3: SGD, seven rates from 10^-3.5 to 10^-0.5, minibatches of 256."""
    own = resolved(recipe_of("azizi2021"), 1000, is_transformer=False)
    assert own.max_epochs == own.stop_patience == 7500
    assert len(own.learning_rates) == 7
    assert own.learning_rates[0] == pytest.approx(10**-3.5)
    assert own.learning_rates[-1] == pytest.approx(10**-0.5)


def test_protocols__krones2026_and_taher2021() -> None:
    """Table 4 of Krones et al.; the supplement of Taher et al., training parameters."""
    first, second, other = (recipe_of(name) for name in ("krones2026", "krones2026-sgd", "taher2021"))
    assert (first.learning_rates, first.weight_decay, first.warmup_epochs) == ((2.5e-6,), 0.05, 5.0)
    assert (second.optimizer, second.learning_rates, second.weight_decay) == ("sgd", (0.01,), 0.0)
    assert first.max_epochs == second.max_epochs == 30
    assert (other.optimizer, other.learning_rates, other.degrees) == ("adam", (2e-4,), 7.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["finetune", "finetune-scratch-head", "finetune-random"])
def test_get_head__a_protocol_and_what_differs_from_it(name: str, protocol: str) -> None:
    said = name if protocol == "dvme" else f"{name}@protocol={protocol}"
    assert full_name(get_head(said)) == said
    varied = f"{said}@max-epochs=7"
    assert full_name(get_head(varied)) == varied
    head = get_head(varied)
    assert isinstance(head, Finetune)
    assert head.recipe == replace(get_head(said).recipe, max_epochs=7)  # type: ignore[attr-defined]


def test_get_head__a_setting_of_the_default_beside_a_protocol_is_named() -> None:
    head = get_head("finetune@protocol=taher2021@max-epochs=20")
    assert full_name(head) == "finetune@protocol=taher2021@max-epochs=20"
    assert "test-crops" not in full_name(head), "it is the protocol's"
    one = get_head("finetune@protocol=taher2021@test-crops=one")
    assert full_name(one) == "finetune@protocol=taher2021@test-crops=one"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("finetune@protocol=truong", r"protocol 'truong' is not known; did you mean 'truong2021'\? choose from dvme, "),
        ("finetune@layers=last-0", "layers 'last-0' is not possible; it is all, or last-K"),
        ("finetune@layers=last-2@lora-rank=4", "exclude each other"),
        ("finetune-random@layers=last-1", "finetune-random trains all weights"),
        ("finetune@test-crops=five", "test_crops 'five' is not known; choose from one, ten"),
        ("finetune@least-scale=0.9@most-scale=0.5", "least_scale 0.9 is above most_scale 0.5"),
        ("finetune@optimizer=lion", "optimizer 'lion' is not known"),
        ("finetune@link=probit", "link 'probit' is not known"),
    ],
)
def test_get_head__what_no_training_can_be(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        get_head(name)


def test_resolved__whole_epochs() -> None:
    own = Recipe(n_steps=10, batch_size=32, stop_patience=0)
    assert resolved(own, 100, is_transformer=False).max_epochs == 3, "of four batches each"
