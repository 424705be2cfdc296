from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.data import Task
from dvme.errors import DataError, OptionError


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["100%", "33%", "0%", "67%"], ("0%", "33%", "67%", "100%")),
        (["10", "9", "1"], ("1", "9", "10")),
        (["2 severe", "10 worst", "1 mild"], ("1 mild", "2 severe", "10 worst")),
        (["1.5", "-2", "+1", "0.25"], ("-2", "0.25", "+1", "1.5")),
        (["dog", "Cat", "ant"], ("Cat", "ant", "dog")),
        (["10", "9", "none"], ("9", "10", "none")),
        (["1b", "1a"], ("1a", "1b")),
    ],
)
def test_from_labels__order_of_classes(labels: list[str], classes: tuple[str, ...]) -> None:
    assert Task.from_labels(labels).classes == classes
    assert Task.from_labels(labels[::-1]).classes == classes


def test_from_labels__counts_in_the_order_of_the_classes() -> None:
    task = Task.from_labels(["10", "9", "", "10", "", "10"])
    assert task == Task(classes=("9", "10"), counts=(1, 3), n_unlabelled=2)


def test_from_labels__numpy_column() -> None:
    task = Task.from_labels(np.array(["b", "a", "b"]))
    assert task == Task(classes=("a", "b"), counts=(1, 2), n_unlabelled=0)
    assert all(type(name) is str for name in task.classes)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([], "unlabelled"),
        (["", ""], "unlabelled"),
        (["a", "a", ""], "single-class"),
        (["a", "b"], "binary"),
        (["a", "b", "c"], "multiclass"),
    ],
)
def test_kind__by_number_of_classes(labels: list[str], kind: str) -> None:
    assert Task.from_labels(labels).kind == kind


def test_encode__by_hand() -> None:
    task = Task.from_labels(["10", "9", "9"])
    codes = task.encode(["9", "", "10", "9"])
    assert codes.tolist() == [0, -1, 1, 0]
    assert codes.dtype == np.int64


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.sampled_from(["", "0", "1", "10", "9", "cat", "33%", "-1"]), max_size=40))
def test_encode__decodes_to_the_labels(labels: list[str]) -> None:
    task = Task.from_labels(labels)
    assert [task.classes[code] if code >= 0 else "" for code in task.encode(labels)] == labels
    expected = Counter(labels)
    assert dict(zip(task.classes, task.counts, strict=True)) == {name: n for name, n in expected.items() if name}
    assert task.n_unlabelled == expected[""]


def test_check_trainable__no_labels() -> None:
    with pytest.raises(DataError, match="no image has a label"):
        Task.from_labels(["", ""]).check_trainable()


def test_check_trainable__one_class() -> None:
    with pytest.raises(DataError, match="all 2 labelled images are 'cat'; a task needs two classes"):
        Task.from_labels(["cat", "", "cat"]).check_trainable()


def test_check_trainable__two_classes() -> None:
    Task.from_labels(["cat", "dog"]).check_trainable()


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["1"] * 2 + ["0"] * 1508 + [""] * 3, "binary, 2 classes: 0 (1,508), 1 (2); 3 unlabelled"),
        (["c", "b", "a"], "multiclass, 3 classes: a (1), b (1), c (1)"),
        (["a"], "single-class, 1 class: a (1)"),
        ([""] * 1200, "unlabelled, 1,200 images"),
    ],
)
def test_describe__one_line(labels: list[str], line: str) -> None:
    assert Task.from_labels(labels).describe() == line


def test_describe__many_classes_are_cut() -> None:
    line = Task.from_labels([f"class{n}" for n in range(300)]).describe()
    assert line.startswith("multiclass, 300 classes: class0 (1), class1 (1), class2 (1), ")
    assert line.endswith(" class9 (1) and 290 more")


def test_from_labels__in_the_users_order_without_what_no_label_has() -> None:
    task = Task.from_labels(["mild", "severe", "", "mild", "none"], ("none", "mild", "moderate", "severe"))
    assert task == Task(("none", "mild", "severe"), (1, 2, 1), 1, is_order_given=True)
    assert Task.from_labels(["mild", "other"], ("none", "mild")) == Task(("mild", "other"), (1, 1), 0)
    assert not Task.from_labels(["", ""], ("none",)).is_order_given


@pytest.mark.parametrize(
    ("labels", "told", "is_ordered"),
    [
        (["cat", "dog"], (), True),
        (["ant", "cat", "dog"], (), False),
        (["ant", "cat", "dog"], ("dog", "cat", "ant"), True),
        (["ant", "cat", "dog"], ("dog", "cat"), False),
        (["0%", "33%", "100%"], (), True),
        (["3T3", "4T1", "293T"], (), False),
    ],
)
def test_is_ordered__who_said_so(labels: list[str], told: tuple[str, ...], is_ordered: bool) -> None:
    task = Task.from_labels(labels, told)
    assert task.is_ordered is is_ordered
    assert task.to_json()["is_ordered"] is is_ordered
    assert ("assumed" in task.to_json()["kappa"]) is not is_ordered
    assert bool(task.order_caveat("c.zarr")) is not is_ordered


def test_check_ordered__names_the_option() -> None:
    with pytest.raises(OptionError, match=r"order of the classes, and a, b, c have none .* label x.zarr --class-order"):
        Task.from_labels(["c", "b", "a"]).check_ordered("x.zarr")
    Task.from_labels(["3", "2", "1"]).check_ordered("x.zarr")
