"""How messages and tables write counts, numbers, differences and names, for pages and the command line alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dvme.stats.curves import Amount, LabelsSaved
    from dvme.stats.intervals import Interval

CHARACTERS_SHOWN = 300
"""Of a value in a line; a longer one keeps both of its ends."""
EXAMPLES, NAMES, CHOICES = 3, 10, 20
"""How many are named of a fault's places, of what is listed for its own sake, and of the things to choose from."""

METRIC_NAMES: Mapping[str, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "quadratic kappa",
    "average_precision": "average precision",
    "subset_accuracy": "subset accuracy",
    "dice": "Dice",
    "iou": "IoU",
    "global_dice": "Dice over all pixels",
    "mae": "mean absolute error in grades (lower is better)",
}
"""What a metric is called in a sentence."""
SINGLE, CONTROL = "single backbone", "control"
"""What a fusion is against, as a role."""
MARKS = (
    "* leads on validation; = not told apart from it; + better; no mark: worse; ? no test could be made. "
    "Crossed test over heads and test images, 5% over the whole table."
)
"""What the marks of a table of methods mean."""

WORDS = ("gain", "loss", "no gain shown", "no test")
"""What may be said of one method less another."""

WHICH = "Which backbone?"
"""The question of a study of which the command line prints the whole answer."""
FROZEN, ADAPTED = "Is frozen enough?", "Did adapting help?"
"""Those of which it prints the comparison that the answer rests on."""
WHAT_ALL_PIXELS_ARE = (
    "All pixels: Dice over the pixels of all test images together, in which images with more of a class count for more."
)
"""Under every table with that column."""
NO_GROUPS = (
    "No image has a group: images of one patient may be on both sides of the split. dvme extract --group-col and "
    "dvme cache label --group-col name the column of patients."
)
"""A line for studies without groups."""


class Spread(Protocol):
    """A mean and a standard deviation, nan where there is one value only."""

    @property
    def mean(self) -> float:
        """Of the values."""

    @property
    def std(self) -> float:
        """Of the sample."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`; with a plural where an s is not enough: `1 entry`, `2 entries`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def bytes_text(n_bytes: float) -> str:
    """`150 kB`, `1.5 GB`: two or three digits, in powers of ten."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            value = n_bytes / factor
            return f"{value:,.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{n_bytes:,.0f} bytes"


def first_line(error: BaseException) -> str:
    """What an error of a library says, on one line, a long one cut in the middle; its type where it says nothing."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return _cut(printable(said))


def printable(text: str) -> str:
    """A text that quotes a file, with a question mark for what no terminal shows."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def first_few(values: Iterable[object], at_most: int = EXAMPLES) -> str:
    """`a, b, c, ...`: the first ones, on one line, long ones cut in the middle."""
    found = [_cut(value) for value in islice(values, at_most + 1)]
    return ", ".join(found[:at_most]) + (", ..." if len(found) > at_most else "")


def some_of(values: Sequence[object], at_most: int = NAMES, joint: str = ", ") -> str:
    """`a, b, c and 290 more`: the first ones, on one line, and how many there are beside them."""
    shown = [_cut(value) for value in values[:at_most]]
    more = len(values) - len(shown)
    return joint.join(shown) + (f" and {more:,} more" if more else "")


def choose_from(name: object, known: Iterable[str]) -> str:
    """`did you mean 'knn'? choose from linear, knn`: what to say of a name that is none of those that there are."""
    every, typed = list(known), f"{name}".lower()
    holding = [each for each in every if typed in each] if len(typed) > 2 else []
    near = holding[:EXAMPLES] or get_close_matches(typed, every, n=1)
    asked = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{asked}choose from {', '.join(every)}"


def _cut(value: object) -> str:
    """On one line, and of CHARACTERS_SHOWN at most: what ends a text, as a reason or a file's name, says most."""
    line, gap = " ".join(str(value).split()), " ... "
    kept = (CHARACTERS_SHOWN - len(gap)) // 2
    return line if len(line) <= CHARACTERS_SHOWN else line[:kept] + gap + line[-kept:]


