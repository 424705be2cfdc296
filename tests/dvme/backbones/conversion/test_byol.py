"""The fixtures were written by dm-haiku 0.0.17, jax 0.10.2 and dill 0.4.1.

`pretrain_res50x1.pkl` (protocol 2, as BYOL's trainer writes) holds what BYOL's published code builds: a haiku module
of initial_conv (2 channels instead of 64), initial_batchnorm and four hk.nets.ResNet.BlockGroup of (3, 4, 6, 3)
bottlenecks of 8 to 64 channels, with projector, predictor and classifier; random weights, FlatMappings, in a named
tuple that could be imported when it was written. `embeddings.npy` is what haiku computed for the fixture `images`.
`jax_arrays_*.pkl` hold jax's own arrays, a function and a namespace.
"""

from __future__ import annotations

import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from dvme.backbones.conversion.byol import is_byol, map_byol
from dvme.backbones.conversion.inert import load_inert
from dvme.backbones.conversion.pickled_arrays import ARRAY_REBUILDERS
from dvme.errors import CheckpointError

State = dict[str, Tensor]
Modules = dict[str, dict[str, Any]]


def load(path: Path) -> Any:
    with path.open("rb") as file:
        return load_inert(file, ARRAY_REBUILDERS)


def test_map_byol__genuine_checkpoint__embeds_as_haiku_did(
    fixtures: Path, images: Tensor, embed: Callable[[State, Tensor, bool], Tensor], resnet50_names: set[str]
) -> None:
    before = set(sys.modules)  # torch itself imports dill where it is installed
    content = load(fixtures / "byol/pretrain_res50x1.pkl")
    assert is_byol(content)
    state, dropped, remarks = map_byol(content, "x.pkl")
    assert set(state) == resnet50_names
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())
    expected = np.load(fixtures / "byol/embeddings.npy")
    assert expected.std() > 0.1
    np.testing.assert_allclose(embed(state, images, True).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert {"step", "rng", "experiment_state.target_params", "experiment_state.opt_state"} <= set(dropped)
    assert "experiment_state.online_params.classifier" in dropped
    assert "pads" in remarks[0]
    assert {"haiku", "jax", "dill", "byol"}.isdisjoint(sys.modules.keys() - before)


def random_modules(generator: np.random.Generator) -> tuple[Modules, Modules]:
    """(parameters, state) as haiku names and shapes them, of one channel more or less everywhere."""
    params: Modules = {}
    state: Modules = {}

    def add(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        params[conv] = {"w": generator.normal(size=shape).astype("f4")}
        vectors = [generator.normal(size=(1, 1, 1, shape[-1])).astype("f4") for _ in range(4)]
        params[norm] = {"scale": vectors[0], "offset": vectors[1]}
        for part, value in zip(("mean", "var"), vectors[2:], strict=True):
            state[f"{norm}/~/{part}_ema"] = {"average": value, "hidden": value * 2, "counter": np.int32(9)}

    add("res_net50/~/initial_conv", "res_net50/~/initial_batchnorm", (7, 7, 3, 2))
    reaching = 2
    for group, n_blocks in enumerate((3, 4, 6, 3)):
        inner, leaving = 1 + group, 4 + 4 * group
        for block in range(n_blocks):
            prefix = f"res_net50/~/block_group_{group}/~/block_{block}/~/"
            if block == 0:
                add(f"{prefix}shortcut_conv", f"{prefix}shortcut_batchnorm", (1, 1, reaching, leaving))
            shapes = ((1, 1, reaching, inner), (3, 3, inner, inner), (1, 1, inner, leaving))
            for i, shape in enumerate(shapes):
                add(f"{prefix}conv_{i}", f"{prefix}batchnorm_{i}", shape)
            reaching = leaving
    return params, state


class _ByolExperimentState(NamedTuple):
    online_params: Any
    target_params: Any
    online_state: Any
    target_state: Any
    opt_state: Any


@pytest.fixture
def byol_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A plain pickle whose named tuple is only there while it is written, so that its fields have no names in it."""

    def write(params: Any, state: Any, protocol: int = 2) -> Path:
        module = types.ModuleType("byol.byol_experiment")
        module._ByolExperimentState = _ByolExperimentState  # type: ignore[attr-defined]
        path = tmp_path / "byol.pkl"
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "byol", types.ModuleType("byol"))
            patch.setitem(sys.modules, "byol.byol_experiment", module)
            patch.setattr(_ByolExperimentState, "__module__", "byol.byol_experiment")
            experiment = _ByolExperimentState(params, {}, state, {}, None)
            path.write_bytes(pickle.dumps({"experiment_state": experiment, "step": 1}, protocol=protocol))
        return path

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_map_byol__named_tuple_by_reference__by_a_slow_mapping(byol_file: Callable[..., Path], protocol: int) -> None:
    params, averages = random_modules(np.random.default_rng(0))
    state, _, _ = map_byol(load(byol_file(params, averages, protocol)), "x.pkl")
    kernel = params["res_net50/~/block_group_2/~/block_5/~/conv_1"]["w"]
    found = state["layer3.5.conv2.weight"]
    for o, i, y, x in np.ndindex(found.shape):
        assert found[o, i, y, x] == kernel[y, x, i, o]
    scale = params["res_net50/~/block_group_1/~/block_0/~/shortcut_batchnorm"]["scale"]
    assert state["layer2.0.downsample.1.weight"].tolist() == scale[0, 0, 0].tolist()
    offset = params["res_net50/~/initial_batchnorm"]["offset"]
    assert state["bn1.bias"].tolist() == offset[0, 0, 0].tolist()
    variance = averages["res_net50/~/block_group_3/~/block_2/~/batchnorm_2/~/var_ema"]["average"]
    assert state["layer4.2.bn3.running_var"].tolist() == variance[0, 0, 0].tolist()


def changed(entries: Modules, name: str, value: dict[str, Any] | None) -> Modules:
    return {key: entry for key, entry in entries.items() if key != name} | ({} if value is None else {name: value})


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("res_net50/~/final_batchnorm", {"scale": np.ones(2, "f4"), "offset": np.ones(2, "f4")}, "no part of BYOL"),
        ("res_net50/~/initial_conv_1", {"w": np.zeros((7, 7, 3, 2), "f4")}, "two modules for conv1.weight"),
        ("res_net50/~/initial_conv", None, "lacks conv1.weight"),
        ("res_net50/~/initial_conv", {"w": np.zeros((7, 7, 3, 2), "f4"), "b": np.zeros(2)}, "has w, b in"),
        ("res_net50/~/initial_conv", {"w": "no array"}, "that is not numbers"),
        ("res_net50/~/initial_conv", {"w": np.zeros((7, 7, 3), "f4")}, "expected four dimensions"),
        ("res_net50/~/initial_batchnorm", {"scale": np.ones((2, 2)), "offset": np.ones(2)}, "one value per channel"),
        ("res_net50/~/block_group_3/~/block_3/~/conv_0", {"w": np.zeros((1, 1, 1, 1))}, "(3, 4, 6, 4) blocks"),
        ("res_net50/~/initial_conv", {}, "without values"),
    ],
)
def test_map_byol__not_its_resnet__says_where(
    byol_file: Callable[..., Path], name: str, value: dict[str, Any] | None, complaint: str
) -> None:
    params, averages = random_modules(np.random.default_rng(0))
    content = load(byol_file(changed(params, name, value), averages))
    with pytest.raises(CheckpointError, match=re.escape(complaint)):
        map_byol(content, "x.pkl")


def test_map_byol__no_online_network__says_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"no online_params and online_state .* it holds backbone_params"):
        map_byol({"experiment_state": {"backbone_params": {}}}, "x.pkl")
