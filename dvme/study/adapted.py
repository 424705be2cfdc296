"""Whether a backbone that was adapted to images of one's own is better than what it was made of, in words."""

from __future__ import annotations

from dvme.study.answers import Difference, Finding
from dvme.study.wording import Table, judged
from dvme.text import ADAPTED


def did_adapting_help(table: Table) -> tuple[Finding, list[Difference]] | None:
    """The answer, and the differences that it rests on; None where no adapted backbone stands beside its origin.

    An adapted backbone has to beat every method on its origin that cannot be told apart from the one that leads there
    on validation. Of several adapted backbones the one that leads on validation is asked about; the others are shown.
    """
    roles, leaders, judge = table.leaders.roles, table.leaders, table.judge
    by_backbone: dict[str, list[int]] = {}
    for m in roles.singles:
        by_backbone.setdefault(judge.methods[m][1][0], []).append(m)
    pairs = {name: origin for name, origin in judge.origins.items() if name in by_backbone and origin in by_backbone}
    found = {}
    for name, origin in pairs.items():
        lead = leaders.of(by_backbone[name])
        shown = None if lead is None else judge.standing.against(lead, by_backbone[origin], leaders.size)
        if lead is not None and shown is not None:
            found[lead] = shown
    first = leaders.of(list(found))
    if first is None:
        return None
    shown, others = found[first], [m for m in found if m != first]
    details = [table.against(first, "the adapted backbone", "method on its origin", shown)]
    if others:
        each = "; ".join(judged(table.difference(m, found[m].hardest)) for m in others)
        details.append(f"The other adapted backbones, minus the hardest method on their origin: {each}.")
    answer = table.answered(ADAPTED, shown, details, "adapting", "methods on the origin", ("Yes", "No"))
    differences = [table.difference(m, rival) for m, own in found.items() for rival in own.rivals]
    return answer, differences
