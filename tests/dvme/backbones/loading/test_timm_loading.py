"""timm's models load strictly, whatever timm's own builders would let pass, and every key is accounted for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from small_networks import NARROW
from torch import Tensor, nn

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.conversion.converting import convert
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.timm_loading import load_timm_model
from dvme.backbones.weights.checkpoint import read_checkpoint
from dvme.errors import CheckpointError

NAME = "timm:resnet18.a1_in1k"
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}
State = dict[str, Tensor]


def state_of(model: str, **arguments: Any) -> State:
    created: nn.Module = timm.create_model(model, **arguments)
    return dict(created.state_dict())


def narrow() -> BackboneSpec:
    return replace(get_spec(NAME), architecture_args=NARROW)


def saved(content: Any, tmp_path: Path) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.fixture(scope="module")
def resnet18(randomise: Callable[..., Any]) -> State:
    return dict(randomise(timm.create_model("resnet18", **NARROW)).state_dict())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("dla34.in1k", marks=pytest.mark.slow),
        "dla46_c.in1k",
        "convnextv2_atto.fcmae",
        "inception_v3.tv_in1k",
    ],
)
def test_load_timm_model__strict_where_timm_is_not(name: str, tmp_path: Path) -> None:
    spec, state = get_spec(f"timm:{name}"), state_of(name)
    found = load_timm_model(spec, saved(state, tmp_path))
    assert (found.used, found.left_over) == (list(state), [])
    weights = [key for key in state if key.endswith("weight")]
    renamed = {f"zz.{key}" if key in weights[len(weights) // 2 :] else key: value for key, value in state.items()}
    with pytest.raises(CheckpointError, match=r"missing keys .*unexpected keys zz\."):
        load_timm_model(spec, saved(renamed, tmp_path))
    lacking = {key: value for key, value in state.items() if key != weights[1]}
    with pytest.raises(CheckpointError, match=f"missing keys {weights[1]}"):
        load_timm_model(spec, saved(lacking, tmp_path))


def test_load_timm_model__what_published_files_have_in_excess_is_named(tmp_path: Path) -> None:
    state = state_of("dla46_c")
    excess = "level3.project.0.weight"
    found = load_timm_model(get_spec("timm:dla46_c.in1k"), saved(state | {excess: torch.zeros(2)}, tmp_path))
    assert found.left_over == [excess]
    assert found.used == list(state)


def test_load_timm_model__fcmae_is_published_without_its_last_norm(tmp_path: Path) -> None:
    state = {key: value for key, value in state_of("convnextv2_atto.fcmae").items() if not key.startswith("head.")}
    model = load_timm_model(get_spec("timm:convnextv2_atto.fcmae"), saved(state, tmp_path)).model
    norm = model.state_dict()
    assert (norm["head.norm.weight"] == 1).all()
    assert (norm["head.norm.bias"] == 0).all()


def test_load_timm_model__keys_that_its_translation_passes_over_are_left_over(tmp_path: Path) -> None:
    """timm computes Swin's indices anew, and its translation drops those of the file."""
    state = state_of("swin_tiny_patch4_window7_224", **SWIN)
    index = "layers.0.blocks.0.attn.relative_position_index"
    spec = replace(get_spec("timm:swin_tiny_patch4_window7_224.ms_in1k"), architecture_args=SWIN)
    found = load_timm_model(spec, saved(state | {index: torch.zeros(49, 49, dtype=torch.int64)}, tmp_path))
    assert found.left_over == [index]
    assert len(found.used) == len(state)


def test_load_timm_model__loads_the_tensors_and_leaves_torch_alone(resnet18: State, tmp_path: Path) -> None:
    before = nn.Module.load_state_dict
    model = load_timm_model(narrow(), saved(resnet18, tmp_path)).model
    assert nn.Module.load_state_dict is before
    loaded = model.state_dict()
    assert all(torch.equal(value, resnet18[key]) for key, value in loaded.items())
    assert not [key for key in loaded if key.startswith("fc.")]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64])
def test_load_timm_model__other_kinds_of_numbers(dtype: torch.dtype, resnet18: State, tmp_path: Path) -> None:
    path = saved(resnet18 | {"conv1.weight": resnet18["conv1.weight"].to(dtype)}, tmp_path)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"wrong kinds of numbers conv1.weight {kind} instead of float32"):
        load_timm_model(narrow(), path)


@pytest.mark.parametrize("nesting", ["state_dict", "model", "model_ema", "state_dict_ema"])
def test_load_timm_model__a_converted_training_checkpoint(nesting: str, resnet18: State, tmp_path: Path) -> None:
    """What is nested becomes a prefix, beside the tensors of an optimiser."""
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(3)}}}
    path = saved({nesting: resnet18, "optimizer": momentum, "args": argparse.Namespace(lr=0.1)}, tmp_path)
    with pytest.raises(CheckpointError, match="dvme backbones convert"):
        build_model(narrow(), path)
    convert(path, tmp_path / "flat.safetensors")
    assert f"{nesting}.conv1.weight" in read_checkpoint(tmp_path / "flat.safetensors")
    found = load_timm_model(narrow(), tmp_path / "flat.safetensors")
    assert set(found.used) == set(resnet18)
    assert torch.equal(found.model.state_dict()["conv1.weight"], resnet18["conv1.weight"])


def test_load_timm_model__two_sets_and_no_name_says_which(resnet18: State, tmp_path: Path) -> None:
    twice = resnet18 | {f"module.{key}": torch.zeros_like(value) for key, value in resnet18.items()}
    with pytest.raises(CheckpointError, match="it holds two sets of weights, module and the top of the file"):
        load_timm_model(narrow(), saved(twice, tmp_path))


@pytest.mark.parametrize("content", [{0: torch.zeros(1)}, {"conv1.weight": 3}, {}, [torch.zeros(1)], 5])
def test_load_timm_model__no_state_dict(content: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load_timm_model(narrow(), saved(content, tmp_path))
    assert "\n" not in str(caught.value)


def test_build_model__seeds_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would reseed every GPU, and nothing would put their states back."""

    def seeded(*_: object) -> None:
        raise AssertionError("reseeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    monkeypatch.setattr(torch, "manual_seed", seeded)
    build_model(get_spec("random"))
