"""Models of the hub from its local cache, in the published layout, against timm's own way of loading them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.weights.hub import hub_config, hub_file, pretrained_settings, split_hub_name
from dvme.errors import CheckpointError, DvmeError, OptionError, UnknownNameError, WeightsError

NAME = "hf-hub:lab/net"
VIT = {"img_size": 64, "depth": 2}
Publish = Callable[..., Path]


def settings_of(**changes: Any) -> dict[str, Any]:
    """What timm's `push_to_hf_hub` writes under `pretrained_cfg`, in its key order."""
    return {
        "tag": "ours",
        "custom_load": False,
        "input_size": [3, 64, 64],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.25],
        "num_classes": 5,
        "pool_size": None,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "mit",
    } | changes


def config_of(architecture: str, num_classes: int, **changes: Any) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "num_classes": num_classes,
        "num_features": 96,
        "pretrained_cfg": settings_of(num_classes=num_classes),
    } | changes


def odd_input(**changes: Any) -> dict[str, Any]:
    return config_of("test_resnet", 5, pretrained_cfg=settings_of(**changes))


@pytest.fixture
def publish(no_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Lay files into the hub's cache as a download does: refs/REVISION names a folder of snapshots."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # timm asks the network first otherwise

    def publish(
        config: object,
        state: Mapping[str, Tensor] | None = None,
        *,
        repository: str = "lab/net",
        revision: str = "main",
        filename: str = "model.safetensors",
    ) -> Path:
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        commit = f"{revision}-0a1b2c"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        (snapshot / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        if state is not None and filename.endswith(".safetensors"):
            save_file(dict(state), snapshot / filename)
        elif state is not None:
            torch.save(dict(state), snapshot / filename)
        return snapshot

    return publish


def check_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def refused(name: str, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        load_backbone(get_spec(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "num_classes", "arguments"),
    [
        ("test_resnet", 5, {}),
        ("test_resnet", 0, {}),
        ("test_resnet", 1000, {"output_stride": 16}),
        ("vit_tiny_patch16_224", 1000, VIT),
        ("vit_tiny_patch16_224", 0, VIT | {"global_pool": "avg", "reg_tokens": 2, "init_values": 0.1}),
    ],
)
@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_hub__embeds_as_timm_does(
    architecture: str,
    num_classes: int,
    arguments: dict[str, Any],
    filename: str,
    publish: Publish,
    randomise: Callable[..., Any],
    pixels: Tensor,
    normalised: Callable[..., Tensor],
) -> None:
    original = randomise(timm.create_model(architecture, num_classes=num_classes, **arguments))
    config = config_of(architecture, num_classes, **({"model_args": arguments} if arguments else {}))
    snapshot = publish(config, original.state_dict(), filename=filename)
    spec = get_spec(NAME)
    assert spec.preprocess == Preprocess(
        resize=73, crop=64, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)
    )
    assert (spec.architecture, spec.source, spec.licence) == (architecture, "hub", "mit")
    backbone = load_backbone(spec)
    assert build_model(spec).path == snapshot / filename
    peer = timm.create_model(NAME, pretrained=True, num_classes=0).eval()
    images = normalised(pixels, spec.preprocess)
    with torch.inference_mode():
        expected = peer(images)
        # The original as well, so that no random layer goes unseen on both sides.
        check_equal(original.forward_head(original.forward_features(images), pre_logits=True), expected)
    check_equal(backbone.embed(pixels), expected)
    assert backbone.dim == expected.shape[1]


def test_hub__variations(
    publish: Publish, randomise: Callable[..., Any], pixels: Tensor, normalised: Callable[..., Tensor]
) -> None:
    original = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=5, **VIT))
    publish(config_of("vit_tiny_patch16_224", 5, model_args=VIT), original.state_dict())
    spec = get_spec(f"{NAME}@pool=class-and-mean@std=0.5")
    assert spec.name == f"{NAME}@pool=class-and-mean@std=0.5:0.5:0.5"
    with torch.inference_mode():
        tokens = original.forward_features(normalised(pixels, spec.preprocess))
    check_equal(load_backbone(spec).embed(pixels), torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))


def test_hub__older_configuration_without_pretrained_cfg(
    publish: Publish, randomise: Callable[..., Any], pixels: Tensor
) -> None:
    original = randomise(timm.create_model("test_resnet", num_classes=5))
    publish({"architecture": "test_resnet"} | settings_of(), original.state_dict())
    spec = get_spec(NAME)
    assert (spec.preprocess.crop, spec.preprocess.mean) == (64, (0.5, 0.4, 0.3))
    assert spec.architecture_args == {"num_classes": 5}
    assert load_backbone(spec).embed(pixels).shape == (2, 96)


