"""Heads that are quick to fit, by the names that a user would type: how good they are is not what is tested."""

from __future__ import annotations

from dvme.heads import CONTROLS

RIVALS = ("linear", *CONTROLS)
"""What a study puts beside a fusion by attention."""
_EXACT = ("linear", "concat", "mean-logits")


def named(head: str) -> str:
    """The light head's name, which has its settings: two strengths of a logistic regression, two epochs of a network.

    It is what a user types, and what a table, a verdict and a run call the head; knn is as it is.
    """
    if head == "knn":
        return head
    return f"{head}@strengths=0.001:0.1" if head in _EXACT else f"{head}@min-epochs=1@max-epochs=2"


def light(*heads: str) -> list[str]:
    """The names of light heads."""
    return [named(head) for head in heads]


def spelled(*heads: str) -> str:
    """The same, as the option --head takes them."""
    return ",".join(light(*heads))


def filed(head: str, backbones: str) -> str:
    """The folder of a saved light head: its name and its backbones, written so that every file system takes them."""
    return f"{named(head).replace(':', '%3A')}--{backbones}"
