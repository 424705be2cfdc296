from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder, MultiLabelBinarizer

from dvme.data.targets import HIDDEN, Targets
from dvme.data.uncertainty import Uncertainty
from dvme.errors import DataError


def _column(*labels: str) -> NDArray[Any]:
    return np.array(labels, dtype=object)


ONE = Targets.of(_column("b", "a", "c", "a"))
SEVERAL = Targets.of(_column("|effusion|nodule|", "|nodule|", "|effusion|mass|", "|", "|"))
UNSURE = Targets.of(_column("|a|b=?|", "|b=0.25|c=|", "|"), ("c", "a", "b"), Uncertainty(uncertain="soft=0.75"))
NAN = np.nan


def test_of__one_label_each_in_the_order_of_the_names_or_the_users() -> None:
    assert (ONE.classes, ONE.values.tolist(), ONE.is_order_given) == (("a", "b", "c"), [1, 0, 2, 0], False)
    graded = Targets.of(_column("mild", "none", "severe", "none"), ("none", "mild", "moderate", "severe"))
    assert graded.classes == ("none", "mild", "severe")  # nobody has the other
    assert (graded.values.tolist(), graded.is_order_given) == ([1, 0, 2, 0], True)
    assert not Targets.of(_column("mild", "none", "?"), ("none", "mild")).is_order_given


def test_of__several_labels_by_hand() -> None:
    assert SEVERAL.classes == ("effusion", "mass", "nodule")
    assert SEVERAL.values.astype(int).tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert (SEVERAL.is_multilabel, ONE.is_multilabel) == (True, False)
    assert Targets.of(_column("|f10|f2|", "|f1|")).classes == ("f1", "f2", "f10")
    assert Targets.of(_column("|", "|")).values.shape == (2, 0)
    assert Targets.of(_column("|b|", "|a|"), ("z", "b")).classes == ("z", "b", "a")  # nobody has z, which may be


def test_of_findings__what_is_uncertain_is_known_to_nobody_and_teaches_by_the_policy() -> None:
    assert UNSURE.classes == ("c", "a", "b")
    np.testing.assert_array_equal(UNSURE.values, [[0, 1, NAN], [NAN, 0, NAN], [0, 0, 0]])
    np.testing.assert_array_equal(UNSURE.learned, np.float32([[0, 1, 0.75], [NAN, 0, 0.25], [0, 0, 0]]))
    taught = {"ignore": NAN, "zeros": 0.0, "ones": 1.0}
    for policy, value in taught.items():
        own = Targets.of(_column("|a|b=?|"), (), Uncertainty(uncertain=policy))
        np.testing.assert_array_equal(own.values, [[1, NAN]])
        np.testing.assert_array_equal(own.learned, [[1, value]])
    blank = Targets.of(_column("|a|b=|"), (), Uncertainty(blank="zeros"))
    np.testing.assert_array_equal(blank.values, [[1, 0]])
    assert blank.taught is None


@given(labels=st.lists(st.lists(st.sampled_from("abcd"), max_size=4), min_size=1, max_size=20))
def test_of__as_scikit_learn_encodes_them(labels: list[list[str]]) -> None:
    several = Targets.of(_column(*("".join(["|", *(f"{name}|" for name in dict.fromkeys(own))]) for own in labels)))
    peer = MultiLabelBinarizer()
    expected = peer.fit_transform(labels)
    assert several.classes == tuple(peer.classes_)
    assert several.values.astype(int).tolist() == expected.tolist()
    rows = np.arange(0, len(labels), 2)
    assert several.counts(rows).tolist() == expected[rows].sum(axis=0).tolist()
    first = [own[0] if own else "e" for own in labels]
    encoder, one = LabelEncoder(), Targets.of(_column(*first))
    assert one.values.tolist() == encoder.fit_transform(first).tolist()
    assert one.classes == tuple(encoder.classes_)
    assert dict(zip(one.classes, one.task.counts, strict=True)) == {name: first.count(name) for name in set(first)}


@pytest.mark.parametrize("targets", [ONE, SEVERAL, UNSURE])
def test_plain__comes_back_from_json(targets: Targets) -> None:
    plain = json.loads(json.dumps(targets.plain))
    back = Targets.from_plain(list(targets.classes), plain, is_order_given=True)
    np.testing.assert_array_equal(back.values, targets.values)
    np.testing.assert_array_equal(back.learned, targets.learned)
    assert (back.values.dtype, back.classes, back.is_order_given) == (targets.values.dtype, targets.classes, True)


def test_plain__by_hand() -> None:
    assert ONE.plain == [1, 0, 2, 0]
    assert SEVERAL.plain == [[0, 2], [2], [0, 1], [], []]
    assert UNSURE.plain == [[1, [2, 0.75]], [[0, -1], [2, 0.25]], []]


@pytest.mark.parametrize("plain", [[0, 3], [0, -1], ["a"], [[0], [3]], [[0], 1], [[0], None]])
def test_from_plain__what_is_no_class(plain: list[Any]) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)):
        Targets.from_plain(("a", "b", "c"), plain)


def test_hidden__nobody_can_learn_them() -> None:
    rows = np.array([3, 0])
    hidden = ONE.hidden(rows)
    assert hidden.values.tolist() == [HIDDEN, 0, 2, HIDDEN]
    assert ONE.values.tolist() == [1, 0, 2, 0]
    assert hidden.task.counts == (1, 0, 1)
    several = UNSURE.hidden(np.array([0]))
    assert np.isnan(several.values[0]).all()
    assert np.isnan(several.learned[0]).all()
    np.testing.assert_array_equal(several.learned[1:], UNSURE.learned[1:])
    assert UNSURE.values[0, 1] == 1.0


def test_differing__goes_by_names() -> None:
    """Whatever classes there are besides, and in whatever order."""
    other = Targets.of(_column("b", "a", "d", "a"), ("d", "b", "a"))
    assert ONE.differing(other).tolist() == other.differing(ONE).tolist() == [2]
    assert ONE.differing(Targets.of(_column("b", "a", "c", "a"), ("c", "b", "a"))).tolist() == []
    swapped = Targets.of(_column("a", "b", "c", "b"))
    assert ONE.differing(swapped).tolist() == [0, 1, 3]
    fewer = Targets.of(_column("|nodule|", "|nodule|", "|mass|effusion|", "|", "|tumour|"))
    assert SEVERAL.differing(fewer).tolist() == [0, 4]
    # One label of an image that may have several is that label.
    assert ONE.differing(Targets.of(_column("|b|", "|a|", "|c|", "|a|b|"))).tolist() == [3]


def test_at_and_among__of_some_images_and_names() -> None:
    assert ONE.at(np.array([2, 0])).plain == [2, 1]
    assert len(SEVERAL.at(np.array([0, 2, 4]))) == 3
    assert ONE.among(("c", "x", "a", "b")).astype(int).tolist() == [
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [1, 0, 0, 0],
        [0, 0, 1, 0],
    ]


def test_task__what_cannot_be_learned() -> None:
    with pytest.raises(DataError, match="all 2 labelled images are 'a'; a task needs two classes"):
        Targets.of(_column("a", "a")).task.check_trainable()
