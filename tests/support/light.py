"""Heads that are quick to fit, by the names that a user would type: how good they are is not what is tested."""

from __future__ import annotations

from dvme.heads import CONTROLS

RIVALS = ("linear", *CONTROLS)
"""What a study puts beside a fusion by attention."""
_EXACT = ("linear", "concat", "mean-logits")


def light(*heads: str) -> list[str]:
    """Two strengths of a logistic regression, two epochs of a network; knn as it is."""
    return [head + _settings(head) for head in heads]


def _settings(head: str) -> str:
    if head == "knn":
        return ""
    return "@strengths=0.001:0.1" if head in _EXACT else "@max-epochs=2@min-epochs=1"


def spelled(*heads: str) -> str:
    """The same, as the option --head takes them."""
    return ",".join(light(*heads))
