from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import inf, isnan, nan
from typing import Any, Literal

import pytest

from dvme.data import Task
from dvme.heads.saving import without_nan
from dvme.json_values import rebuilt, with_infinities


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
    return json.loads(json.dumps(without_nan(with_infinities(asdict(value))), allow_nan=False))


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


def test_with_infinities__leaves_everything_else() -> None:
    plain = {"a": [inf, -inf, 1.0, "inf", None], "b": (inf, {"c": 2})}
    assert with_infinities(plain) == {"a": ["inf", "-inf", 1.0, "inf", None], "b": ("inf", {"c": 2})}


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
