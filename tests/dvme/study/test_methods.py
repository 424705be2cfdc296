from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dvme.data import Task
from dvme.errors import OptionError
from dvme.heads import Head, get_head
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.study.methods import check_cuts, check_order, make_methods, method_notices, sampled

BOTH = ("a", "b")
RIVALS = [("linear", ("a",)), ("linear", ("b",))]
CONTROLS = [(name, BOTH) for name in ("dvme-noattn", "mlp", "concat", "mean-logits")]


@dataclass(frozen=True)
class _Own:
    """A user's head, never fitted here."""

    depth: int
    name: str = "own"
    is_fusion: bool = False
    revision: ClassVar[int] = 1


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


def test_make_methods__settings_stand_in_the_name() -> None:
    """So a head may be there with several; the same one twice is one method."""
    made = make_methods(["knn@k=5", "knn", KNN(neighbours=(5,)), Linear((1.0,)), _Own(3)], ("a",), with_controls=False)
    assert [method.name for method in made] == ["knn@k=5", "knn", "linear@strengths=1.0", "own"]
    assert [method.title for method in made][:2] == ["a + knn@k=5", "a + knn"]
    assert [method.settings for method in made][3] == {"depth": 3, "name": "own", "is_fusion": False}
    keys = [json.dumps(method.identity({"a": "digest of a"}), sort_keys=True) for method in made]
    assert len(set(keys)) == len(made)


def test_make_methods__knn_chooses_by_the_metric_of_the_study() -> None:
    """Unless it was told by which."""
    heads = ["knn", KNN(choose_by="accuracy"), "linear"]
    made = make_methods(heads, ("a",), with_controls=False, metric="kappa")
    assert [getattr(method.head, "choose_by", None) for method in made] == ["kappa", "accuracy", None]
    assert made[0].name == "knn"


@pytest.mark.parametrize("oversample", [None, True, False])
def test_sampled__only_heads_trained_by_minibatches(oversample: bool | None) -> None:
    made = make_methods(["linear", "dvme"], BOTH, with_controls=False)
    wanted = {None: "auto", True: "oversampled", False: "shuffled"}[oversample]
    linear, _, fusion = (sampled(method, oversample) for method in made)
    assert linear == made[0]
    assert isinstance(fusion.head, NetworkHead)
    assert (fusion.head.protocol.sampling, fusion.name) == (wanted, "dvme")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([_Own(1), _Own(2)], "own is named twice with different settings; a study has each name once"),
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
    alone = make_methods(["linear", "dvme", "concat"], ("a",), with_controls=False)
    assert method_notices(alone) == ["dvme, concat: one backbone is nothing to fuse; pass more backbones"]


@dataclass(frozen=True)
class _Nameless:
    name: str = "nameless"


def test_make_methods__a_dataclass_that_is_no_head_is_told_what_it_lacks() -> None:
    with pytest.raises(OptionError, match="is no head: it has no is_fusion and no revision"):
        make_methods([_Nameless()], ("a",), with_controls=False)  # type: ignore[list-item]


@dataclass(frozen=True)
class _OwnKNN(KNN):
    """A user's own, by the name of dvme's."""


def test_identity__a_head_of_another_class_is_another_job() -> None:
    """Its fields may be the same; what it does is not."""
    digests = {"a": "d"}
    (theirs,), (own,) = (make_methods([head], ("a",), with_controls=False) for head in (KNN(), _OwnKNN()))
    assert theirs.settings == own.settings
    assert theirs.identity(digests) != own.identity(digests)
    assert theirs.identity(digests)["head"]["kind"] == "KNN"
    odd = make_methods([KNN(neighbours=tuple(np.array([3, 5])))], ("a",), with_controls=False)
    assert odd[0].settings["neighbours"] == [3, 5]


@pytest.mark.parametrize("name", ["linear@link=cumulative", "concat@tune=kappa"])
def test_check_order__heads_that_go_by_an_order_nobody_gave(name: str) -> None:
    methods = make_methods([name], BOTH, with_controls=False)
    check_order(methods, Task.from_labels(["1", "2", "3"]), "c.zarr")
    check_order(methods, Task.from_labels(["mild", "none"]), "c.zarr")
    check_order(methods, Task.from_labels(["mild", "none", "severe"], ["none", "mild", "severe"]), "c.zarr")
    with pytest.raises(OptionError, match=f"{name} needs an order of the classes.*label c.zarr --class-order LOWEST"):
        check_order(methods, Task.from_labels(["mild", "none", "severe"]), "c.zarr")
    with pytest.raises(OptionError, match=f"{name} needs classes in order, and the findings of c.zarr have no order"):
        check_order(methods, Task.from_labels(["|Edema|", "|"]), "c.zarr")


def test_method_notices__validation_that_cuts_were_tuned_on() -> None:
    (line, _) = method_notices(make_methods(["linear", "linear@tune=kappa"], BOTH, with_controls=False))
    assert line.startswith("linear@tune=kappa: what images are taken for was tuned on the validation images")


def test_check_cuts__where_decisions_are_not_by_cuts() -> None:
    tuned = make_methods(["linear", "concat@tune=kappa"], BOTH, with_controls=False)
    check_cuts(tuned, is_asked_elsewhere=False)
    check_cuts(make_methods(["linear"], BOTH, with_controls=False), is_asked_elsewhere=True)
    with pytest.raises(OptionError, match=r"concat@tune=kappa: the cuts .* leave it out, or by, per and test"):
        check_cuts(tuned, is_asked_elsewhere=True)
