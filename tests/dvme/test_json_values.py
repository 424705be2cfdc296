from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import inf, isnan, nan
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

from dvme.data import Task
from dvme.json_values import as_json, plain, rebuilt
from dvme_cli.console import show_json


@dataclass(frozen=True)
class _Inner:
    value: float
    kind: Literal["=", ">="]


@dataclass(frozen=True)
class _Outer:
    name: str
    count: int
    is_best: bool
    pair: tuple[str, ...]
    inner: list[_Inner]
    by_name: dict[str, _Inner]
    maybe: _Inner | None

    @property
    def doubled(self) -> int:
        return 2 * self.count


def _outer(value: float = 0.5, maybe: _Inner | None = None) -> _Outer:
    one = _Inner(value, "=")
    return _Outer("é", 3, True, ("a", "b"), [one, _Inner(2.0, ">=")], {"x": one}, maybe)


def _through_json(value: Any) -> Any:
    return json.loads(as_json(asdict(value)))


@pytest.mark.parametrize("value", [_outer(), _outer(inf), _outer(-inf), _outer(1.0, _Inner(-inf, ">="))])
def test_rebuilt__is_what_it_was(value: _Outer) -> None:
    found = rebuilt(_Outer, _through_json(value))
    assert found == value
    assert type(found.pair) is tuple
    assert type(found.inner[0].value) is float


def test_rebuilt__none_is_nan_for_a_float_and_none_where_it_may_be() -> None:
    found = rebuilt(_Outer, _through_json(_outer(nan)))
    assert isnan(found.inner[0].value)
    assert isnan(found.by_name["x"].value)
    assert found.maybe is None


def test_rebuilt__a_whole_number_is_a_float_where_one_is_meant_and_properties_are_passed_over() -> None:
    found = rebuilt(_Outer, _through_json(_outer()) | {"inner": [{"value": 2, "kind": "="}], "doubled": 6})
    assert type(found.inner[0].value) is float
    assert found.doubled == 6


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (nan, "null"),
        (inf, '"inf"'),
        (-inf, '"-inf"'),
        (np.float64(inf), '"inf"'),
        (np.float32(nan), "null"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.array([[1.5, nan], [-inf, 2.0]]), '[[1.5, null], ["-inf", 2.0]]'),
        (Path("a/b"), '"a/b"'),
        ({"a": [inf, 1.0, "inf", None, True]}, '{"a": ["inf", 1.0, "inf", null, true]}'),
        ({1: (nan, {2.5: -inf})}, '{"1": [null, {"2.5": "-inf"}]}'),
        (MappingProxyType({"a": ()}), '{"a": []}'),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_as_json__one_policy_at_any_depth(value: Any, text: str) -> None:
    assert as_json(value) == text
    assert json.loads(text, parse_constant=_no_constant) == plain(value)
    assert plain(plain(value)) == plain(value)


def test_show_json__the_same_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"df": inf, "p": nan, "by": {2: [-inf]}})
    found = json.loads(capsys.readouterr().out, parse_constant=_no_constant)
    assert found == {"df": "inf", "p": None, "by": {"2": ["-inf"]}}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {"a": [1j]}])
def test_as_json__what_json_has_no_word_for(value: Any) -> None:
    with pytest.raises(TypeError, match="is nothing that JSON has"):
        as_json(value)


class _Typed(TypedDict):
    loss: float
    note: str | None


def test_rebuilt__a_typed_dict_tells_nan_from_none() -> None:
    found = rebuilt(_Typed, json.loads(as_json({"loss": nan, "note": None})))
    assert isnan(found["loss"])
    assert found["note"] is None
    assert rebuilt(_Typed, {"loss": "-inf", "note": "inf"}) == {"loss": -inf, "note": "inf"}
    with pytest.raises(KeyError, match="note"):
        rebuilt(_Typed, {"loss": 1.0})


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 1},
        {"name": None},
        {"count": 1.5},
        {"count": True},
        {"is_best": 1},
        {"pair": "ab"},
        {"pair": [1]},
        {"inner": {}},
        {"inner": [3]},
        {"inner": [{"value": 1.0}]},
        {"inner": [{"value": 1.0, "kind": "<"}]},
        {"inner": [{"value": "much", "kind": "="}]},
        {"inner": [{"value": True, "kind": "="}]},
        {"by_name": []},
        {"maybe": {}},
    ],
)
def test_rebuilt__what_is_not_of_the_type(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)) as error:
        rebuilt(_Outer, _through_json(_outer()) | changes)
    assert "\n" not in str(error.value)


def test_rebuilt__says_what_was_found_and_what_is_meant() -> None:
    with pytest.raises(TypeError, match=r"^'ab' is not tuple"):
        rebuilt(_Outer, _through_json(_outer()) | {"pair": "ab"})


def test_rebuilt__a_field_with_a_default_may_be_missing() -> None:
    task = {"classes": ["a", "b"], "counts": [1, 2], "n_unlabelled": 0}
    assert rebuilt(Task, task) == Task(("a", "b"), (1, 2), 0)
    with pytest.raises(KeyError, match="counts"):
        rebuilt(Task, {"classes": ["a"], "n_unlabelled": 0})
