"""How a message of one line counts things, and names the first few of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

CHARACTERS_SHOWN = 200
EXAMPLES, NAMES, CHOICES = 3, 10, 20
"""How many are named of a fault's places, of what is listed for its own sake, and of the things to choose from."""
METRIC_NAMES: Mapping[str, str] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "quadratic kappa",
}
"""What a metric is called in a sentence."""
SINGLE, CONTROL = "single backbone", "control"
"""What a fusion is against, as a role."""
MARKS = (
    "* leads on validation; = not told apart from it; + better; no mark: worse; ? no test could be made. "
    "Crossed test over heads and test images, 5% over the whole table."
)
"""What the marks of a table of methods mean."""

METRIC_NAMES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "kappa": "quadratic kappa",
}
"""What metrics are called in a sentence."""
WORDS = ("gain", "loss", "no gain shown", "no test")
"""What may be said of one method less another."""

NO_GROUPS = (
    "No image has a group: images of one patient may be on both sides of the split. dvme extract --group-col and "
    "dvme cache label --group-col name the column of patients."
)
"""A line for studies without groups."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`; with a plural where an s is not enough: `1 entry`, `2 entries`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def first_few(values: Iterable[object], at_most: int = EXAMPLES) -> str:
    """`a, b, c, ...`: the first ones, each cut at 200 characters, on one line."""
    found = [" ".join(str(value).split())[:CHARACTERS_SHOWN] for value in islice(values, at_most + 1)]
    return ", ".join(found[:at_most]) + (", ..." if len(found) > at_most else "")


def some_of(values: Sequence[object], at_most: int = NAMES, joint: str = ", ") -> str:
    """`a, b, c and 290 more`: the first ones, on one line, and how many there are beside them."""
    shown = [" ".join(str(value).split())[:CHARACTERS_SHOWN] for value in values[:at_most]]
    more = len(values) - len(shown)
    return joint.join(shown) + (f" and {more:,} more" if more else "")


def probability_of(name: str) -> str:
    """The column of a class's probability in every file that has them: `p(benign)`."""
    return f"p({name})"


def p_text(p: float) -> str:
    """A p value as three decimals tell it: `< 0.001`, `0.012`, `> 0.999`."""
    return "< 0.001" if p < 0.0005 else "> 0.999" if p > 0.9995 else f"{p:.3f}"
