"""The epochs of an adaptation: rates, resuming to the bit, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dvme.adaptation.start import Begun
from dvme.adaptation.watch import Look
from dvme.errors import OptionError
from dvme.training.checkpoints import Epochs
from dvme.training.randomness import ORDER, generator

Begin = Callable[..., Begun]


def unwatched(look: Look) -> None:
    del look


def state_of(begun: Begun) -> dict[str, Any]:
    return {name: value.clone() for name, value in begun.model.network.state_dict().items()}


def test_run__is_gone_on_with_to_the_bit_by_lars(begin_on: Begin, tmp_path: Path) -> None:
    """By AdamW `adapt` is tested as a whole."""
    settings: dict[str, Any] = {"method": "micle", "batch_size": 256, "learning_rate": 0.3, "epochs": 2}
    whole = begin_on(**settings)
    course = whole.run(Epochs(), unwatched, force=False)

    def interrupt(look: Look) -> None:
        if look.epoch == 1:
            raise KeyboardInterrupt

    kept = Epochs(tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        begin_on(**settings).run(kept, interrupt, force=False)
    torch.manual_seed(5)  # whatever the process drew meanwhile
    seen: list[int] = []
    again = begin_on(**settings)
    resumed = again.run(kept, lambda look: seen.append(look.epoch), force=False)
    assert seen == [2]
    assert (resumed.n_resumed, course.n_resumed) == (1, 0)
    assert str(resumed.looks) == str(course.looks)
    expected = state_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(again).items())
    ended = begin_on(**settings)
    assert ended.run(kept, lambda look: seen.append(look.epoch), force=False).n_resumed == 2
    assert seen == [2], "nothing is left to do"
    assert all(torch.equal(value, expected[name]) for name, value in state_of(ended).items())


def test_run__has_the_rates_of_a_warm_up_and_a_cosine(begin_on: Begin) -> None:
    begun, rates = begin_on(epochs=5, batch_size=8), list[float]()
    adaptation = begun.adaptation
    adaptation.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append({group["lr"] for group in optimizer.param_groups}.pop())
    )
    begun.run(Epochs(), unwatched, force=False)
    n_warmup = 2  # a tenth of 5 epochs of 3 steps, 1.5, rounded to even
    expected = [1e-3 * (step + 1) / (n_warmup + 1) for step in range(n_warmup)]
    expected += [1e-3 * (1 + math.cos(math.pi * step / 13)) / 2 for step in range(13)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_run__refuses_what_is_kept_of_another_course_unless_forced(begin_on: Begin, tmp_path: Path) -> None:
    kept = Epochs(tmp_path / "kept")
    begun = begin_on(epochs=1)
    begun.run(kept, unwatched, force=False)
    with pytest.raises(OptionError, match=r"of another epochs was begun here \(1, now 2\); .*force=True"):
        begin_on(epochs=2).run(kept, unwatched, force=False)
    with pytest.raises(OptionError, match="of another seed was begun here"):
        replace(begun, asked={**begun.asked, "seed": 1}).run(kept, unwatched, force=False)
    assert begin_on(epochs=1, seed=1).run(kept, unwatched, force=True).n_resumed == 0


def test_run__ends_where_embeddings_collapse(begin_on: Begin) -> None:
    """A rate that is far too high makes all embeddings one; a higher one no numbers."""
    with pytest.raises(OptionError, match=r"embeddings collapsed in epoch \d.*nothing was written; .*learning_rate"):
        begin_on(learning_rate=30.0, epochs=8).run(Epochs(), unwatched, force=False)
    with pytest.raises(OptionError, match="training diverged in epoch 1"):
        begin_on(learning_rate=1e30).run(Epochs(), unwatched, force=False)


def test_run__keeps_the_weights_before_a_collapse(begin_on: Begin, tmp_path: Path) -> None:
    kept, begun, weights = Epochs(tmp_path / "kept"), begin_on(learning_rate=1e-6), dict[str, Any]()

    def break_after_the_second(look: Look) -> None:
        if look.epoch == 2:
            weights.update(state_of(begun))
            with torch.no_grad():
                for value in begun.model.network.layer4.parameters():
                    value.zero_()

    with pytest.raises(OptionError, match=f"embeddings collapsed in epoch 3.*{tmp_path / 'kept'} keeps epoch 2"):
        begun.run(kept, break_after_the_second, force=False)
    state = kept.read()
    assert state is not None
    assert [look["epoch"] for look in state["looks"]] == [0, 1, 2]
    assert all(torch.equal(state["model"][f"network.{name}"], value) for name, value in weights.items())


def test_run__says_where_nothing_was_learned(begin_on: Begin) -> None:
    begun = begin_on(method="micle", epochs=1, temperature=0.01)
    course = begun.run(Epochs(), unwatched, force=False)
    task, expected = begun.adaptation.task, []
    for items in np.array_split(task.order(generator(0, ORDER, 1)), 3):  # an image's rivals: both views of other groups
        own = begun.images.groups[items[:, 0]]
        expected.append(np.mean([math.log(1 + 2 * (own != group).sum()) for group in own]))
    assert course.guessing == pytest.approx(np.mean(expected), rel=1e-6)
    assert course.guessing < math.log(2 * 20 / 3 - 1), "fewer rivals than without groups"
    assert course.looks[-1].loss > course.guessing
    assert f"no lower than that of guessing ({course.guessing:.3f}): nothing was learned" in course.doubt
    assert not begin_on(method="supervised", epochs=1).run(Epochs(), unwatched, force=False).doubt
