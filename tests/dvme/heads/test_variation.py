from __future__ import annotations

from dataclasses import asdict, dataclass

import pytest

from dvme.errors import OptionError, UnknownNameError
from dvme.heads import HEADS, full_name, get_head, needs_order, written
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.training.schedule import TrainingProtocol


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear@strengths=0.001:1", Linear((1e-3, 1.0))),
        ("concat@strengths=2", Concat(Linear((2.0,)))),
        ("mean-logits@strengths=0.5", MeanLogits(Linear((0.5,)))),
        ("knn@k=7:3", KNN((7, 3))),
        ("knn@search=ivf", KNN(search="ivf")),
        (
            "dvme@max-epochs=2@learning-rate=1e-4@sampling=shuffled@min-epochs=1",
            NetworkHead("dvme", TrainingProtocol(max_epochs=2, min_epochs=1, learning_rate=1e-4, sampling="shuffled")),
        ),
    ],
)
def test_get_head__settings_in_the_name_and_back(text: str, expected: object) -> None:
    head = get_head(text)
    assert head == expected
    assert get_head(full_name(head)) == head
    assert full_name(head).count("@") == text.count("@")  # nothing but what differs


@pytest.mark.parametrize("name", HEADS)
def test_get_head__a_bare_name_is_the_default(name: str) -> None:
    assert full_name(get_head(name)) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear@epochs=5", "linear has no setting 'epochs'; choose from strengths"),
        ("knn@name=5", "knn has no setting 'name'; choose from k"),
        (
            "dvme@epochs=5",
            r"dvme has no setting 'epochs'; did you mean 'min-epochs' or 'max-epochs'\? choose from learn",
        ),
        ("linear@strength=1", r"linear has no setting 'strength'; did you mean 'strengths'\?"),
        ("dvme@max-epochs=many", "max-epochs=many is not possible; it must be a whole number"),
        ("dvme@learning-rate=fast", "learning-rate=fast is not possible; it must be a number"),
        ("dvme@max-epochs=0", "dvme@max-epochs=0: max_epochs 0 is not possible"),
        ("knn@k=5:x", "k=5:x is not possible; it must be whole numbers separated by colons"),
        ("knn@k=0", "knn@k=0: neighbours 0 is not possible"),
        ("knn@k", "knn@k: 'k' is not SETTING=VALUE"),
        ("knn@k=5@k=6", "knn@k=5@k=6 says k twice"),
    ],
)
def test_get_head__settings_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        get_head(text)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("forest@trees=5", "choose from linear, .*, segment-conv, unet, unet-random$"),
        ("Linaer", "did you mean 'linear'"),
        ("u-net", "did you mean 'unet'"),
        ("conv", "did you mean 'segment-conv'"),
        ("fine-tune", "did you mean 'finetune'"),
        ("20", "several values are separated by colons"),
    ],
)
def test_get_head__an_unknown_head(name: str, step: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown head '{name.partition('@')[0]}'; .*{step}"):
        get_head(name)


def test_get_head__a_field_goes_by_its_own_name_too() -> None:
    assert get_head("knn@neighbours=5") == KNN((5,))
    assert get_head("dvme@max_epochs=50") == get_head("dvme")


@dataclass(frozen=True)
class Mine(KNN):
    gamma: float = 0.5


def test_full_name__of_a_head_that_dvme_does_not_know() -> None:
    assert full_name(Mine()) == "knn"
    assert full_name(Mine(name="mine")) == "mine"


def test_written__settings_of_before_are_what_they_were() -> None:
    assert set(written(asdict(get_head("linear")))) == {"strengths", "name", "is_fusion"}
    assert set(written(asdict(get_head("concat")))["linear"]) == {"strengths", "name", "is_fusion"}
    assert "search" not in written(asdict(get_head("knn")))
    assert written(asdict(get_head("linear@link=cumulative")))["link"] == "cumulative"
    assert written(asdict(get_head("knn@search=exact")))["search"] == "exact"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("linear", False),
        ("knn", False),
        ("knn@search=ivf", False),
        ("concat@link=cumulative", True),
        ("linear@tune=kappa", True),
        ("linear@link=cumulative@tune=kappa", True),
    ],
)
def test_needs_order__is_asked_of_settings(name: str, needs: bool) -> None:
    assert needs_order(get_head(name)) is needs
    assert full_name(get_head(name)) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linear@link=probit", "link 'probit' is not known; choose from softmax, cumulative"),
        ("linear@tune=f1", "tune 'f1' is not known; choose from argmax, kappa"),
        ("mean-logits@tune=kappa", "no cuts of its own to tune"),
        ("knn@link=cumulative", "knn has no setting 'link'"),
    ],
)
def test_get_head__what_no_link_or_cut_is(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        get_head(name)
