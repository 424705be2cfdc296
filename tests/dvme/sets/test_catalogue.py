from __future__ import annotations

import inspect
from importlib import import_module

import pytest

import dvme
from dvme.errors import UnknownNameError
from dvme.sets.catalogue import SETS, PublicSet, set_of
from dvme.sets.families import COLLECTIONS, ISIC, KERMANY, NIH


@pytest.mark.parametrize("each", SETS, ids=lambda each: each.name)
def test_set__has_its_module_and_all_facts(each: PublicSet) -> None:
    published = import_module(f"dvme.sets.{each.name.replace('-', '_')}").published
    assert next(iter(inspect.signature(published).parameters)) == "unpacked"
    assert set_of(each.name) is each
    assert each.n_images > 0
    assert each.n_patients is None or 0 < each.n_patients <= each.n_images
    assert each.published.startswith("https://")
    assert min(map(len, (each.title, each.task, each.size, each.licence))) > 3
    assert {*each.collections} <= {known.name for known in COLLECTIONS}


def test_sets__have_names_of_their_own() -> None:
    assert len({each.name for each in SETS}) == len(SETS)
    assert dvme.public_sets() == SETS


def test_shares_with__as_the_collections_say() -> None:

    of_nih = {
        "ChestMNIST",
        "the RSNA pneumonia challenge",
        "the SIIM-ACR pneumothorax challenge",
        "the labels of Google 2019",
    }
    assert {*set_of("nih-cxr14").shares_with} == of_nih
    assert {*set_of("google2019").shares_with} == of_nih - {"the labels of Google 2019"} | {NIH}
    assert set_of("chexpert").shares_with == set_of("padchest").shares_with == set_of("vindr").shares_with == ()
    assert set_of("nih-cxr14").to_json()["shares_with"] == [*set_of("nih-cxr14").shares_with]


def test_set_of__another_name() -> None:
    with pytest.raises(UnknownNameError, match=r"no public set 'chexprt'; did you mean chexpert\?"):
        set_of("chexprt")
    with pytest.raises(UnknownNameError, match="no public set 'x'; there are nih-cxr14, google2019, "):
        set_of("x")


def test_shares_with__of_several_sets_all_that_any_shares_with() -> None:
    assert set_of("montgomery").shares_with == set_of("shenzhen").shares_with == ("TBX11K",)
    assert set_of("kermany-pneumonia").shares_with == ("PneumoniaMNIST",)
    assert set_of("isic").shares_with == ("DermaMNIST",)
    medmnist = {*set_of("medmnist").shares_with}
    assert medmnist == {*set_of("nih-cxr14").shares_with, NIH, KERMANY, ISIC} - {"ChestMNIST"}
