from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dvme.errors import OptionError
from dvme.training.schedule import Schedule, TrainingProtocol


@settings(max_examples=60, deadline=None)
@given(losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.69999, 0.4, 0.39999, math.nan]), min_size=1, max_size=50))
@example(losses=[0.5] * 50)  # down to where torch takes no smaller step
def test_schedule__learning_rate_is_torchs_own(losses: list[float]) -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=5)
    schedule = Schedule(TrainingProtocol())
    for loss in losses:
        schedule.close_epoch(loss)
        optimizer.step()
        peer.step(loss)
        assert schedule.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def _run(losses: list[float | None], protocol: TrainingProtocol) -> Schedule:
    schedule = Schedule(protocol)
    for loss in losses:
        assert not schedule.has_ended
        schedule.close_epoch(loss)
        if schedule.has_ended:
            break
    return schedule


def test_schedule__stops_ten_epochs_after_the_best_but_not_before_thirty() -> None:
    early_best = _run([1.0, *[2.0] * 60], TrainingProtocol())
    assert (early_best.n_epochs, early_best.best_epoch, early_best.best_loss) == (30, 1, 1.0)
    late_best = _run([3.0 - epoch / 100 for epoch in range(25)] + [9.0] * 60, TrainingProtocol())
    assert (late_best.n_epochs, late_best.best_epoch) == (35, 25)
    improving = _run([1.0 / epoch for epoch in range(1, 99)], TrainingProtocol())
    assert (improving.n_epochs, improving.best_epoch) == (50, 50)


def test_schedule__equal_losses_keep_the_first() -> None:
    assert _run([1.0] * 60, TrainingProtocol()).best_epoch == 1


def test_schedule__a_loss_that_is_not_finite_is_never_the_best() -> None:
    schedule = _run([math.nan, math.inf] * 30, TrainingProtocol())
    assert (schedule.n_epochs, schedule.best_epoch) == (30, 0)
    late = _run([math.nan, 7.0, math.nan], TrainingProtocol())
    assert (late.best_epoch, late.best_loss) == (2, 7.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1.5}, "batch_size 1.5 is not possible; it must be a whole number, 1 or more"),
        ({"batch_size": "64"}, "batch_size '64' is not possible"),
        ({"batch_size": True}, "batch_size True is not possible"),
        ({"max_epochs": 0}, "max_epochs 0 is not possible"),
        ({"max_epochs": None}, "max_epochs None is not possible"),
        ({"min_epochs": -1}, "min_epochs -1 is not possible; it must be a whole number, 0 or more"),
        ({"plateau_patience": -1}, "plateau_patience -1 is not possible"),
        ({"stop_patience": 0}, "stop_patience 0 is not possible"),
        ({"plateau_factor": 0.0}, "plateau_factor 0.0 is not possible; it must be a number above 0 and below 1"),
        ({"plateau_factor": 1}, "plateau_factor 1 is not possible"),
        ({"plateau_factor": "a tenth"}, "plateau_factor 'a tenth' is not possible"),
        ({"learning_rate": math.nan}, "learning_rate nan is not possible; it must be a number above 0 and finite"),
        ({"learning_rate": math.inf}, "learning_rate inf is not possible"),
        ({"learning_rate": "fast"}, "learning_rate 'fast' is not possible"),
        ({"sampling": 3}, "sampling 3 is not known"),
    ],
)
def test_training_protocol__what_cannot_be_trained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{re.escape(message)}"):
        TrainingProtocol(**settings)


def test_training_protocol__numbers_of_numpy_become_plain_ones() -> None:
    protocol = TrainingProtocol(batch_size=np.int64(8), plateau_factor=np.float32(0.5), min_epochs=0)  # type: ignore[arg-type]
    assert protocol == TrainingProtocol(batch_size=8, plateau_factor=0.5, min_epochs=0)
    json.dumps(asdict(protocol))


def test_schedule__without_validation_the_last_epoch_counts() -> None:
    schedule = _run([None] * 60, TrainingProtocol(max_epochs=12))
    assert (schedule.n_epochs, schedule.best_epoch) == (12, 12)
    assert math.isnan(schedule.best_loss)
    assert schedule.learning_rate == 1e-3
