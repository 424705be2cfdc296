from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from small_networks import NARROW, NARROW_DIM
from timm.data import create_transform, resolve_data_config
from torch import Tensor
from torchvision.transforms import Compose

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.loading.timm_loading import load_timm_model
from dvme.backbones.loading.timm_models import published_weights, timm_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.errors import CheckpointError, UnknownNameError, WeightsError

NAME = "timm:resnet18.a1_in1k"
State = dict[str, Tensor]


def narrow() -> BackboneSpec:
    return replace(get_spec(NAME), architecture_args=NARROW)


@pytest.fixture(scope="module")
def resnet18(randomise: Callable[..., Any]) -> Any:
    return randomise(timm.create_model("resnet18.a1_in1k", pretrained=False, **NARROW))


@pytest.fixture
def small() -> BackboneSpec:
    """The spec of a narrow network on small images, for speed."""
    return replace(get_spec(NAME), architecture_args=NARROW, preprocess=Preprocess(resize=64, crop=64))


def test_timm_spec__read_off_the_configuration() -> None:
    spec = timm_spec("timm:vit_base_patch8_224.dino")
    assert (spec.name, spec.architecture) == ("timm:vit_base_patch8_224.dino", "vit_base_patch8_224.dino")
    assert (spec.dim, spec.pooling, spec.source, spec.checkpoint) == (None, "model", "timm", None)
    assert spec.licence == "apache-2.0"
    assert spec.preprocess == Preprocess(resize=248, crop=224, interpolation="bicubic")


def test_timm_spec__default_tag() -> None:
    assert timm_spec("timm:resnet18").architecture == "resnet18"
    assert timm_spec("timm:resnet18").preprocess == timm_spec(NAME).preprocess


