"""How the cores of a machine share the work: the fastest way is measured, and again when it turns slow.

One model on all cores is quick on a quiet machine. Its threads wait for each other after every layer, so that a core
that somebody else takes costs all of them. Independent lanes, each with one thread and batches of its own, lose only
what is taken. Which is faster depends on the model, the machine and who else is on it, so it is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRIED_PORTIONS = 4
"""Measured of a way when it is tried, after one for each lane that warms up."""
PAYS = 8
"""Times as many portions as a trial takes have to be left: what it costs is some of them."""
HOPELESS, CLEARLY = 0.8, 1.03
"""A trial ends early below this share of the best; another way has to be faster than the present one by this."""
FELL, ROSE = 0.8, 1.25
"""Of the speed at the last decision: beyond these it is decided anew."""
WINDOW_S, WINDOW_PORTIONS = 3.0, 4
PAUSE_S, LONGEST_PAUSE_S = 10.0, 160.0
"""Between decisions; longer after each that changed nothing."""
UNASKED = 3
"""Pauses after which it is decided anew without a reason: a quiet machine need not show in the speed of lanes."""


@dataclass(frozen=True)
class Mode:
    """A way to use the cores."""

    n_lanes: int
    """Batches that are computed at once."""
    n_threads: int
    """In each of them."""


def modes_of(n_cores: int, n_lanes: int) -> list[Mode]:
    """Ways to use some cores, the most robust one first, with at most so many lanes."""
    counts = sorted({min(n_lanes, n_cores), min(n_lanes, max(1, n_cores // 4)), 1}, reverse=True)
    return [Mode(count, n_cores // count) for count in counts]


class Pace:
    """Which mode to run now. A clock is only read by the caller, so that a simulation can have its own."""

    def __init__(self, modes: Sequence[Mode], n_portions: int, now: float) -> None:
        """Begin with the first mode; others are tried where enough portions are to come that it pays."""
        self._mode = modes[0]
        self._n_portions = self._n_images = self._n_warm = 0
        self._since = now
        self._modes = list(modes)
        self._rates: dict[Mode, float] = {}
        self._untried = list(modes)
        self._left = n_portions
        self._pause = PAUSE_S
        self._decided_at, self._reference = now, 0.0
        self._before: Mode | None = None
        self._begin(self._modes[0], now)

    @property
    def mode(self) -> Mode:
        """To run now."""
        return self._mode

    def rule_out(self, mode: Mode, now: float) -> None:
        """Never choose a mode again, nor any other of so many threads or more."""
        self._modes = [each for each in self._modes if each.n_threads < mode.n_threads]
        self._untried = [each for each in self._untried if each in self._modes]
        self._rates = {each: rate for each, rate in self._rates.items() if each in self._modes}
        if self._mode not in self._modes:
            self._decide(now)

    def finished(self, n_images: int, now: float, mode: Mode) -> bool:
        """Take note of a portion that was done in a mode; whether another is to be run from here on.

        What lanes of the mode before still finish tells nothing of the present one.
        """
        self._left -= 1
        if mode != self._mode:
            return False
        self._n_portions += 1
        if self._n_portions <= self._n_warm:
            self._since = now
            return False
        self._n_images += n_images
        seconds = now - self._since
        rate = self._n_images / seconds if seconds > 0 else 0.0
        n_measured = self._n_portions - self._n_warm
        if self._untried:
            return self._tried(rate, n_measured, now)
        if n_measured >= max(WINDOW_PORTIONS, 2 * self._mode.n_lanes) and seconds >= WINDOW_S:
            return self._watched(rate, now)
        return False

    def _tried(self, rate: float, n_measured: int, now: float) -> bool:
        best = max(self._rates.values(), default=0.0)
        is_measured = n_measured >= max(TRIED_PORTIONS, 2 * self._mode.n_lanes)
        if not is_measured and not (rate < HOPELESS * best and n_measured >= self._mode.n_lanes):
            return False
        self._rates[self._mode] = rate
        self._untried.remove(self._mode)
        still = [mode for mode in self._untried if self._left >= PAYS * (TRIED_PORTIONS + mode.n_lanes)]
        if still:
            self._untried = still
            self._begin(still[0], now)
            return True
        self._untried = []
        return self._decide(now)

    def _decide(self, now: float) -> bool:
        """Go on with the fastest; whether that is another than the last one run."""
        previous, tried = self._before, self._mode
        chosen = max(self._modes, key=lambda mode: self._rates.get(mode, 0.0))
        if previous in self._rates and self._rates[chosen] < CLEARLY * self._rates[previous]:
            chosen = previous
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S) if chosen == previous else PAUSE_S
        self._before, self._reference, self._decided_at = chosen, self._rates.get(chosen, 0.0), now
        self._begin(chosen, now)
        if chosen == tried:
            self._n_warm = 0
            self._since = now
        return chosen != tried

    def _watched(self, rate: float, now: float) -> bool:
        """Start over where the speed is another than it was, or after long; whether another mode is to be run."""
        is_other = not FELL * self._reference <= rate <= ROSE * self._reference
        pauses = (now - self._decided_at) / self._pause
        if self._reference and len(self._modes) > 1 and pauses >= (1 if is_other else UNASKED):
            self._rates = {self._mode: rate}
            self._untried = [mode for mode in self._modes if mode != self._mode]
            self._begin(self._untried[0], now)
            return True
        if not self._reference:
            self._reference = rate
        self._n_images, self._since = 0, now
        self._n_portions = self._n_warm
        return False

    def _begin(self, mode: Mode, now: float) -> None:
        self._mode, self._n_warm = mode, mode.n_lanes
        self._n_portions = self._n_images = 0
        self._since = now
