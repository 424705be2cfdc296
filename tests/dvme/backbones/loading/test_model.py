from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_networks import NARROW, NARROW_DIM
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import Backbone, hash_weights, load_backbone
from dvme.data import DECODING
from dvme.errors import CheckpointError, WeightsError

CPU = torch.device("cpu")
SMALL = Preprocess(resize=64, crop=64)


def small(name: str, architecture: str = "resnet18", **arguments: Any) -> BackboneSpec:
    """A spec of few weights and pixels; a ResNet-18 is a narrow one."""
    arguments = NARROW if architecture == "resnet18" else arguments
    return replace(get_spec(name), architecture=architecture, architecture_args=arguments, dim=None, preprocess=SMALL)


@pytest.fixture(scope="module")
def resnet18(randomise: Callable[..., Any]) -> Any:
    return randomise(timm.create_model("resnet18", **NARROW))


@pytest.fixture(scope="module")
def weights(resnet18: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    return load_backbone(small("supervised"), weights=weights)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.0, 0.1, 0.9), (1.0, 0.3, 0.05)),
    ],
)
def test_embed__normalises_as_torchvision(
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    pixels: Tensor,
    normalised: Callable[..., Tensor],
) -> None:
    preprocess = Preprocess(resize=64, crop=64, mean=mean, std=std)
    spec = replace(small("supervised"), preprocess=preprocess, pooling="model")
    found = Backbone(spec, nn.Flatten(), CPU).embed(pixels)  # a model that hands on its input
    expected = normalised(pixels, preprocess).flatten(start_dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_embed__leaves_the_pixels_alone(backbone: Backbone, pixels: Tensor) -> None:
    before = pixels.clone()
    backbone.embed(pixels)
    assert torch.equal(pixels, before)


def test_embed__average_pooling_by_hand(
    backbone: Backbone, resnet18: Any, pixels: Tensor, normalised: Callable[..., Tensor]
) -> None:
    with torch.inference_mode():
        expected = resnet18.forward_features(normalised(pixels, SMALL)).mean(dim=(2, 3))
    found = backbone.embed(pixels)
    assert (backbone.dim, found.shape, found.dtype) == (NARROW_DIM, (2, NARROW_DIM), torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_embed__an_image_does_not_depend_on_its_batch(backbone: Backbone, pixels: Tensor) -> None:
    both = backbone.embed(pixels)
    scale = float(both.abs().max())
    torch.testing.assert_close(backbone.embed(pixels[1:]), both[1:], rtol=0, atol=1e-5 * scale)
    assert float((both[0] - both[1]).abs().max()) > 0.01 * scale


def test_embed__class_tokens_of_the_last_four_blocks(
    pixels: Tensor, normalised: Callable[..., Tensor], randomise: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = {"img_size": 64, "depth": 6}
    spec = small("dino", "vit_tiny_patch16_224", **arguments)
    model = randomise(timm.create_model(spec.architecture, num_classes=0, **arguments))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = load_backbone(spec, weights=tmp_path / "weights.pth").embed(pixels)

    outputs: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.inference_mode():
        model(normalised(pixels, SMALL))
        tokens = [model.norm(output)[:, 0] for output in outputs]
    assert len(tokens) == 6
    expected = torch.cat(tokens[2:], dim=1)
    assert found.shape == (2, 4 * 192)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_backbone__dimension_that_the_spec_does_not_have(weights: Path) -> None:
    with pytest.raises(CheckpointError, match="supervised gives 24 features, its specification says 2048"):
        load_backbone(replace(small("supervised"), dim=2048), weights=weights)


def test_backbone__is_frozen(backbone: Backbone, pixels: Tensor) -> None:
    assert not backbone._model.training
    assert not any(parameter.requires_grad for parameter in backbone._model.parameters())
    assert torch.equal(backbone.embed(pixels), backbone.embed(pixels))


def test_load_backbone__weights_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights=.'supervised': '.*nowhere\.pth'}: there is no such file"):
        load_backbone(small("supervised"), weights=tmp_path / "nowhere.pth")


def test_load_backbone__by_name_as_extract_takes_it(weights: Path, pixels: Tensor, tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    expected = None
    for given in (tmp_path / "mine.pth", str(tmp_path / "mine.pth"), {"mine": tmp_path / "mine.pth", "dino": weights}):
        found = load_backbone("mine@size=64", weights=given, architectures={"mine": "test_resnet"})
        assert found.spec.name == "mine@size=64"
        embedded = found.embed(pixels)
        expected = embedded if expected is None else expected
        assert torch.equal(embedded, expected)
    named = load_backbone("random@size=64")
    assert torch.equal(named.embed(pixels), load_backbone(get_spec("random@size=64")).embed(pixels))


@pytest.mark.parametrize(("spec", "given"), [(3, None), (None, None), (["random"], None), ("random", 5)])
def test_load_backbone__of_something_else(spec: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=r"load_backbone takes a backbone's name|weights is int; pass the path"):
        load_backbone(spec, weights=given)


def test_load_backbone__random_is_deterministic(pixels: Tensor) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_backbone(small("random"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = load_backbone(small("random"))
    assert first.weights_hash == second.weights_hash
    assert torch.equal(first.embed(pixels), second.embed(pixels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert hash_weights(timm.create_model("resnet18", num_classes=0, **NARROW)) == first.weights_hash


def test_load_backbone__leaves_the_random_state_alone(weights: Path) -> None:
    before = torch.get_rng_state()
    load_backbone(small("supervised"), weights=weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_load_backbone__timm_leaves_the_random_state_alone(weights: Path) -> None:
    before = torch.get_rng_state()
    build_model(replace(get_spec("timm:resnet18.a1_in1k"), architecture_args=NARROW), weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_hash_weights__does_not_depend_on_the_file_format(resnet18: Any, weights: Path, tmp_path: Path) -> None:
    save_file(resnet18.state_dict(), tmp_path / "weights.safetensors")
    torch.save(resnet18.state_dict(), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    spec = small("supervised")
    expected = hash_weights(build_model(spec, weights).model)
    assert hash_weights(build_model(spec, tmp_path / "weights.safetensors").model) == expected
    assert hash_weights(build_model(spec, tmp_path / "legacy.pth").model) == expected
    assert (
        hash_weights(build_model(replace(get_spec("timm:resnet18.a1_in1k"), architecture_args=NARROW), weights).model)
        == expected
    )
    assert len(expected) == 32


def test_hash_weights__hash_is_of_the_published_weights(backbone: Backbone, weights: Path) -> None:
    assert backbone.weights_hash == hash_weights(build_model(small("supervised"), weights).model)


def pair() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"])
def test_hash_weights__one_value_changes(name: str) -> None:
    model, changed = pair(), pair()
    assert hash_weights(model) == hash_weights(changed)
    values = changed.state_dict()[name].view(-1)
    values[-1] = torch.nextafter(values[-1], torch.tensor(9.0))  # by the least amount there is
    assert hash_weights(model) != hash_weights(changed)


def test_hash_weights__name_shape_and_type_count() -> None:
    zeros = [nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False), nn.Linear(4, 2, bias=False).half()]
    for model in zeros:
        model.weight.data.zero_()
    digests = [hash_weights(model) for model in zeros]
    digests.append(hash_weights(nn.Sequential(zeros[0])))
    assert len(set(digests)) == 4


def test_hash_weights__batch_counters_do_not_count() -> None:
    model, trained = pair(), pair()
    trained[1].num_batches_tracked.fill_(1000)
    assert hash_weights(model) == hash_weights(trained)


def test_fingerprint__fields(backbone: Backbone) -> None:
    assert dict(backbone.fingerprint("float16").fields) == {
        "architecture": "resnet18",
        "architecture.channels": [64, 16, 16, 24],
        "weights": backbone.weights_hash,
        "pooling": "average",
        "decoding": DECODING,
        "dim": NARROW_DIM,
        "dtype": "float16",
        "preprocess.resize": 64,
        "preprocess.crop": 64,
        "preprocess.interpolation": "bilinear",
        "preprocess.mode": "center",
        "preprocess.mean": [0.485, 0.456, 0.406],
        "preprocess.std": [0.229, 0.224, 0.225],
    }


def test_fingerprint__what_changes_it(backbone: Backbone, weights: Path) -> None:
    again = load_backbone(replace(small("supervised"), name="mine", licence="none"), weights=weights)
    assert again.fingerprint("float32").digest == backbone.fingerprint("float32").digest
    assert backbone.fingerprint("float16").digest != backbone.fingerprint("float32").digest
    bicubic = replace(small("supervised"), preprocess=replace(SMALL, interpolation="bicubic"))
    differences = (
        load_backbone(bicubic, weights=weights).fingerprint("float32").differences(again.fingerprint("float32"))
    )
    assert differences == [("preprocess.interpolation", "bicubic", "bilinear")]


def test_fingerprint__architecture_arguments_and_untagged_architecture(pixels: Tensor) -> None:
    spec = small("random", "vit_tiny_patch16_224.augreg_in21k", img_size=64, depth=1)
    fields = load_backbone(spec).fingerprint("float32").fields
    assert fields["architecture"] == "vit_tiny_patch16_224"
    assert (fields["architecture.img_size"], fields["architecture.depth"]) == (64, 1)


def test_build_model__has_no_classifier(weights: Path) -> None:
    model = build_model(small("supervised"), weights).model
    images = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.eval().forward_features(images)
        assert torch.equal(model(images), adaptive_avg_pool2d(features, 1).flatten(1))


def test_embed__no_autocast_of_the_host_program(backbone: Backbone, pixels: Tensor) -> None:
    expected = backbone.embed(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = backbone.embed(pixels)
    assert torch.equal(found, expected)