@pytest.mark.parametrize(
    "model",
    [
        "resnet18.a1_in1k",
        "resnet50.tv2_in1k",
        "tf_efficientnet_lite0.in1k",
        "convnext_tiny.fb_in22k_ft_in1k_384",
        "vit_base_patch16_clip_224.openai",
        "mixer_b16_224.goog_in21k_ft_in1k",
        "vit_small_patch14_dinov2.lvd142m",
    ],
)
def test_timm_spec__preprocesses_as_timm(model: str) -> None:
    preprocess = timm_spec(f"timm:{model}").preprocess
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model).to_dict())
    whole = create_transform(**config, is_training=False)
    until_tensor = Compose(whole.transforms[:2])
    pixels = np.random.default_rng(0).integers(0, 256, size=(301, 452, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    crop = crop_image(image, preprocess)
    np.testing.assert_array_equal(crop, np.asarray(until_tensor(image)))
    scaled = (crop / 255.0 - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(whole(image).permute(1, 2, 0).numpy(), scaled, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("timm:resnet18x", "timm:resnet18"),
        ("timm:resnet18.a1_in2k", "timm:resnet18.a1_in1k"),
        ("timm:inception_v9", "timm:inception_v4"),
    ],
)
def test_timm_spec__unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec(name)
    assert str(caught.value) == f"timm has no model {name.removeprefix('timm:')!r}; did you mean '{nearest}'?"


@pytest.mark.parametrize("name", ["timm:", "timm:zzzzqqq"])
def test_timm_spec__unknown_name_without_a_near_one(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"timm\.list_pretrained\(\) lists them"):
        get_spec(name)


def test_timm_spec__model_without_published_weights() -> None:
    with pytest.raises(UnknownNameError, match="timm publishes no weights for 'vovnet57a'"):
        get_spec("timm:vovnet57a")


def test_timm_spec__crop_larger_than_the_resized_image() -> None:
    with pytest.raises(UnknownNameError, match="volo_d5_512"):
        get_spec("timm:volo_d5_512.sail_in1k")


def test_timm_spec__input_that_is_not_square() -> None:
    with pytest.raises(UnknownNameError, match="dvme feeds square RGB crops only"):
        get_spec("timm:vit_base_patch16_sapiens2.fb")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_load_backbone__local_file(
    suffix: str, resnet18: Any, small: BackboneSpec, pixels: Tensor, normalised: Callable[..., Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(resnet18.state_dict(), path)
    else:
        save_file(resnet18.state_dict(), path)
    backbone = load_backbone(small, weights=path)
    found = backbone.embed(pixels)
    with torch.inference_mode():
        features = resnet18.forward_features(normalised(pixels, small.preprocess))
        expected = resnet18.forward_head(features, pre_logits=True)
    assert backbone.dim == NARROW_DIM
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def renamed(state: State) -> State:
    return {key.replace("layer4.", "stage4."): value for key, value in state.items()}


def without_last(state: State) -> State:
    return {key: value for key, value in state.items() if key != "layer4.1.conv2.weight"}


def with_stranger(state: State) -> State:
    return state | {"decoder.weight": torch.zeros(1)}


def with_other_shape(state: State) -> State:
    return state | {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (renamed, "layer4.0.conv1.weight"),
        (without_last, "layer4.1.conv2.weight"),
        (with_stranger, "decoder.weight"),
        (with_other_shape, "layer1.0.conv1.weight"),
    ],
)
def test_load_timm_model__keys_that_do_not_fit(
    change: Callable[[State], State], named: str, resnet18: Any, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(change(resnet18.state_dict()), path)
    with pytest.raises(CheckpointError) as caught:
        load_timm_model(narrow(), path)
    assert str(caught.value).startswith(f"{path} does not fit resnet18.a1_in1k: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_load_timm_model__code_is_not_executed(resnet18: Any, tmp_path: Path) -> None:
    path, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    torch.save({"state_dict": resnet18.state_dict(), "x": Trap(sprung)}, path)
    with pytest.raises(CheckpointError):
        load_timm_model(narrow(), path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize(
    ("suffix", "share"),
    [
        (".pth", 0.5),
        pytest.param(".pth", 0.0),
        pytest.param(".safetensors", 0.5),
        pytest.param(".safetensors", 0.0),
    ],
)
def test_load_timm_model__truncated_file(suffix: str, share: float, resnet18: Any, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(resnet18.state_dict(), path)
    else:
        save_file(resnet18.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError):
        load_timm_model(narrow(), path)


@pytest.mark.parametrize("content", [{}, pytest.param([torch.zeros(1)])])
def test_load_timm_model__no_state_dict(content: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError):
        load_timm_model(narrow(), path)


def test_published_weights__offline(no_network: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(get_spec(NAME))
    text = str(caught.value)
    assert text.startswith("cannot fetch model.safetensors of timm/resnet18.a1_in1k, published at https://")
    assert text.endswith(f"; download it elsewhere and pass weights={{'{NAME}': 'PATH'}}")
    assert "\n" not in text


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_published_weights__from_the_local_hub_cache(
    filename: str, no_network: Path, resnet18: Any, small: BackboneSpec, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--timm--resnet18.a1_in1k"
    path = repository / "snapshots" / "0a1b" / filename
    path.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a1b")
    path.touch()
    assert published_weights(small) == path
    if filename == "model.safetensors":
        save_file(resnet18.state_dict(), path)
    else:
        torch.save(resnet18.state_dict(), path)
    assert load_backbone(small).dim == NARROW_DIM


def test_published_weights__published_at_a_plain_address(no_network: Path) -> None:
    spec = get_spec("timm:legacy_seresnet18.in1k")
    with pytest.raises(
        WeightsError, match=r"^seresnet18-4bb0ce65\.pth is not here and cannot be fetched from https://"
    ):
        published_weights(spec)
    downloaded = no_network / "hub" / "checkpoints" / "seresnet18-4bb0ce65.pth"
    downloaded.parent.mkdir(parents=True, exist_ok=True)
    downloaded.touch()
    assert published_weights(spec) == downloaded
