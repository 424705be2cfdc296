"""What each task learns from, against slow or hand-worked values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dvme.adaptation.restoring import HIDDEN, patches_of
from dvme.adaptation.start import Begun
from dvme.adaptation.tasks import task_of
from dvme.adaptation.views import augmented
from dvme.errors import DataError, OptionError
from dvme.training.augmentations import AUGMENTATIONS

Begin = Callable[..., Begun]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_contrast__sends_both_views_through_the_backbone_at_once(begin_on: Begin) -> None:
    begun = begin_on()
    task, model, shapes = begun.adaptation.task, begun.model.train(), list[tuple[int, ...]]()
    model.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    order = task.order(rng())
    assert (order[:, 0] == order[:, 1]).all()
    assert sorted(order[:, 0].tolist()) == list(range(20))
    before = model.network.bn1.running_mean.clone()
    value = task.loss(model, order[:6], rng())
    assert shapes == [(12, 3, 32, 32)]
    assert not torch.equal(before, model.network.bn1.running_mean), "statistics are updated"
    assert value.item() > 0.0
    assert value.requires_grad


def test_contrast__holds_no_images_of_a_group_against_each_other(begin_on: Begin) -> None:
    begun = begin_on(method="micle")
    task, groups = begun.adaptation.task, begun.images.groups
    order = task.order(rng())
    assert (groups[order[:, 0]] == groups[order[:, 1]]).all()
    assert (order[:, 0] != order[:, 1]).all(), "every group has two images"
    own = order[groups[order[:, 0]] == 0]
    assert len(own) == 2
    assert task.loss(begun.model.train(), own, rng()).item() == 0.0, "and without others there is nothing to tell apart"


def test_labels__are_those_of_the_training_part_and_begin_with_a_new_classifier(begin_on: Begin) -> None:
    begun = begin_on(method="supervised")
    task: Any = begun.adaptation.task
    order = task.order(rng())
    is_train = begun.images.parts == "train"
    assert sorted(order[:, 0].tolist()) == list(range(is_train.sum()))
    assert task.head.out_features == 2
    with torch.no_grad():
        for value in task.head.parameters():
            value.zero_()
        assert task.loss(begun.model, order, rng()).item() == pytest.approx(math.log(2.0), abs=1e-6)
        task.head.bias[:] = torch.tensor([0.0, 1.0])
        share = float((begun.images.labels[is_train] == "b").mean())
        expected = math.log(1.0 + math.e) - share
        assert task.loss(begun.model, order, rng()).item() == pytest.approx(expected, abs=1e-6)


def test_restoring__takes_the_patches_of_a_transformer_and_refuses_others(begin_on: Begin) -> None:
    begun = begin_on("timm:test_vit@size=64", method="gmml")
    assert patches_of(begun.model) == (16, 4)
    task = begun.adaptation.task
    assert task.order(rng()).shape == (20, 1)
    value = task.loss(begun.model.train(), task.order(rng())[:5], rng())
    assert math.isfinite(value.item())
    value.backward()
    assert begun.model.network.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert HIDDEN == (0.5, 0.75)
    with pytest.raises(OptionError, match=r"test_resnet@size=32 is none; name a vision transformer"):
        begin_on(method="gmml")


def test_task_of__refuses_labels_that_tell_nothing_apart(begin_on: Begin) -> None:
    begun = begin_on(method="supervised")
    images, task = begun.images, begun.adaptation.task
    given = task._pictures, begun.settings, AUGMENTATIONS["photo"], begun.model
    images.labels[:] = "a"
    with pytest.raises(DataError, match="all 16 labelled images are 'a'"):
        task_of(images, *given)
    images.labels[images.parts != "val"] = ""
    with pytest.raises(DataError, match="no image that is trained on has a label"):
        task_of(images, *given)


def test_augmented__gives_each_image_numbers_of_its_own(begin_on: Begin) -> None:
    pictures: Any = begin_on().adaptation.task._pictures
    rows, device = np.array([3, 3]), torch.device("cpu")
    views = augmented(pictures, rows, AUGMENTATIONS["xray"], rng(), device)
    assert views.shape == (2, 3, 32, 32)
    assert not torch.equal(views[0], views[1])
    assert torch.equal(views, augmented(pictures, rows, AUGMENTATIONS["xray"], rng(), device))