def test_hub__revisions_side_by_side(publish: Publish, randomise: Callable[..., Any], pixels: Tensor) -> None:
    models = {name: randomise(timm.create_model("test_resnet", num_classes=5), seed) for seed, name in ((1, "main"),)}
    models["v1.0"] = randomise(timm.create_model("test_resnet", num_classes=5), 2)
    for revision, model in models.items():
        publish(config_of("test_resnet", 5), model.state_dict(), revision=revision)
    newest, first = load_backbone(get_spec(NAME)), load_backbone(get_spec(f"{NAME}@v1.0"))
    assert load_backbone(get_spec(f"{NAME}@main")).weights_hash == newest.weights_hash != first.weights_hash
    assert first.spec.name == f"{NAME}@v1.0"
    varied = get_spec(f"{NAME}@v1.0@size=32")
    assert varied.name == f"{NAME}@v1.0@size=32"
    assert load_backbone(varied).weights_hash == first.weights_hash
    assert "cannot fetch config.json of lab/net" in refused(f"{NAME}@v2.0", WeightsError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf-hub:lab/net", ("lab/net", None)),
        ("hf-hub:lab/net@v1.0", ("lab/net", "v1.0")),
        ("hf-hub:lab/net@", ("lab/net", None)),
    ],
)
def test_split_hub_name__revision(name: str, expected: tuple[str, str | None]) -> None:
    assert split_hub_name(name) == expected


def test_pretrained_settings__the_outer_number_of_classes_counts() -> None:
    assert pretrained_settings({"num_classes": 3, "pretrained_cfg": {"num_classes": 9, "a": 1}}) == {
        "num_classes": 3,
        "a": 1,
    }
    assert pretrained_settings({"pretrained_cfg": {"num_classes": 9}}) == {"num_classes": 9}
    assert pretrained_settings({"mean": 1}) == {"mean": 1, "num_classes": 1000}


NO_ARCHITECTURE = "lab/net is no timm model: its config.json names no timm architecture; "
NO_CONFIGURATION = "{snapshot}/config.json is no configuration ("
NEWER = f"{NAME} is a 'resnet_of_tomorrow', which timm {timm.__version__} does not have; update timm"
NO_SQUARE = "dvme feeds square RGB crops only"


@pytest.mark.parametrize(
    ("config", "kind", "parts"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, UnknownNameError, [NO_ARCHITECTURE, "TOML"]),
        ([1, 2], UnknownNameError, [NO_ARCHITECTURE, "TOML"]),
        ("[]", UnknownNameError, [NO_ARCHITECTURE, "TOML"]),
        ({"architectures": "test_resnet"}, UnknownNameError, [NO_ARCHITECTURE, "TOML"]),
        ("{", WeightsError, [NO_CONFIGURATION, "hf download lab/net"]),
        ("", WeightsError, [NO_CONFIGURATION, "hf download lab/net"]),
        ("not json at all", WeightsError, [NO_CONFIGURATION, "hf download lab/net"]),
        ('{"architecture": "test_resnet"', WeightsError, [NO_CONFIGURATION, "hf download lab/net"]),
        (config_of("resnet_of_tomorrow", 0), UnknownNameError, [NEWER]),
        (odd_input(input_size=[3, 64, 48]), UnknownNameError, [NO_SQUARE]),
        (odd_input(input_size=[1, 64, 64]), UnknownNameError, [NO_SQUARE]),
        (odd_input(crop_mode="border"), UnknownNameError, [NO_SQUARE]),
        (odd_input(crop_pct=1.1), UnknownNameError, [NO_SQUARE]),
        (config_of("test_resnet", 5, pretrained_cfg=None), DvmeError, []),
        (config_of("test_resnet", 5, model_args=None), DvmeError, []),
        (config_of("test_resnet", 5, pretrained_cfg={"input_size": "x"}), DvmeError, []),
        (config_of("test_resnet", 5, pretrained_cfg={"interpolation": "nearest"}), DvmeError, []),
        (config_of("test_resnet", 5, pretrained_cfg={"mean": [0.5]}), DvmeError, []),
    ],
)
def test_hub__configuration_refused(config: object, kind: type[Exception], parts: list[str], publish: Publish) -> None:
    snapshot = publish(config)
    text = refused(NAME, kind)
    for index, part in enumerate(parts):
        wanted = part.format(snapshot=snapshot)
        assert text.startswith(wanted) if index == 0 and part != NO_SQUARE else wanted in text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: {key.replace("layer4.", "stage4."): value for key, value in state.items()}, "stage4.0"),
        (lambda state: {key: value for key, value in state.items() if key != "layer4.0.bn2.weight"}, "layer4.0.bn2"),
        (lambda state: state | {"extra": torch.zeros(1)}, "extra"),
    ],
)
def test_hub__weights_that_do_not_fit(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    named: str,
    publish: Publish,
    randomise: Callable[..., Any],
) -> None:
    state = randomise(timm.create_model("test_resnet", num_classes=5)).state_dict()
    snapshot = publish(config_of("test_resnet", 5), change(state))
    text = refused(NAME, CheckpointError)
    assert text.startswith(f"{snapshot / 'model.safetensors'} does not fit test_resnet: ")
    assert named in text


