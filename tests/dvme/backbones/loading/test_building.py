"""From a spec to a model: which source takes a file, and what the account of it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from small_networks import NARROW
from torch import Tensor, nn

from dvme.backbones import BackboneSpec, Checkpoint, Preprocess, get_spec
from dvme.backbones.description.variation import vary
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import hash_weights, load_backbone
from dvme.errors import CheckpointError, OptionError, WeightsError

SMALL = Preprocess(resize=64, crop=64)


class Net(nn.Module):
    """A user's own: a convolution with random weights, and the means of its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, stride=4)
        self.norm = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.9)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.drop(self.norm(self.stem(images)).relu()).mean(dim=(2, 3))
        return features


def built(**changes: Any) -> BackboneSpec:
    fields: dict[str, Any] = {
        "name": "net",
        "method": "ours",
        "architecture": "net",
        "dim": 5,
        "pooling": "model",
        "preprocess": SMALL,
        "checkpoint": None,
        "source": "built",
        "licence": "MIT",
        "paper": "ours",
        "build": Net,
    }
    return BackboneSpec(**fields | changes)


def random(architecture: str = "resnet18", **arguments: Any) -> BackboneSpec:
    return replace(
        get_spec("random"), architecture=architecture, architecture_args=arguments, dim=None, preprocess=SMALL
    )


@pytest.mark.parametrize(
    ("spec", "what"),
    [(built(), "net brings its own weights and takes"), (random(), "random is untrained and takes")],
)
def test_build_model__takes_no_weights(spec: BackboneSpec, what: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(OptionError) as caught:
        build_model(spec, tmp_path / "w.pth")
    assert str(caught.value) == f"{what} no weights; drop weights={{'{spec.name}': '{tmp_path / 'w.pth'}'}}"


def test_build_model__built_module_runs(pixels: Tensor, normalised: Callable[..., Tensor]) -> None:
    loaded = build_model(built())
    assert (loaded.path, loaded.used, loaded.left_over) == (None, [], [])
    backbone = load_backbone(built())
    assert hash_weights(loaded.model) == backbone.weights_hash  # the same random weights every time
    with torch.inference_mode():
        expected = loaded.model.eval()(normalised(pixels, SMALL))
    torch.testing.assert_close(backbone.embed(pixels), expected, rtol=0, atol=1e-5)
    assert backbone.fingerprint("float32").fields["architecture"] == "net"


def test_build_model__built_module_for_grey_input(pixels: Tensor) -> None:
    spec = vary(built(), {"in-chans": "1"})
    original, grey = build_model(built()).model.eval(), load_backbone(spec)
    images = (pixels[..., :1].permute(0, 3, 1, 2).float() / 255 - 0.449) / 0.226
    with torch.inference_mode():
        expected = original(images.repeat(1, 3, 1, 1))
    torch.testing.assert_close(grey.embed(pixels[..., :1]), expected, rtol=0, atol=1e-5)


def test_build_model__built_module_pools_on_its_own() -> None:
    with pytest.raises(OptionError, match="net@pool=average pools on its own; choose pool=model"):
        load_backbone(vary(built(), {"pool": "average"}))


def test_build_model__leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = build_model(built()), build_model(built())
    assert torch.equal(torch.get_rng_state(), before)
    assert hash_weights(first.model) == hash_weights(second.model)


def test_load_backbone__another_dimension_than_the_specification_says() -> None:
    with pytest.raises(CheckpointError, match="net gives 5 features, its specification says 7"):
        load_backbone(built(dim=7))


@pytest.mark.parametrize("options", [{"in-chans": "1"}, {"size": "96"}, {"in-chans": "1", "size": "96"}])
def test_build_model__random_weights_for_another_input(options: dict[str, str]) -> None:
    published = random("vit_tiny_patch16_224", img_size=64, depth=2)
    spec = vary(published, options)
    size, channels = spec.preprocess.crop, spec.preprocess.channels
    plain, adapted = build_model(published).model.eval(), build_model(spec).model.eval()
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(3))
    if size != 64:
        plain.set_input_size(img_size=(size, size))  # type: ignore[operator]
    with torch.inference_mode():
        expected = plain(images if channels == 3 else images.repeat(1, 3, 1, 1))
        found = adapted(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert load_backbone(spec).dim == 192


def test_build_model__account_of_the_file(randomise: Callable[..., Any], tmp_path: Path) -> None:
    state = randomise(timm.create_model("resnet18", **NARROW)).state_dict()
    torch.save(state, tmp_path / "w.pth")
    checkpoint = Checkpoint(filename="w.pth", url="", keep=r"(?!fc\.)", drop=r"fc\.")
    spec = replace(random(**NARROW), name="net", source="checkpoint", checkpoint=checkpoint)
    loaded = build_model(spec, tmp_path / "w.pth")
    assert loaded.path == tmp_path / "w.pth"
    assert loaded.used == [key for key in state if not key.startswith("fc.")]
    assert loaded.left_over == ["fc.weight", "fc.bias"]
    assert all(torch.equal(loaded.model.state_dict()[key], state[key]) for key in loaded.used)


def test_build_model__timm_file_has_no_leftovers(randomise: Callable[..., Any], tmp_path: Path) -> None:
    state = randomise(timm.create_model("resnet18", **NARROW)).state_dict()
    torch.save(state, tmp_path / "w.pth")
    spec = replace(get_spec("timm:resnet18.a1_in1k@size=64"), architecture_args=NARROW)
    loaded = build_model(spec, tmp_path / "w.pth")
    assert (set(loaded.used), loaded.left_over) == (set(state), [])


@pytest.mark.parametrize("place", ["missing.pth", "."])
def test_build_model__file_that_is_not_there(place: str, tmp_path: Path) -> None:
    for name in ("supervised", "timm:resnet18"):
        with pytest.raises(WeightsError) as caught:
            build_model(get_spec(name), tmp_path / place)
        assert str(caught.value).startswith(f"weights={{'{name}': '{tmp_path / place}'}}: ")


def test_build_model__weights_are_adapted_after_they_were_loaded(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """The file has three channels and the published size, whatever the input will be."""
    arguments = {"img_size": 64, "depth": 2}
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    spec = replace(
        random("vit_tiny_patch16_224", **arguments),
        name="net",
        source="checkpoint",
        checkpoint=Checkpoint(filename="w.pth", url=""),
    )
    adapted = build_model(vary(spec, {"in-chans": "1", "size": "32"}), tmp_path / "w.pth").model.eval()
    model.set_input_size(img_size=(32, 32))
    grey = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = model(grey.repeat(1, 3, 1, 1))
        torch.testing.assert_close(adapted(grey), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
