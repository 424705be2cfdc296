from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from dvme.errors import OptionError, UnknownNameError
from dvme.heads import SEGMENT, get_head, written
from dvme.segmentation.heads import FACTORIES, full_name, head_of, token_head


def test_segment__names_are_those_of_the_heads() -> None:
    assert tuple(FACTORIES) == SEGMENT


@pytest.mark.parametrize("name", SEGMENT)
def test_token_head__names_are_read_back(name: str) -> None:
    head = token_head(name)
    assert (head.name, full_name(head)) == (name, name)
    assert head_of(name, json.loads(json.dumps(written(asdict(head))))) == head  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "name",
    [
        "segment-linear@tokens=512@strengths=0.01:0.1",
        "segment-knn@k=5:9",
        "segment-dvme@max-epochs=4@tokens=64",
        "segment-concat@strengths=0.1",
    ],
)
def test_token_head__settings_are_in_the_name(name: str) -> None:
    head = token_head(name)
    assert set(full_name(head).split("@")) == set(name.split("@"))
    assert token_head(full_name(head)) == head


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linear", "linear classifies images, and this is a segmentation; choose from segment-linear, "),
        ("finetune", "finetune classifies images.*, segment-conv, unet, unet-random"),
        ("segment-lniear", r"unknown head of segmentation 'segment-lniear'; did you mean 'segment-linear'\? choose "),
    ],
)
def test_token_head__refuses_other_names_with_a_line(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        token_head(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segment-linear@tokens=0", "tokens 0 is not possible; it must be a whole number, 1 or more"),
        ("segment-linear@tokens=many", "tokens=many is not possible; it must be a whole number"),
        ("segment-linear@link=cumulative", "leave out link and tune of segment-"),
        ("segment-concat@tune=kappa", "leave out link and tune of segment-"),
        ("segment-linear@layers=3", "no setting 'layers'; choose from "),
    ],
)
def test_token_head__refuses_settings_with_a_line(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as told:
        token_head(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", SEGMENT)
def test_get_head__of_classification_refuses_segmentation(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{name} segments images by masks, and here they have labels; choose"):
        get_head(name)
