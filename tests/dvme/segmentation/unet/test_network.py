from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import NARROW, NARROW_DIM

from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.loading.trainable import Trainable, trainable
from dvme.errors import EnvironmentMismatchError, OptionError
from dvme.segmentation.unet.images import squashed
from dvme.segmentation.unet.network import arguments_of, built, filled, with_encoder

SIDE = 64
TINY = BackboneSpec(
    name="tiny",
    method="random",
    architecture="resnet18",
    architecture_args=NARROW,
    dim=NARROW_DIM,
    pooling="average",
    preprocess=Preprocess(resize=SIDE, crop=SIDE, mode="squash"),
    checkpoint=None,
    source="random",
    licence="none",
    paper="",
)


class Flat(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.own(images).mean(dim=(2, 3))
        return found


def of_zoo(name: str) -> Trainable:
    """A backbone of the zoo with random weights and statistics, at a small input."""
    model = trainable(squashed(get_spec(name), SIDE), random_seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for each in model.network.buffers():
            if each.is_floating_point():
                each.copy_(0.5 + torch.rand(each.shape, generator=generator))
    return model


def noise(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["supervised", "byol"])
def test_with_encoder__the_last_map_of_a_resnet_is_the_backbones(name: str) -> None:
    model = of_zoo(name)
    encoder: Any = with_encoder(model, 2).network.encoder
    network: Any = model.network
    with torch.no_grad():
        expected = network.forward_features(noise())
        found = encoder.eval()(noise())[-1]
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    own, given = encoder.state_dict(), network.state_dict()
    assert len(own) == len(given), "every tensor of the encoder is one of the backbone's, and none is left over"


def test_with_encoder__is_smps_own_resnet() -> None:
    """The network of Taher et al., from the same weights under torchvision's names."""
    import segmentation_models_pytorch as smp

    own = with_encoder(trainable(replace(TINY, architecture_args={}, dim=512)), 2)
    peer = smp.Unet("resnet18", encoder_weights=None, classes=2).eval()
    state = own.network.state_dict()
    peer.load_state_dict({name.replace("encoder.model.", "encoder."): value for name, value in state.items()})
    with torch.no_grad():
        assert torch.allclose(own.network(noise()), peer(noise()), atol=1e-5)


def test_with_encoder__an_efficientnet_leaves_what_follows_its_last_map() -> None:
    model = of_zoo("efficientnet-lite0")
    encoder: Any = with_encoder(model, 1).network.encoder
    own, given = encoder.state_dict(), model.network.state_dict()
    assert {name.split(".")[0] for name in given} - {name.split(".")[1] for name in own} == {"conv_head", "bn2"}
    assert own["model.conv_stem.weight"].equal(given["conv_stem.weight"])


def test_with_encoder__takes_pixels_as_the_backbone_does_and_gives_logits_of_each() -> None:
    spec = replace(TINY, preprocess=Preprocess(resize=80, crop=80, mode="squash", mean=(0.4,), std=(0.2,)))
    network = with_encoder(trainable(spec), 3)
    pixels = 255.0 * torch.rand(2, 1, 80, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert network(pixels).shape == (2, 3, 80, 80)
        assert torch.allclose(network(pixels), network.network((pixels / 255.0 - 0.4) / 0.2), atol=1e-5)


def test_built__follows_from_its_seed_and_leaves_torchs_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (built(TINY, NARROW, 1, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.random.get_rng_state().equal(before)
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not all(value.equal(other[name]) for name, value in first.items())


def test_with_encoder__refuses_what_has_no_levels() -> None:
    with pytest.raises(OptionError, match="cannot be the encoder of a U-Net: ") as caught:
        with_encoder(trainable(replace(TINY, architecture="vit_tiny_patch16_224", architecture_args={"depth": 1})), 1)
    assert "\n" not in str(caught.value)


def test_filled__refuses_what_the_backbone_lacks() -> None:
    own = {"model.stages_0.weight": torch.zeros(2), "model.own.weight": torch.zeros(2), "model.bias": torch.zeros(3)}
    with pytest.raises(OptionError, match=r"the encoder needs model\.own\.weight, model\.bias, which the backbone l"):
        filled(own, {"stages.0.weight": torch.ones(2), "bias": torch.ones(2)}, "mine")
    assert filled({"model.stages_0.w": torch.zeros(2)}, {"stages.0.w": torch.ones(2), "head": torch.ones(1)}, "mine")


def test_arguments_of__own_code_is_refused() -> None:
    spec = replace(TINY, source="built", build=Flat, pooling="model")
    with pytest.raises(OptionError, match="its architecture is not one that timm builds by name"):
        arguments_of(Trainable(spec, Flat(), torch.device("cpu")))


def test_built__without_smp_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "segmentation_models_pytorch":
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'dvme\[segment\]'"):
        built(TINY, NARROW, 1)
