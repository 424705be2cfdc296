"""The backbone of a fold as files: what extraction loads of them is what training left."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.loading.trainable import Trainable, trainable
from dvme.backbones.own.trained_on import TrainedOn, keys_of_images, read_trained_on
from dvme.errors import OptionError
from dvme.heads.exact.linear import FittedLinear
from dvme.heads.tuned.kept import OwnBackbone
from dvme.heads.tuned.on_images import FittedTuned
from dvme.training.pictures import Pictures

SMALL = Preprocess(resize=36, crop=32)
RANDOM = replace(get_spec("random"), preprocess=SMALL)
VIT = replace(RANDOM, name="vit@size=32", architecture="test_vit", pooling="class-token", dim=64)
IDS = np.random.default_rng(0).integers(0, 255, (9, 16), dtype=np.uint8)
NONE = np.empty(0, dtype=np.uint64)
FIVE = TrainedOn(NONE, np.array([5], dtype=np.uint64))


@pytest.fixture(scope="module")
def vit() -> Trainable:
    return trainable(VIT)


def pictures(spec: BackboneSpec) -> Pictures:
    shape = (4, spec.preprocess.crop, spec.preprocess.crop, spec.preprocess.channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    return Pictures(pixels, pixels)


@pytest.mark.parametrize("spec", [get_spec("efficientnet-lite0@size=32@in-chans=1"), VIT], ids=lambda spec: spec.name)
def test_own_backbone__extraction_loads_what_training_left(spec: BackboneSpec, tmp_path: Path) -> None:
    model, generator = trainable(spec), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.mul_(1.0 + 0.1 * torch.randn(weights.shape, generator=generator))
    head = FittedLinear(np.zeros((model.dim, 2)), np.zeros(2), {})
    expected = FittedTuned(head, model, {}).embed(pictures(spec), np.arange(4))[0]
    own = OwnBackbone.of(model, "finetune", IDS, FIVE, seed=3)
    own.write(tmp_path, 2)
    read = get_spec(str(tmp_path / "fold-2.toml"))
    backbone = load_backbone(read)
    assert backbone.fingerprint("float32") == own.fingerprint
    found = backbone.embed(torch.from_numpy(pictures(spec).crops)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    known = read_trained_on(read)
    assert known.with_labels.tolist() == sorted(keys_of_images(IDS).tolist())
    assert known.without_labels.tolist() == [5]
    assert re.fullmatch(r"[\w.-]+-finetune-[0-9a-f]{8}", read.name)


def test_own_backbone__moved_among_folds_by_links(tmp_path: Path, vit: Trainable) -> None:
    """Put together with others it has another number, and its weights are there once."""
    (tmp_path / "together").mkdir()
    own = OwnBackbone.of(vit, "finetune", IDS, TrainedOn.nothing(), seed=0)
    own.write(tmp_path, 1)
    OwnBackbone.restored(tmp_path, 1, own.described()).write(tmp_path / "together", 4)
    again = OwnBackbone.restored(tmp_path / "together", 4, own.described())
    assert again.fingerprint == own.fingerprint
    assert (tmp_path / "together" / "fold-4.safetensors").samefile(tmp_path / "fold-1.safetensors")
    for name in ("fold-1.safetensors", "fold-1.ids", "fold-1.toml"):
        (tmp_path / name).unlink()
    assert load_backbone(again.spec).fingerprint("float32") == own.fingerprint


def test_own_backbone__two_that_stayed_as_they_were_have_two_names(vit: Trainable) -> None:
    """Of equal weights: what they were chosen on differs."""
    none = TrainedOn.nothing()
    first, second = (OwnBackbone.of(vit, "finetune", ids, none, seed=0) for ids in (IDS, IDS[:5]))
    assert first.fingerprint == second.fingerprint
    assert first.spec.name != second.spec.name


def test_tuned_spec__what_no_name_describes_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    spec = replace(RANDOM, dim=4, pooling="model")
    with pytest.raises(OptionError, match="cannot be described in a file, so that its weights could not be kept"):
        OwnBackbone.of(Trainable(spec, network, torch.device("cpu")), "x", IDS, TrainedOn.nothing(), seed=0)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("heads/finetune--dino@size=32/fold-1.toml", ("heads/finetune--dino@size=32/fold-1.toml", {})),
        ("a@size=3/own.toml@size=64@pool=average", ("a@size=3/own.toml", {"size": "64", "pool": "average"})),
        ("a@size=3/own.py:name@size=64", ("a@size=3/own.py:name", {"size": "64"})),
        ("own.toml.d@size=3", ("own.toml.d", {"size": "3"})),
    ],
)
def test_split_name__folders_may_be_called_after_variations(name: str, parts: tuple[str, dict[str, str]]) -> None:
    assert split_name(name) == parts
