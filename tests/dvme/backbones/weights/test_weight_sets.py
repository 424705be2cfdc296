"""Which weights of a training checkpoint are taken: one choice on every route, and the others named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.conversion.converting import convert
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.timm_loading import LoadedModel
from dvme.backbones.own.custom import spec_from_architecture
from dvme.errors import CheckpointError

State = dict[str, Tensor]
ARCHITECTURE, PUBLISHED = "test_resnet", "timm:test_resnet.r160_in1k"
ONE = torch.tensor(1)
OWN = 'name = "mine"\narchitecture = "test_resnet"\npooling = "model"\n[checkpoint]\nfilename = "x.pth"\n'


def state_of(seed: int, num_classes: int = 1000) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(timm.create_model(ARCHITECTURE, num_classes=num_classes).state_dict())


RAW, AVERAGE = state_of(0), state_of(1)
PARAMETERS = {key: value for key, value in AVERAGE.items() if "running" not in key and "tracked" not in key}
HEAD = {"head.mlp.0.weight": torch.zeros(3)}


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


AVERAGED: dict[str, tuple[Any, str]] = {
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGE, "epoch": 3}, "state_dict"),
    "model_ema": ({"model": RAW, "model_ema": AVERAGE, "optimizer": {"state": {0: {"a": ONE}}}}, "model"),
    "ema": ({"model": RAW, "ema": AVERAGE}, "model"),
    "ema_state_dict": ({"state_dict": RAW, "ema_state_dict": under("module.", AVERAGE)}, "state_dict"),
    "dino": (
        {"student": under("module.backbone.", RAW) | HEAD, "teacher": under("backbone.", AVERAGE) | HEAD},
        "student.module.backbone",
    ),
    "nested": ({"model": {"ema": AVERAGE, "raw": RAW}}, "model.raw"),
    "averaged": ({"model": RAW, "averaged": AVERAGE}, "model"),
    "swa": ({"model": RAW, "swa_model": under("module.", AVERAGE) | {"n_averaged": ONE}}, "model"),
    "params_ema": ({"params": RAW, "params_ema": AVERAGE}, "params"),
    "callback": (
        {"state_dict": under("model.", RAW), "callbacks": {"EMACallback": {"weights": under("model.", AVERAGE)}}},
        "state_dict.model",
    ),
    "lightning's own": (
        {"state_dict": under("model.", AVERAGE), "current_model_state": under("model.", RAW)},
        "current_model_state.model",
    ),
    "in one mapping": ({"state_dict": under("net.", RAW) | under("ema_net.module.", AVERAGE)}, "state_dict.net"),
    "of an average's own class": (
        {"ema": under("online_model.", RAW) | under("ema_model.", AVERAGE)},
        "ema.online_model",
    ),
    "converted before": (under("model.", RAW) | under("ema.", AVERAGE) | {"optimizer.state.0.exp_avg": ONE}, "model"),
}
NO_CHOICE: dict[str, Any] = {
    "nnU-Net": {"network_weights": RAW, "optimizer_state": {"state": {}}},
    "AveragedModel": under("module.", RAW) | {"n_averaged": ONE},
    "lightning": {"state_dict": under("model.backbone.", RAW), "epoch": 1},
    "with its classifier beside it": {
        "state_dict": under("model.backbone.", {key: value for key, value in RAW.items() if not key.startswith("fc.")})
        | {"model.head.weight": torch.zeros(5, 3)}
    },
    "compiled, then distributed": under("module._orig_mod.", RAW),
    "distributed, then compiled": under("_orig_mod.module.", RAW),
    "compiled inside": {"state_dict": under("model._orig_mod.", RAW)},
    "parts compiled": {key.replace("layer1.0.", "layer1.0._orig_mod."): value for key, value in RAW.items()},
    "many prefixes": under("net.encoder.module.model.backbone.", RAW),
    "fabric": {"model": under("_forward_module.", RAW)},
    "one model twice": {"state_dict": under("model.", RAW) | under("net.", RAW)},
}


def saved(content: Any, tmp_path: Path) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def by_name() -> BackboneSpec:
    return spec_from_architecture("mine", ARCHITECTURE)


def is_model(loaded: LoadedModel, state: State) -> bool:
    return all(torch.equal(value, state[key]) for key, value in loaded.model.state_dict().items())


def refusal(spec: BackboneSpec, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        build_model(spec, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", AVERAGED)
def test_build_model__the_average_is_taken_on_every_route_and_the_other_named(kind: str, tmp_path: Path) -> None:
    content, other = AVERAGED[kind]
    path, own, flat = saved(content, tmp_path), tmp_path / "mine.toml", tmp_path / "flat.safetensors"
    own.write_text(OWN)
    converted = convert(path, flat, force=True)
    for spec, file in ((by_name(), path), (get_spec(PUBLISHED), path), (get_spec(str(own)), flat)):
        loaded = build_model(spec, file)
        assert is_model(loaded, AVERAGE)
        assert [label for label, _ in loaded.taken.others] == [other]
        assert "the average over training" in loaded.taken.remark()
    assert any(f"not from {other.removesuffix('.model')}" in remark for remark in converted.remarks)
    advice = loaded.taken.remark().partition("a TOML file with ")[2].removesuffix(" takes the other")
    own.write_text(f"{OWN}{advice}\n")
    assert is_model(build_model(get_spec(str(own)), path), RAW)


@pytest.mark.parametrize("kind", NO_CHOICE)
def test_build_model__usual_wrappings(kind: str, tmp_path: Path) -> None:
    path = saved(NO_CHOICE[kind], tmp_path)
    for spec in (by_name(), get_spec(PUBLISHED)):
        loaded = build_model(spec, path)
        assert is_model(loaded, RAW)
        assert loaded.taken.remark() == ""


@pytest.mark.parametrize(
    ("ema", "told"),
    [
        ({"decay": 0.9, "shadow_params": list(PARAMETERS.values())}, "ema.shadow_params (tensors without names)"),
        ({"shadow": PARAMETERS}, "ema.shadow (not a whole set)"),
        ({key.replace(".", ""): value for key, value in PARAMETERS.items()}, "ema (not a whole set)"),
    ],
)
def test_build_model__an_average_that_cannot_be_loaded_is_named(ema: Any, told: str, tmp_path: Path) -> None:
    path = saved({"model": RAW, "ema": ema}, tmp_path)
    for spec in (by_name(), get_spec(PUBLISHED)):
        loaded = build_model(spec, path)
        assert is_model(loaded, RAW)
        assert [label for label, _ in loaded.taken.others] == [told]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"online": RAW, "target": AVERAGE}, ["two sets of weights, online and target", 'nesting = ["online"]']),
        (
            under("module.encoder_q.", RAW) | under("module.encoder_k.", AVERAGE),
            ["missing keys", "module.encoder_q has them all", 'nesting = ["module", "encoder_q"] takes it'],
        ),
        (
            {"state_dict": under("model.", RAW) | {"criterion.weight": ONE}},
            ["unexpected keys criterion.weight beside state_dict.model", 'nesting = ["state_dict", "model"]'],
        ),
        ({"state_dict": RAW | {"decoder.weight": ONE}}, ["unexpected keys decoder.weight", "TOML"]),
        ({"state_dict": under("model.", RAW) | under("net.", AVERAGE)}, ["two sets of weights"]),
    ],
)
def test_build_model__what_no_name_decides_is_refused_with_the_way(
    content: Any, parts: list[str], tmp_path: Path
) -> None:
    path = saved(content, tmp_path)
    for spec in (by_name(), get_spec(PUBLISHED)):
        text = refusal(spec, path)
        for part in parts:
            assert part in text


def test_build_model__that_way_works(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'{OWN}nesting = ["module", "encoder_q"]\n')
    spec = get_spec(str(tmp_path / "mine.toml"))
    queue = {"module.queue": torch.zeros(4)}
    path = saved(under("module.encoder_q.", RAW) | under("module.encoder_k.", AVERAGE) | queue, tmp_path)
    assert is_model(build_model(spec, path), RAW)


def test_build_model__the_zoo_names_the_student_that_it_leaves(tmp_path: Path, randomise: Callable[..., Any]) -> None:
    """DINO's full checkpoint: its layout says the teacher."""
    arguments: dict[str, Any] = {"img_size": 32, "depth": 1}
    spec = replace(get_spec("dino"), architecture_args=arguments)
    spec = replace(spec, preprocess=replace(spec.preprocess, resize=32, crop=32))
    teacher, student = (
        dict(randomise(timm.create_model(spec.architecture, num_classes=0, **arguments), seed=seed).state_dict())
        for seed in (0, 1)
    )
    content = {
        "student": under("module.backbone.", student) | under("module.", HEAD),
        "teacher": under("backbone.", teacher) | HEAD,
    }
    loaded = build_model(spec, saved(content, tmp_path))
    assert is_model(loaded, teacher)
    assert [label for label, _ in loaded.taken.others] == ["student.module"]


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "deit_tiny_distilled_patch16_224": {"embed_dim": 24, "depth": 1},
    "efficientvit_b0": {"widths": (8, 8, 8, 16, 16), "depths": (1, 1, 1, 1, 1), "head_widths": (32, 32)},
    "mambaout_femto": {"depths": (1, 1, 1, 1)},
    "inception_next_atto": {"depths": (1, 1, 1, 1)},
    "levit_128s": {"embed_dim": (24, 32, 48), "num_heads": (2, 2, 2), "depth": (1, 1, 1)},
}


