"""Who leads on validation, and what may be said of any two methods: one family of comparisons for all that is said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvme.stats.crossed import compared
from dvme.stats.influence import Scored
from dvme.stats.intervals import Comparison
from dvme.stats.multiple import ALPHA, gain_word, times

Place = tuple[int, int]
"""Method and size."""
LEADS, EQUAL, BETTER, WORSE, UNTESTED = "*", "=", "+", "", "?"
_MARKS = {"gain": BETTER, "loss": WORSE, "no gain shown": EQUAL, "no test": UNTESTED}


@dataclass(frozen=True)
class Versus:
    """One method less another, as one of all comparisons of a table."""

    comparison: Comparison
    """Its interval is widened for all of them: it leaves out 0 where `p_adjusted` is below 0.05, and only there."""
    p_adjusted: float

    @property
    def word(self) -> str:
        """`gain`, `loss`, `no gain shown`, or `no test` where none could be made."""
        return gain_word(self.comparison, self.p_adjusted)


@dataclass(frozen=True)
class Against:
    """One method against several that cannot be told apart: it is better only where it beats every one of them."""

    leader: int
    """Of the rivals, the one that leads on validation."""
    rivals: Mapping[int, Versus]
    """The method less each of them."""

    @property
    def hardest(self) -> int:
        """Of the rivals that `word` is about the one with the smallest difference: a gain is that, or more."""
        if self.word == "loss":
            return self.leader
        meant = {m: each for m, each in self.rivals.items() if each.word == self.word}
        found = {m: each.comparison.difference.estimate for m, each in (meant or self.rivals).items()}
        return min(found, key=found.__getitem__)

    @property
    def word(self) -> str:
        """`gain` over all, `loss` against the leader, `no test` where one could not be made, or `no gain shown`.

        As every one has to be beaten, no correction for their number is due. For a loss it would be: so it is asked of
        one of them only, which validation chose.

        Source: Berger 1982, the intersection-union test.
        """
        words = {each.word for each in self.rivals.values()}
        if self.rivals[self.leader].word == "loss":
            return "loss"
        return "no test" if "no test" in words else "gain" if words == {"gain"} else "no gain shown"


class Standing:
    """The methods of one table, at one or at several sizes.

    The reference of a size is the method that leads on validation there. All other methods of all sizes are compared
    with theirs. A p value is taken times the number of these comparisons, and the intervals are as much wider: a false
    mark is in at most 5 per cent of tables, and all true differences from the reference are in their intervals in at
    least 95. Two methods of which none is the reference are compared as carefully, one by one.

    Holm's steps would find a little more, but intervals of their levels do not hold together: of 14 methods that are
    clearly worse than the leader, all true differences were inside in 83 per cent of tables
    (tests/benchmarks/test_intervals.py).

    The reference is taken to be chosen by chance that has nothing to do with the test scores. That it is chosen by the
    very heads that are tested matters where their training is mostly luck and validation sees it: with folds of 20 rows
    and 400 images to choose on, a false mark was in 9 per cent of tables.

    Source: Bonferroni's inequality; Strassburger and Bretz 2008 for what intervals Holm's steps allow.
    """

    def __init__(
        self, scored: Mapping[Place, Scored], validation: Mapping[Place, float], shared_rows: Sequence[float]
    ) -> None:
        """Take the test scores and the mean validation scores of all places, and the folds' overlap by size."""
        self.scored, self.validation, self.shared_rows = scored, validation, shared_rows
        self.methods = sorted({method for method, _ in scored})

    @property
    def n_comparisons(self) -> int:
        """Of the table."""
        return max(1, (len(self.methods) - 1) * len(self.shared_rows))

    def leader(self, size: int, among: Sequence[int] | None = None) -> int | None:
        """Of these methods, or of all, the one that validation ranks first at a size; the first of equal ones."""
        known = [m for m in (self.methods if among is None else among) if not math.isnan(self.validation[m, size])]
        return max(known, key=lambda m: self.validation[m, size], default=None)

    def versus(self, one: int, other: int, size: int) -> Versus:
        """One method less another, with an interval and a p value for all comparisons of the table."""
        gap = self.scored[one, size] - self.scored[other, size]
        comparison = compared(gap, self.shared_rows[size], level=1.0 - ALPHA / self.n_comparisons)
        return Versus(comparison, times(comparison.p, self.n_comparisons))

    def mark(self, method: int, size: int) -> str:
        """`*` leads on validation, `=` is not told apart from it, `+` better, empty worse, `?` could not be tested."""
        reference = self.leader(size)
        if method == reference:
            return LEADS
        return UNTESTED if reference is None else _MARKS[self.versus(method, reference, size).word]

    def against(self, method: int, pool: Sequence[int], size: int) -> Against | None:
        """A method against all of a pool that are not shown to be worse than the pool's leader; None without any."""
        leader = self.leader(size, pool)
        if leader is None:
            return None
        rivals = [m for m in pool if m == leader or self.versus(m, leader, size).word != "loss"]
        return Against(leader, {m: self.versus(method, m, size) for m in rivals})
