from __future__ import annotations

import numpy as np
import pytest

from dvme.errors import OptionError
from dvme.heads import Head, get_head
from dvme.heads.exact.linear import Linear
from dvme.study.methods import make_methods, method_notices
from dvme.study.methods import test_units as units_of_test

BOTH = ("a", "b")
RIVALS = [("linear", ("a",)), ("linear", ("b",))]
CONTROLS = [(name, BOTH) for name in ("dvme-noattn", "mlp", "concat", "mean-logits")]


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (["dvme"], [*RIVALS, ("dvme", BOTH), *CONTROLS]),
        (["dvme-tokens"], [*RIVALS, ("dvme-tokens", BOTH), *CONTROLS]),
        (["knn", "dvme"], [*RIVALS, ("knn", ("a",)), ("knn", ("b",)), ("dvme", BOTH), *CONTROLS]),
        (["concat"], [("concat", BOTH)]),
        (["linear"], RIVALS),
    ],
)
def test_make_methods__attention_brings_its_rivals(heads: list[str], expected: list[object]) -> None:
    made = make_methods(heads, BOTH, with_controls=True)
    assert sorted((method.head.name, method.backbones) for method in made) == sorted(expected)
    assert all(method.head == get_head(method.head.name) for method in made)
    alone = make_methods(heads, BOTH, with_controls=False)
    assert {method.head.name for method in alone} == set(heads)


def test_make_methods__a_named_rival_keeps_its_settings_and_the_others_their_defaults() -> None:
    heads = {
        method.head.name: method.head for method in make_methods(["dvme", Linear((1.0,))], BOTH, with_controls=True)
    }
    assert heads["linear"] == Linear((1.0,))
    assert heads["concat"] == get_head("concat")
    assert heads["mlp"] == get_head("mlp")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["knn@k=5", "knn"], "knn is named twice with different settings; a study has each head once"),
        ([Linear((1.0,)), "linear"], "linear is named twice"),
        ([], "no head is named"),
        ([3], "3 is no head; pass a name such as 'linear'"),
    ],
)
def test_make_methods__refused(heads: list[str | Head], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_methods(heads, BOTH, with_controls=False)


def test_method_notices__settings_that_differ() -> None:
    made = make_methods(["linear", "knn@k=5:20", "dvme@max-epochs=7"], BOTH, with_controls=False)
    assert method_notices(made) == ["settings that differ from the defaults: knn@k=5:20, dvme@max-epochs=7"]
    assert method_notices(make_methods(["linear", "dvme"], BOTH, with_controls=False)) == []


@pytest.mark.parametrize(
    ("counts", "per_group", "line"),
    [
        ((10, 12), 0, "95% CI: over 22 test images"),
        ((30, 10), 2, "95% CI: over 20 test groups; few of a class: 'b' has 5 test groups, so differences hardly show"),
        ((3, 9), 0, "95% CI: over 12 test images; few of a class: 'a' has 3 test images, 'b' has 9 test images, so"),
        ((20, 2), 0, "no interval and no verdict: 'b' has 2 test images, and it takes 3 of every class"),
        ((20, 1), 0, "no interval and no verdict: 'b' has 1 test image, and it takes 3 of every class"),
        ((20, 4), 2, "no interval and no verdict: 'b' has 2 test groups, and it takes 3 of every class"),
        ((0, 20), 0, "95% CI: over 20 test images"),
    ],
)
def test_test_units__a_line_says_what_is_independent(counts: tuple[int, int], per_group: int, line: str) -> None:
    labels = np.repeat([0, 1], counts)
    named = [f"p{row // per_group}" if per_group else "" for row in range(len(labels))]
    units, said = units_of_test(labels, np.array(named, dtype=object), ("a", "b"))
    assert said.startswith(line)
    assert (units.n, units.groups is None) == (len(labels) // max(1, per_group), not per_group)