@pytest.mark.parametrize("architecture", CLASSIFIERS)
def test_build_model__an_architectures_own_classifier_is_left_over(architecture: str, tmp_path: Path) -> None:
    arguments = CLASSIFIERS[architecture]
    state = dict(timm.create_model(architecture, num_classes=5, **arguments).state_dict())
    spec = replace(spec_from_architecture("mine", architecture), architecture_args=arguments)
    loaded = build_model(spec, saved(under("module.", state), tmp_path))
    expected = timm.create_model(architecture, num_classes=0, **arguments).state_dict()
    assert loaded.model.state_dict().keys() == expected.keys()
    assert is_model(loaded, state)
    assert set(loaded.left_over) == state.keys() - expected.keys() != set()
    stranger = saved(state | {"head_other.weight": ONE}, tmp_path)
    assert "unexpected keys head_other.weight" in refusal(spec, stranger)


@pytest.mark.parametrize("num_classes", [0, 5, 1000])
def test_build_model__a_published_model_of_any_class_count(num_classes: int, tmp_path: Path) -> None:
    state = state_of(2, num_classes)
    loaded = build_model(get_spec(PUBLISHED), saved(state, tmp_path))
    assert is_model(loaded, state)
    assert loaded.left_over == ([] if num_classes != 5 else ["fc.weight", "fc.bias"])
    assert sorted(loaded.used + loaded.left_over) == sorted(state)
