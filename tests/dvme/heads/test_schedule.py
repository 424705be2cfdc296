from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.heads.schedule import Schedule, TrainingProtocol


@settings(max_examples=60, deadline=None)
@given(losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.69999, 0.4, 0.39999, math.nan]), min_size=1, max_size=50))
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


def test_schedule__equal_losses_keep_the_first_and_a_diverging_job_keeps_something() -> None:
    assert _run([1.0] * 60, TrainingProtocol()).best_epoch == 1
    schedule = Schedule(TrainingProtocol())
    assert schedule.close_epoch(math.nan)
    assert not schedule.close_epoch(math.nan)


def test_schedule__without_validation_the_last_epoch_counts() -> None:
    schedule = _run([None] * 60, TrainingProtocol(max_epochs=12))
    assert (schedule.n_epochs, schedule.best_epoch) == (12, 12)
    assert math.isnan(schedule.best_loss)
    assert schedule.learning_rate == 1e-3
