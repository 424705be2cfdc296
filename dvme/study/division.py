"""How the jobs of a study are divided: into bundles that are fitted together, and bundles among parts or workers.

A bundle is what shares work: the jobs of one draw of an exact head or of `knn`, and an ensemble with its members. A
network that fuses is a bundle of its own, for it takes longest by far and gains nothing from company. Bundles and parts
depend on the study alone, not on what is finished, so that parts never meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dvme.heads import ATTENTION_HEADS, Head
from dvme.heads.exact.linear import Linear
from dvme.heads.fitting.jobs import Ensemble, Job
from dvme.heads.fusion.controls import Concat
from dvme.heads.fusion.network_head import NETWORKS, NetworkHead
from dvme.heads.fusion.networks import count_parameters
from dvme.heads.tuned.finetune import Finetune
from dvme.study.fitting import Assignment
from dvme.study.methods import Method
from dvme.training.recipe import resolved
from dvme_cache.parts import Part

Kind = tuple[Head, tuple[str, ...]]
EPOCHS = 40
STEP, WITH_ATTENTION, SOLUTION, SIMILARITY = 6, 12, 1500, 2
"""Operations, each for about as long as the others: for a parameter and image of an epoch; for a value of an image,
class and strength of a logistic regression; for a value of a pair of images. Measured on one core they hold within a
factor of 3 for the heads that take longest, and of 12 for `knn` and `linear-adam`, which take seconds."""
PASS = 10**9
"""For an image forth and back through a backbone, of which nothing is known here: more than any head."""


def bundles(assignments: Sequence[Assignment], dims: Mapping[str, int], n_classes: int) -> list[list[int]]:
    """Positions of the assignments that are fitted together, the bundle that takes longest first.

    Args:
        assignments: J.
        dims: D_m of each backbone.
        n_classes: C, or L.
    """
    family = _families([each.method for each in assignments])
    found: dict[tuple[int, ...], list[int]] = {}
    for position, each in enumerate(assignments):
        head = each.method.head
        is_alone = isinstance(head, Finetune) or (isinstance(head, NetworkHead) and head.is_fusion)
        key = (family[position], each.seed, position) if is_alone else (family[position], each.seed)
        found.setdefault(key, []).append(position)
    costs = {key: cost([assignments[position] for position in own], dims, n_classes) for key, own in found.items()}
    return [found[key] for key in sorted(found, key=lambda key: (-costs[key], found[key]))]


def of_part(assignments: Sequence[Assignment], dims: Mapping[str, int], n_classes: int, part: Part) -> set[int]:
    """Positions of the assignments that are a part's: each bundle, the longest first, goes to who has the least yet."""
    loads, own = np.zeros(part.n_parts), set[int]()
    for bundle in bundles(assignments, dims, n_classes):
        least = int(loads.argmin())
        loads[least] += cost([assignments[position] for position in bundle], dims, n_classes)
        if least == part.number - 1:
            own.update(bundle)
    return own


def cost(bundle: Sequence[Assignment], dims: Mapping[str, int], n_classes: int) -> float:
    """About how long a bundle takes, in operations: which of two takes longer, and whether by far."""
    fits = {
        (kind, len(each.train)): _operations(*kind, len(each.train), len(each.validation), dims, n_classes)
        for each in bundle
        for kind in _made_of(each.method)
    }
    return float(sum(fits.values()))


def _operations(
    head: Head, backbones: Sequence[str], n_rows: int, n_validation: int, dims: Mapping[str, int], n_classes: int
) -> int:
    """Of one fit."""
    own = [dims[name] for name in backbones]
    if isinstance(head, NetworkHead):
        step = WITH_ATTENTION if head.name in ATTENTION_HEADS else STEP
        n_parameters = count_parameters(NETWORKS[head.name].shapes(own, n_classes))
        return step * min(EPOCHS, head.protocol.max_epochs) * n_parameters * n_rows
    if isinstance(head, Finetune):
        recipe = resolved(head.recipe, n_rows, is_transformer=False)
        return PASS * len(recipe.learning_rates) * recipe.max_epochs * n_rows
    linear = head.linear if isinstance(head, Concat) else head
    if isinstance(linear, Linear):
        return SOLUTION * len(linear.strengths) * n_classes * min(n_rows, sum(own)) * n_rows
    return SIMILARITY * sum(own) * n_rows * max(1, n_validation)


def _families(methods: Sequence[Method]) -> list[int]:
    """For each method the number of its family: those that are, or are made of, the same fits."""
    known: dict[Kind, int] = {}
    merged: dict[int, int] = {}
    made_of = [_made_of(method) for method in methods]
    for kinds in made_of:
        there = {_root(merged, known[kind]) for kind in kinds if kind in known}
        number = min(there, default=len(merged))
        merged.setdefault(number, number)
        merged |= dict.fromkeys(there, number)
        known |= dict.fromkeys(kinds, number)
    return [_root(merged, known[kinds[0]]) for kinds in made_of]


def _root(merged: Mapping[int, int], number: int) -> int:
    while merged[number] != number:
        number = merged[number]
    return number


def _made_of(method: Method) -> list[Kind]:
    """The single fits of a method, on whatever rows."""
    if not isinstance(method.head, Ensemble):
        return [(method.head, method.backbones)]
    rows = np.zeros(0, dtype=np.int64)
    members = method.head.members(Job(method.head, method.backbones, rows, rows))
    return [(member.head, member.backbones) for member in members]