def grid_text(shape: Sequence[int]) -> str:
    """`56 x 56`: rows and columns."""
    return " x ".join(f"{n:,}" for n in shape)


def by_name_text(values: Mapping[str, object]) -> str:
    """`128; 64 of gmml`: the first one, and those that differ from it."""
    usual = next(iter(values.values()), "")
    return "; ".join([f"{usual}", *(f"{value} of {name}" for name, value in values.items() if value != usual)])


def probability_of(name: str) -> str:
    """The column of a class's probability in every file that has them: `p(benign)`."""
    return f"p({name})"


def mean_count_text(mean: float) -> str:
    """`3`, or `2.5` where a mean over heads is no whole number."""
    return f"{mean:,.1f}".removesuffix(".0")


def what_outlines_are(tolerance: float) -> str:
    """What scores of outlines mean, under a table that has them."""
    return (
        "HD95: how far apart the outlines of mask and prediction are, in pixels, at the 95th percentile; lower is "
        "better. It is a mean over images with the class in both. Images in which it is missed or invented have no "
        "HD95 and are counted, as a mean over heads. Boundary Dice: the share of both outlines that is within "
        f"{tolerance:g} pixels of the other one; 0 where the class is missed or invented. Images with the class in "
        "neither take no part."
    )


def p_text(p: float) -> str:
    """A p value as three decimals tell it: `< 0.001`, `0.012`, `> 0.999`."""
    return "< 0.001" if p < 0.0005 else "> 0.999" if p > 0.9995 else f"{p:.3f}"


def number_text(value: float, digits: int = 3, *, signed: bool = False, undefined: str = "undefined") -> str:
    """`0.815`, `+0.015`, and a word where there is no number."""
    return undefined if math.isnan(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def ends_text(interval: Interval, digits: int = 3, *, signed: bool = True) -> str:
    """`-0.004 to +0.034`; nothing where there is no interval."""
    ends = (number_text(end, digits, signed=signed) for end in (interval.low, interval.high))
    return "" if math.isnan(interval.low) else " to ".join(ends)


def difference_text(
    difference: Interval, digits: int = 3, *, named: str = "", without: str = "", signed: bool = True
) -> str:
    """`+0.015 (-0.004 to +0.034)`, or any other estimate and its interval.

    `named`, such as `95% CI`, stands before the ends, and `without` in place of an interval that there is not.
    """
    estimate = number_text(difference.estimate, digits, signed=signed)
    ends = ends_text(difference, digits, signed=signed)
    inside = f"{named} {ends}".strip() if ends else without
    return f"{estimate} ({inside})" if inside else estimate


def spread_text(score: Spread) -> str:
    """`0.815 ± 0.012`; the mean alone where there is no spread."""
    return f"{score.mean:.3f}" if math.isnan(score.std) else f"{score.mean:.3f} ± {score.std:.3f}"


def amount_text(amount: Amount) -> str:
    """`120`, `≥ 1,200`, or `?`."""
    if math.isnan(amount.value):
        return "?"
    return {"=": "", ">=": "≥ ", "<=": "≤ "}[amount.relation] + f"{round(amount.value):,}"  # no -0


def saved_text(saved: LabelsSaved | None) -> str:
    """`120 (80 to ≥ 400)`; nothing where it was not asked."""
    if saved is None:
        return ""
    if math.isnan(saved.low.value) and math.isnan(saved.high.value):
        return f"{amount_text(saved.estimate)} (no interval)"
    return f"{amount_text(saved.estimate)} ({amount_text(saved.low)} to {amount_text(saved.high)})"


def together_text(backbones: Sequence[str]) -> str:
    """The one backbone, or `3 together`."""
    return backbones[0] if len(backbones) == 1 else f"{len(backbones)} together"
