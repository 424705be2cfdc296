from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from dvme.backbones.conversion.flatten import flatten
from dvme.backbones.conversion.inert import NeedsCodeError, record_class
from dvme.errors import CheckpointError

ONE = torch.ones(1)


class Pair(NamedTuple):
    left: Any
    right: Any


def test_flatten__nested__joined_by_dots() -> None:
    content = {"a": {"b": ONE, 3: [ONE, (ONE,)]}, "pair": Pair(ONE, 1), "array": np.zeros(2, np.float32), "step": 5}
    tensors, dropped = flatten(content, "x")
    assert list(tensors) == ["a.b", "a.3.0", "a.3.1.0", "pair.left", "array"]
    assert dropped == ["pair.right", "step"]


def test_flatten__branches_without_tensors__are_one_name() -> None:
    content = {"weight": ONE, "config": {"lr": 0.1, "steps": [1, 2, 3]}, "empty": {}, "names": np.array(["a"])}
    assert flatten(content, "x")[1] == ["config", "empty", "names"]


def test_flatten__module__its_state_dict() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert set(flatten({"model": module}, "x")[0]) == {f"model.{name}" for name in module.state_dict()}


def test_flatten__record_of_a_module__its_state_dict_too() -> None:
    layer = record_class("foreign.Layer")()
    layer.__setstate__({"training": True, "_parameters": {"weight": ONE, "bias": None}, "_buffers": {"mean": ONE}})
    model = record_class("foreign.Model")()
    model.__setstate__({"_parameters": {}, "_modules": OrderedDict(conv=layer), "_forward_hooks": {}})
    assert set(flatten(model, "x")[0]) == {"conv.weight", "conv.mean"}


@pytest.mark.parametrize("content", [{"a.b": ONE, "a": {"b": ONE}}, {1: ONE, "1": ONE}])
def test_flatten__two_of_one_name__is_an_error(content: Any) -> None:
    with pytest.raises(CheckpointError, match=r"two tensors for the flat name (a\.b|1);"):
        flatten(content, "x")


def test_flatten__contains_itself__ends() -> None:
    content: dict[str, Any] = {"weight": ONE}
    content["again"] = content
    assert flatten(content, "x") == ({"weight": ONE}, ["again"])


def test_flatten__lists_of_the_same_lists__are_not_followed_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 lists that name 2 ** 40 values; the limit is lowered to save seconds."""
    monkeypatch.setattr("dvme.backbones.conversion.flatten.MAX_VALUES", 10_000)
    content: list[Any] = [1]
    for _ in range(40):
        content = [content, content]
    with pytest.raises(CheckpointError, match="holds more than 10000 values"):
        flatten({"deep": content}, "x")


def test_flatten__too_deep__says_so() -> None:
    content: Any = ONE
    for _ in range(100_000):
        content = [content]
    with pytest.raises(CheckpointError, match="too deeply"):
        flatten(content, "x")


@pytest.mark.parametrize("content", [{"step": 1}, [], None, "text"])
def test_flatten__no_tensors__says_so(content: Any) -> None:
    with pytest.raises(CheckpointError, match="holds no tensors"):
        flatten(content, "x")


@pytest.mark.parametrize("content", [ONE, {"": ONE}, {"__metadata__": ONE}])
def test_flatten__tensor_that_safetensors_cannot_name__is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match="give it another name"):
        flatten(content, "x")


@pytest.mark.parametrize(
    "origin", ["torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor", "torch.FloatTensor"]
)
def test_flatten__tensor_not_rebuilt__needs_code(origin: str) -> None:
    with pytest.raises(NeedsCodeError, match=origin):
        flatten({"weight": ONE, "other": record_class(origin)()}, "x")


def test_flatten__only_objects__need_code() -> None:
    with pytest.raises(NeedsCodeError, match="objects"):
        flatten({"model": record_class("foreign.Model")(1)}, "x")