@pytest.mark.parametrize("num_classes", [0, 5, 6])
def test_hub__the_average_of_a_file_and_a_classifier_of_any_size(
    num_classes: int, publish: Publish, randomise: Callable[..., Any]
) -> None:
    raw, average = (
        randomise(timm.create_model("test_resnet", num_classes=num_classes), seed=seed).state_dict() for seed in (0, 1)
    )
    sets = {"model.": raw, "model_ema.": average}
    flat = {prefix + key: value for prefix, state in sets.items() for key, value in state.items()}
    publish(config_of("test_resnet", 5), flat)
    loaded = build_model(get_spec(NAME))
    assert all(torch.equal(value, average[key]) for key, value in loaded.model.state_dict().items())
    assert [label for label, _ in loaded.taken.others] == ["model"]


def test_hub__local_weights_instead(publish: Publish, randomise: Callable[..., Any], tmp_path: Path) -> None:
    publish(config_of("test_resnet", 5))
    state = randomise(timm.create_model("test_resnet", num_classes=5)).state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "mine.pth")
    loaded = build_model(get_spec(NAME), tmp_path / "mine.pth")
    assert loaded.path == tmp_path / "mine.pth"
    assert set(loaded.used) == set(state)


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1.0", f"{NAME}@size=64"])
def test_hub__offline_and_nothing_here_is_said_at_once(name: str, no_network: Path) -> None:
    text = refused(name, WeightsError)
    assert text.startswith("cannot fetch config.json of lab/net, published at https://huggingface.co/lab/net (")
    assert text.endswith("into the hub's cache (hf download lab/net) and run again")


def test_hub__offline_with_the_configuration_alone(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(config_of("test_resnet", 5))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    text = refused(NAME, WeightsError)
    assert text.startswith("cannot fetch model.safetensors of lab/net")
    assert text.endswith(f"; download it elsewhere and pass weights={{'{NAME}': 'PATH'}}")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:a b/c", "hf-hub:a/b/c"])
def test_hub__no_name_of_a_repository(name: str, no_network: Path) -> None:
    assert "is no name of a hub repository; pass ORGANISATION/NAME" in refused(name, UnknownNameError)


def test_hub_file__the_first_that_is_there(publish: Publish) -> None:
    snapshot = publish({}, {"a": torch.zeros(1)}, filename="pytorch_model.bin")
    assert hub_file("lab/net", ("model.safetensors", "pytorch_model.bin"), "") == snapshot / "pytorch_model.bin"
    assert hub_file("lab/net", ("config.json", "pytorch_model.bin"), "") == snapshot / "config.json"


def test_hub_config__is_read_as_published(publish: Publish) -> None:
    config = config_of("test_resnet", 5)
    publish(config)
    assert hub_config(NAME) == config


def test_hub__class_token_of_a_network_without_one(publish: Publish, randomise: Callable[..., Any]) -> None:
    publish(config_of("test_resnet", 5), randomise(timm.create_model("test_resnet", num_classes=5)).state_dict())
    assert "has no class token for 'class-token'; choose pool=average" in refused(
        f"{NAME}@pool=class-token", OptionError
    )


def test_hub__fields_that_this_timm_does_not_know_are_passed_over(publish: Publish) -> None:
    publish(config_of("test_resnet", 5, pretrained_cfg=settings_of(of_the_future=1)))
    assert get_spec(NAME).preprocess.mean == (0.5, 0.4, 0.3)


def test_hub__specification_is_a_value(publish: Publish) -> None:
    publish(config_of("test_resnet", 5, model_args={"output_stride": 16}))
    spec = get_spec(NAME)
    assert spec == get_spec(NAME)
    assert isinstance(spec, BackboneSpec)
    assert spec.architecture_args == {"num_classes": 5, "output_stride": 16}
    assert replace(spec, dim=None) == spec


def test_load_backbone__another_size_than_the_architectures_default(
    publish: Callable[..., Any], randomise: Callable[..., Any], pixels: Tensor, normalised: Callable[..., Tensor]
) -> None:
    """timm itself builds such a model at its published size; resampling there and back would change it."""
    original = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64))
    settings = settings_of(fixed_input_size=True)
    publish(config_of("vit_tiny_patch16_224", 5, pretrained_cfg=settings), original.state_dict())
    with torch.inference_mode():
        features = original.forward_features(normalised(pixels, get_spec(NAME).preprocess))
        expected = original.forward_head(features, pre_logits=True)
    check_equal(load_backbone(get_spec(NAME)).embed(pixels), expected)


def test_hub_file__in_a_fresh_process() -> None:
    code = (
        "from dvme.backbones.weights.hub import hub_file\nfrom dvme.errors import WeightsError\n"
        "try: hub_file('a/b', ('x',), 'o')\nexcept WeightsError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
