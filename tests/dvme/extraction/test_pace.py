"""The choice of a mode against simulated machines, on which the best one is known."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import pytest

from dvme.extraction.pace import Mode, Pace, modes_of

LANES, TEAM = Mode(2, 1), Mode(1, 2)
Speed = Callable[[Mode, float], float]
"""Images/s of a mode at a time."""
BATCH = 16


def simulate(speed: Speed, n_images: int, modes: list[Mode], *, noise: float = 0.0, seed: int = 0) -> tuple[float, int]:
    """Seconds that so many images take in lanes that finish whenever they do, and how often the mode was changed."""
    rng = np.random.default_rng(seed)
    now, left, n_changes = 0.0, -(-n_images // BATCH), -1
    pace = Pace(modes, left, now)
    while left:
        mode, stopping = pace.mode, False
        n_changes += 1

        def seconds(at: float, mode: Mode = mode) -> float:
            return BATCH * mode.n_lanes / speed(mode, at) * float(np.exp(noise * rng.standard_normal()))

        ends: list[float] = []
        for _ in range(min(mode.n_lanes, left)):
            heapq.heappush(ends, now + seconds(now))
            left -= 1
        while ends:
            now = heapq.heappop(ends)
            stopping = pace.finished(BATCH, now, mode) or stopping
            if left and not stopping:
                heapq.heappush(ends, now + seconds(now))
                left -= 1
    return now, n_changes


def best_fixed(speed: Speed, n_images: int, modes: list[Mode]) -> float:
    return min(simulate(speed, n_images, [mode])[0] for mode in modes)


def quiet(mode: Mode, at: float) -> float:
    return {LANES: 58.0, TEAM: 56.0}[mode]


def team_is_better(mode: Mode, at: float) -> float:
    return {LANES: 34.0, TEAM: 46.0}[mode]


def busy(mode: Mode, at: float) -> float:
    return {LANES: 33.0, TEAM: 20.0}[mode]


def busy_later(mode: Mode, at: float) -> float:
    return team_is_better(mode, at) if at < 30 else busy(mode, at)


def quiet_later(mode: Mode, at: float) -> float:
    return busy(mode, at) if at < 30 else team_is_better(mode, at)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("speed", [quiet, team_is_better, busy, busy_later, quiet_later])
def test_pace__a_few_minutes_take_at_most_a_tenth_longer_than_in_the_best_mode(speed: Speed, noise: float) -> None:
    for seed in range(3):
        taken, _ = simulate(speed, 6000, [LANES, TEAM], noise=noise, seed=seed)
        assert taken < best_fixed(speed, 6000, [LANES, TEAM]) / 0.9


@pytest.mark.parametrize("best", [8, 2, 1])
def test_pace__what_lanes_still_finish_is_not_taken_for_the_next_mode(best: int) -> None:
    """Seven of eight lanes are done at about the same time, when the first one has ended the mode."""

    def speed(mode: Mode, at: float) -> float:
        return 100.0 if mode.n_lanes == best else 60.0

    for noise in (0.0, 0.1):
        taken, _ = simulate(speed, 20_000, modes_of(8, 8), noise=noise)
        assert taken < 20_000 / 100.0 / 0.9


def test_pace__follows_who_comes_and_goes() -> None:
    """Somebody else is busy every other minute: better than either mode all the time."""

    def turns(mode: Mode, at: float) -> float:
        return busy(mode, at) if int(at / 60) % 2 else {LANES: 25.0, TEAM: 50.0}[mode]

    taken, n_changes = simulate(turns, 12_000, [LANES, TEAM])
    assert taken < best_fixed(turns, 12_000, [LANES, TEAM])
    assert n_changes < 40


def test_pace__a_steady_machine_is_tried_ever_less_often() -> None:
    for seed in range(5):
        taken, n_changes = simulate(busy, 20_000, [LANES, TEAM], noise=0.1, seed=seed)
        assert n_changes <= 14
        assert taken < best_fixed(busy, 20_000, [LANES, TEAM]) * 1.03


def test_pace__few_images_are_not_worth_a_trial() -> None:
    assert simulate(quiet, 640, [LANES, TEAM])[1] == 0
    assert simulate(quiet, 6400, [LANES, TEAM])[1] > 0


def test_pace__one_mode_is_run_throughout() -> None:
    assert simulate(busy, 2000, [LANES])[1] == 0


def test_rule_out__it_and_what_has_more_threads_are_never_run() -> None:
    eight, four, team = Mode(8, 1), Mode(2, 4), Mode(1, 8)
    pace = Pace([eight, four, team], 10_000, 0.0)
    now, seen = 0.0, []
    for _ in range(5000):
        now += 0.1
        if pace.finished(BATCH, now, pace.mode):
            seen.append(pace.mode)
            if pace.mode == four:
                pace.rule_out(four, now)
                assert pace.mode == eight
    assert seen[0] == four
    assert set(seen[1:]) <= {eight}


@pytest.mark.parametrize(
    ("n_cores", "n_lanes", "expected"),
    [
        (1, 1, [Mode(1, 1)]),
        (2, 2, [LANES, TEAM]),
        (4, 4, [Mode(4, 1), Mode(1, 4)]),
        (16, 16, [Mode(16, 1), Mode(4, 4), Mode(1, 16)]),
        (16, 3, [Mode(3, 5), Mode(1, 16)]),
    ],
)
def test_modes_of__from_lanes_of_one_thread_to_one_lane_of_all(
    n_cores: int, n_lanes: int, expected: list[Mode]
) -> None:
    assert modes_of(n_cores, n_lanes) == expected
