"""Fingerprints: equal where nothing differs, and a readable list of what does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme_cache import Fingerprint

SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5, width=16) | st.text("aä\U0001f98b", max_size=3)
)
FIELDS = st.dictionaries(st.sampled_from("abc"), SCALARS | st.lists(SCALARS, max_size=2), max_size=3)


def test_digest__equals_b2sum_of_canonical_json() -> None:
    """`printf '{"a":1,"b":[2,"x"]}' | b2sum -l 128`."""
    assert Fingerprint({"b": [2, "x"], "a": 1}).digest == "0ddbcf7095b673e26e2638bfe20487c2"


@given(FIELDS, st.randoms())
def test_digest__ignores_key_order_and_json_round_trip(fields: dict[str, Any], random: Any) -> None:
    names = list(fields)
    random.shuffle(names)
    shuffled = Fingerprint({name: fields[name] for name in names})
    loaded = Fingerprint(json.loads(json.dumps(fields)))
    assert shuffled.digest == loaded.digest == Fingerprint(fields).digest
    assert Fingerprint(fields).differences(loaded) == []


def test_digest__tuples_are_lists() -> None:
    tuples, lists = Fingerprint({"mean": (0.5, 0.25)}), Fingerprint({"mean": [0.5, 0.25]})
    assert tuples == lists
    assert tuples.digest == lists.digest
    assert tuples.differences(lists) == []


@pytest.mark.parametrize("other", [{"mean": [0.5]}, {"mean": [0.25, 0.5]}, {"mean": 0.5}, {"std": [0.5, 0.25]}, {}])
def test_digest__differs_with_any_field(other: dict[str, Any]) -> None:
    assert Fingerprint({"mean": [0.5, 0.25]}).digest != Fingerprint(other).digest


def test_differences__names_both_values_and_absent_fields() -> None:
    mine = Fingerprint({"size": 224, "pool": "avg", "weights": "a", "mean": (0.5,)})
    theirs = Fingerprint({"size": 256, "dtype": "float16", "weights": "a", "mean": [0.5]})
    assert mine.differences(theirs) == [("dtype", None, "float16"), ("pool", "avg", None), ("size", 224, 256)]
    assert theirs.differences(mine) == [("dtype", "float16", None), ("pool", None, "avg"), ("size", 256, 224)]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [({"crop": None}, {}), ({"crop": 1}, {"crop": True}), ({"crop": 1}, {"crop": 1.0})],
    ids=["null-or-absent", "one-or-true", "int-or-float"],
)
def test_differences__empty_only_if_digests_are_equal(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    one, other = Fingerprint(mine), Fingerprint(theirs)
    assert bool(one.differences(other)) == (one.digest != other.digest)


def test_by_kind__an_absent_field_is_no_difference_and_another_value_is() -> None:
    plain = Fingerprint({"size": 224})
    one, other = (plain.with_fields({"decoding.dicom": policy}) for policy in ("window", "no window"))
    assert plain.differences(one) == one.differences(plain) == []
    assert one.differences(other) == [("decoding.dicom", "window", "no window")]
    assert plain.digest == one.digest == other.digest
    assert one.fields == {"size": 224, "decoding.dicom": "window"}
    assert plain.differences(Fingerprint({"size": 224, "decoding": "x"})) == [("decoding", None, "x")]
