"""Whether a frozen backbone is enough, in words: fine-tuning against all that learns from cached embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dvme.heads.tuned.finetune import RANDOM, SCRATCH_HEAD
from dvme.segmentation.unet.head import RANDOM as RANDOM_UNET
from dvme.stats.curves import Amount, Crossing, crossing
from dvme.stats.folds import two_sample_t
from dvme.study.answers import Difference, Finding
from dvme.study.wording import Table, judged, p_value
from dvme.text import FROZEN, counted

CONTROLS = (SCRATCH_HEAD, RANDOM, RANDOM_UNET)
"""Of fine-tuning."""


def is_frozen_enough(table: Table) -> tuple[Finding, Crossing | None, list[Difference]] | None:
    """The answer, where curves cross, and the differences that it rests on; None where nothing was fine-tuned, or all.

    What is fine-tuned has to beat every frozen method, fusions included, that cannot be told apart from the one that
    leads on validation.
    """
    roles, leaders = table.leaders.roles, table.leaders
    frozen = [m for m in range(len(roles.methods)) if m not in roles.tuned]
    lead = leaders.of([m for m in roles.tuned if roles.heads[m] not in CONTROLS])
    lead = leaders.of(roles.tuned) if lead is None else lead
    shown = None if lead is None else table.judge.standing.against(lead, frozen, leaders.size)
    if lead is None or shown is None:
        return None
    found = _crossing(table, lead, shown.leader)
    details = [
        table.against(lead, "the fine-tuned method", "frozen method", shown),
        *_by_size(table, lead, frozen),
        *([] if found is None else [_crossing_text(table, shown.leader, found)]),
        *_controls(table, lead),
        _cost(table, lead, shown.leader),
        *_as_published(table, lead, shown.leader),
    ]
    differences = [table.difference(lead, rival) for rival in shown.rivals]
    answer = table.answered(FROZEN, shown, details, "fine-tuning", "frozen methods", ("No", "Yes"))
    return answer, found, differences


def overtakes(found: Crossing, rival: str) -> str:
    """Where the curve of fine-tuning crosses that of a rival, with the interval."""
    ends = f"95% CI {_bound(found.low)} to {_bound(found.high)}"
    n = f"{found.estimate.value:,.0f}"
    if found.estimate.relation == ">=":
        return f"Fine-tuning is below {rival} up to {n} training images ({ends})"
    if found.estimate.relation == "<=":
        return f"Fine-tuning is not below {rival} at any size, from {n} training images on ({ends})"
    return f"Fine-tuning overtakes {rival} at about {n} training images ({ends})"


def _places(table: Table) -> Mapping[float, int]:
    """Sizes by their training images, rising; of equal ones the last."""
    return dict(sorted({column.n_train: size for size, column in enumerate(table.judge.columns())}.items()))


def _by_size(table: Table, method: int, frozen: list[int]) -> list[str]:
    """What is shown at each size, where there are several."""
    places = _places(table)
    if len(places) < 2:
        return []
    words: dict[str, list[str]] = {}
    for n, size in places.items():
        against = table.judge.standing.against(method, frozen, size)
        words.setdefault("no test" if against is None else against.word, []).append(f"{n:,.0f}")
    said = "; ".join(f"{word} with {', '.join(sizes)}" for word, sizes in words.items())
    return [f"By the number of training images: {said}."]


def _crossing(table: Table, method: int, rival: int) -> Crossing | None:
    """Of the curves of both, over the sizes."""
    places = _places(table)
    if len(places) < 2:
        return None
    both = [(m, size) for m in (method, rival) for size in places.values()]
    means, many = [table.judge.scored[place].estimate for place in both], table.judge.elsewhere(both)
    n = len(places)
    gaps = [own - other for own, other in zip(means[:n], means[n:], strict=True)]
    found = crossing(list(places), gaps, resampled=many[:, :n] - many[:, n:])
    if math.isnan(found.estimate.value) or math.isnan(found.low.value):
        return None
    # Where the gap falls with more labels, or ends below 0, nothing is overtaken, whatever the monotone curve says.
    is_overtaking = gaps[-1] >= max(gaps[0], 0.0)
    is_below = max(gaps) < 0.0
    return found if is_overtaking or is_below else None


def _crossing_text(table: Table, rival: int, found: Crossing) -> str:
    name = table.name(rival)
    if found.low.relation == "<=" and found.high.relation == ">=":
        return f"From how many labels on it overtakes {name} is too uncertain to say."
    return f"{overtakes(found, name)}."


def _bound(amount: Amount) -> str:
    words = {"=": "", "<=": "at most ", ">=": "more than "}
    return f"{words[amount.relation]}{amount.value:,.0f}"


def _controls(table: Table, method: int) -> list[str]:
    """The method less its controls on the same backbone."""
    roles = table.leaders.roles
    own = [m for m in roles.tuned if roles.heads[m] in CONTROLS and roles.methods[m][1] == roles.methods[method][1]]
    some = [f"{roles.methods[m][0]} {_without_name(table.difference(method, m))}" for m in own if m != method]
    return [f"Less its controls: {'; '.join(some)}."] if some else []


def _without_name(each: Difference) -> str:
    return judged(each).removeprefix(f"{each.name} ")


def _cost(table: Table, method: int, rival: int) -> str:
    judge, size = table.judge, table.leaders.size
    seconds = [judge.seconds(m, size) for m in (method, rival)]
    n_fits = len(judge.finished[method, size])
    return (
        f"{counted(n_fits, 'fit')} of this size took {_time(seconds[0])}, of {table.name(rival)} {_time(seconds[1])}."
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 600 else f"{seconds:,.1f} s"


def _as_published(table: Table, method: int, rival: int) -> list[str]:
    """The test that Taher et al. 2021 report, beside what it leaves out."""
    size = table.leaders.size
    runs = [table.judge.scored[m, size].folds for m in (method, rival)]
    if len(runs[0]) < 2 or table.judge.is_one_draw[size]:
        return []
    found = two_sample_t(*runs)
    said = (
        f"The independent two-sample t-test over {len(runs[0])} draws, which papers report, has{p_value(found.p)[1:]}"
    )
    return [f"{said}; it knows nothing of the luck of the test images."] if p_value(found.p) else []
