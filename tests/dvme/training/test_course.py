"""A training that is cut short and taken up again is the one that was not cut short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from dvme.errors import DataError
from dvme.training.checkpoints import Epochs
from dvme.training.course import digest
from dvme.training.epochs import Lesson
from dvme.training.pictures import Pictures
from dvme.training.recipe import Recipe
from dvme.training.tuning import Course, tune

SIZE, SQUARE, N = 10, 12, 12
RECIPE = Recipe(learning_rates=(1e-3, 3e-3), max_epochs=3, batch_size=4, average_epochs=0.5, batch_norm="updated")
FALLING = replace(RECIPE, optimizer="sgd", schedule="plateau", plateau_patience=0, plateau_factor=0.5, min_epochs=3)
WITHOUT = {"validation": np.arange(0)}


class StopError(Exception):
    """As a kill would be."""


class Net(nn.Module):
    """Convolutions whose weights lie in other orders than their shapes say, statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        first, own = nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.Conv2d(6, 6, 3, groups=6)
        self.body = nn.Sequential(first, nn.BatchNorm2d(6), nn.ReLU(), own, nn.Conv2d(6, 8, 1), nn.Dropout(0.2))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images / 255.0 - 0.5).mean(dim=(2, 3))
        return features


def nets(seed: int = 0) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, classifier = Net(), nn.Linear(8, 2)
    classifier.register_buffer("learns", torch.ones(2, dtype=torch.bool))
    return model, classifier


def lesson(**changed: Any) -> Lesson:
    rng = np.random.default_rng(0)
    pictures = Pictures(*(rng.integers(0, 256, (N, side, side, 3), dtype=np.uint8) for side in (SIZE, SQUARE)))
    labels = np.arange(N) % 2
    return replace(Lesson(pictures, np.arange(8), np.arange(8, N), labels, labels, np.ones(N)), **changed)


def tuned(kept: Epochs, given: Lesson, recipe: Recipe = RECIPE, seed: int = 1, stop_at: int = 99) -> Course:
    def tell(done: int, of: int) -> None:
        if done == stop_at:
            raise StopError

    return tune(*nets(), given, recipe, seed, tell, kept)


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    seen: list[int] = []
    handle = register_optimizer_step_post_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


def everything(course: Course) -> tuple[dict[str, Tensor], Course]:
    states = {**course.model_state, **{f"head.{name}": value for name, value in course.classifier_state.items()}}
    return states, replace(course, model_state={}, classifier_state={}, seconds_before=0.0)


def assert_same(first: Course, second: Course) -> None:
    (states, rest), (others, other_rest) = everything(first), everything(second)
    assert repr(rest) == repr(other_rest)  # nan is nan
    assert list(states) == list(others)
    assert all(torch.equal(value, others[name]) for name, value in states.items())


@pytest.mark.parametrize(("changed", "recipe"), [({}, RECIPE), ({}, FALLING), (WITHOUT, RECIPE)])
def test_tune__cut_short_after_any_epoch_ends_with_the_same_bits(
    tmp_path: Path, changed: Mapping[str, Any], recipe: Recipe
) -> None:
    given = lesson(**changed)
    whole = tuned(Epochs(), given, recipe)
    n_epochs = 3 if changed else 6
    for stop in range(1, n_epochs):
        kept = Epochs(tmp_path / f"{stop}")
        with pytest.raises(StopError):
            tuned(kept, given, recipe, stop_at=stop)
        with counted_steps() as steps:
            assert_same(tuned(kept, given, recipe), whole)
        assert len(steps) == 2 * (n_epochs - stop), "two minibatches an epoch, and no epoch twice"


def test_tune__cut_short_after_every_epoch(tmp_path: Path) -> None:
    given, kept = lesson(), Epochs(tmp_path)
    whole = tuned(Epochs(), given, replace(RECIPE, stop_patience=1))
    heard: list[int] = []

    def tell(done: int, of: int) -> None:
        assert of == 6
        is_new = not heard or done > heard[-1]
        heard.append(done)
        if is_new:
            raise StopError

    for _ in range(9):
        try:
            course = tune(*nets(), given, replace(RECIPE, stop_patience=1), 1, tell, kept)
            break
        except StopError:
            continue
    assert_same(course, whole)
    assert heard == sorted(heard)
    assert heard[-1] == 6


def test_tune__an_ended_training_is_not_repeated(tmp_path: Path) -> None:
    given, kept = lesson(), Epochs(tmp_path)
    first = tuned(kept, given)
    heard: list[tuple[int, int]] = []
    with counted_steps() as steps:
        again = tune(*nets(), given, RECIPE, 1, lambda *each: heard.append(each), kept)
    assert (first.seconds_before, again.seconds_before > 0) == (0, True)
    assert_same(first, again)
    assert (steps, heard) == ([], [(6, 6)])


def test_tune__a_training_that_diverged_says_so_again(tmp_path: Path) -> None:
    kept, recipe = Epochs(tmp_path), replace(RECIPE, learning_rates=(1e30,))
    for n_steps in (2, 0):
        with counted_steps() as steps, pytest.raises(DataError, match="training diverged"):
            tuned(kept, lesson(**WITHOUT), recipe)
        assert len(steps) == n_steps


def test_tune__what_another_training_left_counts_for_nothing(tmp_path: Path) -> None:
    given, kept = lesson(), Epochs(tmp_path)
    tuned(kept, given, replace(RECIPE, max_epochs=2))
    with counted_steps() as steps:
        assert_same(tuned(kept, given), tuned(Epochs(), given))
    assert len(steps) == 2 * 12, "both were trained"
    kept.write({"of": None, "rate": 1})
    assert_same(tuned(kept, given), tuned(Epochs(), given))


def test_tune__the_start_is_that_of_the_training_that_is_gone_on_with(tmp_path: Path) -> None:
    """A linear head that was fitted on other threads differs in its last bits."""
    given, kept = lesson(), Epochs(tmp_path)
    whole = tuned(Epochs(), given)
    with pytest.raises(StopError):
        tuned(kept, given, stop_at=2)
    model, classifier = nets()
    with torch.no_grad():
        classifier.weight += 1e-3
    assert_same(tune(model, classifier, given, RECIPE, 1, lambda *_: None, kept), whole)


def test_digest__follows_from_all_but_the_pixels_themselves() -> None:
    given, labels = lesson(), lesson().targets.copy()
    labels[0] = 1
    others = [
        (nets(1)[0], given, RECIPE, 0),
        (nets()[0], given, replace(RECIPE, max_epochs=2), 0),
        (nets()[0], given, RECIPE, 1),
        (nets()[0], lesson(targets=labels), RECIPE, 0),
        (nets()[0], lesson(truth=1 - given.truth), RECIPE, 0),
        (nets()[0], lesson(weights=np.arange(1.0, N + 1)), RECIPE, 0),
        (nets()[0], lesson(train=np.arange(8)[::-1]), RECIPE, 0),
        (nets()[0], lesson(validation=np.arange(8, 11)), RECIPE, 0),
    ]
    own = digest(nets()[0], given, RECIPE, 0)
    assert own == digest(nets()[0], lesson(), RECIPE, 0)
    assert len({own, *(digest(*each) for each in others)}) == 1 + len(others)
    ignored = labels.copy()
    ignored[8:] = 0
    assert digest(nets()[0], lesson(truth=labels), RECIPE, 0) == own, "training rows are no validation rows"
    assert digest(nets()[0], lesson(targets=np.r_[given.targets[:8], ignored[8:]]), RECIPE, 0) == own
