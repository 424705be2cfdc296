"""Who is left out, against a slow walk over shared groups and copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.adaptation.leak import apply_leak_rule, joined_groups
from dvme.errors import DataError, OptionError

NOTHING = {"transductive": False, "without_test": False}
GROUPS = st.lists(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=3), min_size=1, max_size=9)


@given(GROUPS)
def test_joined_groups__are_one_where_copies_link_them(files: list[list[str]]) -> None:
    groups = joined_groups(files)
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))
    for image in range(len(files)):
        reached, waiting = {image}, [image]
        while waiting:
            own = {group for group in files[waiting.pop()] if group}
            for other, named in enumerate(files):
                if other not in reached and own & set(named):
                    reached.add(other)
                    waiting.append(other)
        assert {other for other in range(len(files)) if groups[other] == groups[image]} == reached


def test_apply_leak_rule__leaves_out_the_test_part_and_all_images_of_its_groups() -> None:
    groups = joined_groups([["a"], ["a"], ["b"], [""], ["b", "c"], ["c"], ["d"]])
    leak = apply_leak_rule([["test"], [""], ["train"], [""], ["train"], ["val"], ["train"]], groups, "m.csv", **NOTHING)
    assert leak.is_out.tolist() == [True, True, False, False, False, False, False]
    assert (leak.n_test, leak.n_related) == (1, 1)
    copied = apply_leak_rule([["train", "test"], ["train"]], np.arange(2), "m.csv", **NOTHING)
    assert copied.is_out.tolist() == [True, False], "a copy is of the test part"


def test_apply_leak_rule__transductive_takes_all_and_says_so() -> None:
    splits, groups = [["test"], ["train"]], np.arange(2)
    leak = apply_leak_rule(splits, groups, "m.csv", transductive=True, without_test=False)
    assert leak.is_transductive
    assert not leak.is_out.any()
    assert (leak.n_test, leak.n_related) == (1, 0)
    alone = apply_leak_rule([[""], [""]], groups, "m.csv", transductive=False, without_test=True)
    assert not alone.is_out.any()
    assert not alone.is_transductive


def test_apply_leak_rule__refuses_what_nobody_declared() -> None:
    with pytest.raises(
        DataError,
        match=r"m does not say which images are for testing.*column with split .*without_test=True if no study",
    ):
        apply_leak_rule([["train"], [""]], np.arange(2), "m", **NOTHING)
    with pytest.raises(OptionError, match=r"m declares 1 test image; leave out without_test"):
        apply_leak_rule([["test"], [""]], np.arange(2), "m", transductive=False, without_test=True)
    with pytest.raises(OptionError, match="pass one"):
        apply_leak_rule([["test"], [""]], np.arange(2), "m", transductive=True, without_test=True)
    with pytest.raises(DataError, match="all images of m are of the test part, or of groups in it"):
        apply_leak_rule([["test"], ["train"]], np.zeros(2, dtype=np.int64), "m", **NOTHING)
