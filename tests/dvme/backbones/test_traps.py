"""What goes wrong in silence with published checkpoints, protocols and timm, one test per trap.

Where the trap is another library's, the test first shows that it is still there, and then that dvme is not in it.
"""

from __future__ import annotations

import logging
import math
import re
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small_networks import NARROW, NARROW_DIM
from timm.data import create_transform, resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50, wide_resnet50_2

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.description.spec import Pooling
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.architectures import create
from dvme.backbones.model.pooling import POOLS
from dvme.backbones.model.preprocess import crop_image
from dvme.backbones.weights.checkpoint import fit_checkpoint, read_checkpoint
from dvme.backbones.weights.finding import download_folder
from dvme.backbones.zoo import ZOO
from dvme.errors import CheckpointError, OptionError
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.neighbours.knn import KNN
from dvme.heads.neighbours.votes import votes

from .zoo.catalogue import FILES, PUBLISHED
from .zoo.published import COUNTER, PublishedFile, State, blank, normal, resnet, vit
from .zoo.references import vit_tokens

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SMALL_VIT = {"embed_dim": 48, "depth": 6, "num_heads": 6, "img_size": 64}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Noise is the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def filled(file: PublishedFile, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return file.state(lambda row: normal(row, generator))


def small_resnet(state_of: Callable[[nn.Module], nn.Module]) -> State:
    """A narrow ResNet-18 with its classifier: names as in ResNet-50, but small."""
    return dict(state_of(timm.create_model("resnet18", **NARROW)).state_dict())


def small(name: str) -> BackboneSpec:
    """A ResNet's spec with its own key rules, but a small architecture and small images."""
    spec = get_spec(name)
    return replace(
        spec,
        architecture="resnet18",
        architecture_args=NARROW,
        dim=NARROW_DIM,
        preprocess=replace(spec.preprocess, resize=64, crop=64),
    )


def fit(name: str, content: Any) -> State:
    """A file's tensors, for an architecture without content."""
    spec = get_spec(name)
    assert spec.checkpoint is not None
    with torch.device("meta"):
        target = create(spec).state_dict()
    return fit_checkpoint(content, spec.checkpoint, target, source=name).state


def pooled(model: nn.Module, pooling: Pooling, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return POOLS[pooling](model.eval(), images)


@pytest.fixture
def tiny_vit(randomise: Callable[..., Any]) -> Any:
    return randomise(timm.create_model("vit_small_patch8_224", num_classes=0, **SMALL_VIT))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def apart(first: Tensor, second: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((first - second).abs().max() / first.abs().max())


# A1: the target models


def test_trap__timm_and_torchvision_resnet50_are_one(randomise: Callable[..., Any]) -> None:
    theirs, ours = randomise(resnet50()), timm.create_model("resnet50").eval()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    assert len(ours.state_dict()) == 320
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(theirs(images), ours(images))
    with torch.device("meta"):
        assert len(create(get_spec("supervised")).state_dict()) == 318


def test_trap__missing_num_batches_tracked(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """Weights from TensorFlow and JAX have no counters. torch minds only if the dictionary says that it is torch's."""
    state = small_resnet(randomise)
    plain = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    model = timm.create_model("resnet18", **NARROW)
    model.load_state_dict(plain, strict=True)
    marked = OrderedDict(plain)
    marked._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=COUNTER):
        model.load_state_dict(marked, strict=True)
    torch.save(marked, tmp_path / "weights.pth")
    loaded = build_model(small("supervised"), tmp_path / "weights.pth").model.state_dict()
    assert torch.equal(loaded["layer4.1.bn2.running_var"], state["layer4.1.bn2.running_var"])


def test_trap__state_dict_metadata(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """It survives saving and loading, and would go on to decide what is missing."""
    model = randomise(timm.create_model("resnet18", **NARROW))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    content = read_checkpoint(tmp_path / "weights.pth")
    assert content._metadata["bn1"] == {"version": 2}
    spec = small("supervised")
    assert spec.checkpoint is not None
    fitted = fit_checkpoint(content, spec.checkpoint, create(spec).state_dict(), source="x").state
    assert type(fitted) is dict
    assert not hasattr(fitted, "_metadata")


def test_trap__dino_names_are_timms() -> None:
    with torch.device("meta"):
        for name, patch, dim in (("dino", 8, 384), ("dino-vits16", 16, 384), ("dino-vitb8", 8, 768)):
            shapes = {key: tuple(value.shape) for key, value in create(get_spec(name)).state_dict().items()}
            assert shapes == {row.name: row.shape for row in vit(dim, patch=patch)}
            assert len(shapes) == 150


def test_trap__swav_odd_stem_equals_pad_3() -> None:
    images, weight = torch.randn(1, 3, 33, 33), torch.randn(4, 3, 7, 7)
    swav = functional.conv2d(nn.ConstantPad2d(1, 0.0)(images), weight, stride=2, padding=2)
    assert float((swav - functional.conv2d(images, weight, stride=2, padding=3)).abs().max()) == 0.0
    assert get_spec("swav").architecture == "resnet50"


def test_trap__same_padding_differs_on_most_outputs() -> None:
    """TensorFlow's maximum pooling looks at other pixels than PyTorch's."""
    noise = torch.randn(1, 16, 112, 112, generator=torch.Generator().manual_seed(0))
    usual = functional.max_pool2d(noise, 3, stride=2, padding=1)
    same = functional.max_pool2d(functional.pad(noise, (0, 1, 0, 1), value=-math.inf), 3, stride=2)
    assert float((usual != same).float().mean()) == pytest.approx(0.71, abs=0.03)
    for name in ("simclr-v1", "simclr-v2", "byol"):
        stem = create(get_spec(name)).stem
        with torch.inference_mode():
            assert torch.equal(stem.pool(noise), same), name


def test_trap__simclr_pads_its_convolutions_symmetrically_but_byol_does_not() -> None:
    noise = torch.randn(1, 3, 64, 64)
    for name, pads in (("simclr-v1", (3, 3)), ("simclr-v2", (3, 3)), ("byol", (2, 3))):
        convolution = create(get_spec(name)).stem.conv
        before, after = pads
        padded = functional.pad(noise, (before, after, before, after))
        with torch.inference_mode():
            expected = functional.conv2d(padded, convolution.weight, stride=2)
            torch.testing.assert_close(convolution(noise), expected, rtol=0, atol=1e-5)


def test_trap__residual_networks_stride_in_the_3x3_convolution() -> None:
    """Version 1.5; of version 1 the same weights give other features."""
    resnets = {spec.architecture for spec in ZOO if "resnet" in spec.architecture}
    assert resnets == {"resnet50", "resnet50_same_pool", "resnet152_same_pool", "resnet50_same"}
    for architecture in resnets:
        with torch.device("meta"):
            model = create(replace(get_spec("random"), architecture=architecture))
        block = model.get_submodule("layer2.0" if architecture == "resnet50" else "stages.1.blocks.0")
        assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


# A2: files of ResNets


def test_trap__wide_resnet_is_not_torchvisions_wide() -> None:
    """torchvision widens bottlenecks alone; SimCLR widens every channel, and has twice the features."""
    with torch.device("meta"):
        theirs, ours = wide_resnet50_2(), create(get_spec("simclr-v1-2x"))
    assert theirs.fc.in_features == 2048
    assert ours.num_features == 4096
    assert theirs.conv1.out_channels == 64
    assert ours.stem.conv.out_channels == 128
    with pytest.raises(CheckpointError, match="wrong shapes"):
        fit("simclr-v1-2x", {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})


def test_trap__two_vissl_files_share_a_name() -> None:
    """In one download folder one would be taken for the other."""
    first, second = get_spec("simclr-800ep").checkpoint, get_spec("pirl-vissl").checkpoint
    assert first is not None
    assert second is not None
    assert first.filename == second.filename == "model_final_checkpoint_phase799.torch"
    assert len({first.local_name, second.local_name, first.filename}) == 3


def test_trap__no_two_files_share_a_place_in_the_download_folder() -> None:
    """Nor does any take the name of another's publication: `resnet50.pth` and `checkpoint.pth` are too common."""
    local = [spec.checkpoint.local_name for spec in ZOO if spec.checkpoint is not None]
    assert len(set(local)) == len(local)
    ambiguous = {"resnet50.pth", "checkpoint.pth", "model.ckpt-250228", "model_final_checkpoint_phase799.torch"}
    assert not ambiguous & set(local)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in local)
    assert download_folder().name == "checkpoints"


def test_trap__swav_standard_deviation_0228() -> None:
    for name in ("swav", "deepcluster-v2", "sela-v2"):
        assert get_spec(name).preprocess.std == (0.228, 0.224, 0.225)
    others = [spec for spec in ZOO if spec.name not in {"swav", "deepcluster-v2", "sela-v2"}]
    assert all(spec.preprocess.std[0] != 0.228 for spec in others)


def test_trap__inat_swav_is_nested_and_facebooks_is_not() -> None:
    flat, nested = PUBLISHED["swav"], PUBLISHED["inat2021-mini-swav"]
    assert fit("swav", flat.state()).keys() == fit("inat2021-mini-swav", nested.wrap(nested.state())).keys()
    with pytest.raises(CheckpointError, match="no 'state_dict' on the way"):
        fit("inat2021-mini-swav", flat.state())


def test_trap__inat_prefix_is_in_one_file_only() -> None:
    prefixes = {name: PUBLISHED[name].prefix for name in PUBLISHED if re.fullmatch("inat2021(-mini)?(-scratch)?", name)}
    assert {name for name, prefix in prefixes.items() if prefix} == {"inat2021-mini-scratch"}
    for name, prefix in prefixes.items():
        state = {f"{prefix}{row.name}": blank(row.shape) for row in resnet()}
        head = {f"{prefix}fc.weight": blank((10_000, 2048)), f"{prefix}fc.bias": blank((10_000,))}
        assert len(fit(name, {"state_dict": state | head})) == 318


def test_trap__moco_has_two_encoders() -> None:
    """The momentum encoder has the same names and shapes, and is not the one that is evaluated."""
    file = PUBLISHED["moco-v2"]
    state = file.state()
    fitted = fit("moco-v2", file.wrap(state))
    assert fitted["conv1.weight"] is state["module.encoder_q.conv1.weight"]
    file = PUBLISHED["moco-v3"]
    state = file.state()
    assert fit("moco-v3", file.wrap(state))["conv1.weight"] is state["module.base_encoder.conv1.weight"]


def test_trap__full_dino_checkpoint_has_a_student() -> None:
    name, file = FILES["dino in full"]
    teacher = file.state()
    content = file.wrap(teacher) | {"student": {f"module.backbone.{row.name}": blank(row.shape) for row in file.rows}}
    assert fit(name, content)["norm.weight"] is teacher["module.backbone.norm.weight"]


def test_trap__barlow_twins_has_no_classifier() -> None:
    """Its authors assert that nothing but the classifier is missing, and that nothing is unexpected."""
    state = PUBLISHED["barlow-twins"].state()
    assert "fc.weight" not in state
    with pytest.raises(CheckpointError, match=r"unexpected keys fc\.weight, fc\.bias"):
        fit("barlow-twins", state | {"fc.weight": blank((1000, 2048)), "fc.bias": blank((1000,))})


def test_trap__weights_only(tmp_path: Path) -> None:
    """A numpy scalar beside the weights is enough for torch to refuse a file; code in it never runs."""
    path = tmp_path / "model_final_checkpoint_phase999.torch"
    content = PUBLISHED["simclr"].wrap({"_feature_blocks.conv1.weight": torch.zeros(1)})
    torch.save(content | {"loss": np.float64(0.1)}, path)
    with pytest.raises(CheckpointError, match="never runs code from a file; dvme backbones convert "):
        read_checkpoint(path)


def test_trap__files_older_than_torch_1_6(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """They are no zip files, and cannot be mapped into memory."""
    path = tmp_path / "weights.pth"
    torch.save(small_resnet(randomise), path, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="mmap"):
        torch.load(path, mmap=True)
    assert build_model(small("supervised"), path).used


def test_trap__simclr_vissl_is_normalised_but_tf_is_not() -> None:
    for name in ("simclr", "simclr-800ep"):
        assert get_spec(name).preprocess.std == (0.229, 0.224, 0.225)
    for spec in ZOO:
        if spec.name.startswith(("simclr-v1", "simclr-v2")):
            assert (spec.preprocess.mean, spec.preprocess.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_trap__licences_that_forbid_commercial_use() -> None:
    forbidden = {spec.name for spec in ZOO if spec.is_non_commercial}
    assert forbidden == {
        *("swav", "deepcluster-v2", "sela-v2", "moco-v3", "moco-v3-vits16", "moco-v3-vitb16", "mae", "rad-dino"),
    }
    for name in ("byol", "inat2021", "inat2021-mini-swav"):
        assert get_spec(name).licence == "not stated"


# A3: files of vision transformers


def test_trap__moco_v3_vit_small_has_twelve_heads(images: Tensor) -> None:
    """Six heads take the same file strictly, and give other features without a word."""
    state = filled(PublishedFile(vit(48, depth=2, n_positions=17)))
    outputs = []
    for heads in (12, 6):
        model = timm.create_model(
            "vit_small_patch16_224", num_classes=0, embed_dim=48, depth=2, img_size=64, num_heads=heads
        ).eval()
        model.load_state_dict(state, strict=True)
        with torch.inference_mode():
            outputs.append(model(images))
    assert apart(*outputs) > 0.01
    with torch.device("meta"):
        assert timm.create_model("vit_small_patch16_224").blocks[0].attn.num_heads == 6
        blocks = create(get_spec("moco-v3-vits16")).blocks
    assert [block.attn.num_heads for block in blocks] == [12] * 12


def test_trap__mae_in_full_has_a_decoder() -> None:
    name, file = FILES["mae with decoder"]
    assert "mask_token" in file.state()
    assert fit(name, file.wrap(file.state())).keys() == fit(name, PUBLISHED[name].wrap(PUBLISHED[name].state())).keys()


def test_trap__dinov2_mask_token_is_no_weight() -> None:
    """timm's plain loading stumbles over it."""
    state = PUBLISHED["dinov2-vits14"].state()
    with torch.device("meta"):
        model = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    with pytest.raises(RuntimeError, match="mask_token"):
        model.load_state_dict(state, strict=True, assign=True)
    assert "mask_token" not in fit("dinov2-vits14", state)


def test_trap__registers_are_no_patches(images: Tensor, randomise: Callable[..., Any]) -> None:
    """They are tokens behind the class token, and belong in no average over patches."""
    arguments = {**SMALL_VIT, "img_size": 70}
    model = randomise(timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, **arguments))
    images = functional.interpolate(images, size=70)
    with torch.inference_mode():
        tokens = model.forward_features(images)
    assert tokens.shape == (2, 1 + 4 + 25, 48)
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1)
    assert apart(pooled(model, "class-and-mean", images), expected) < 1e-6
    assert apart(pooled(model, "average", images), expected[:, 48:]) < 1e-6
    assert apart(tokens[:, 1:].mean(dim=1), expected[:, 48:]) > 1e-3


def test_trap__registers_have_no_position_but_the_class_token_has() -> None:
    file = PUBLISHED["dinov2-vits14-reg"]
    positions, token = torch.randn(1, 1370, 384), torch.randn(1, 1, 384)
    fitted = fit("dinov2-vits14-reg", file.state() | {"pos_embed": positions, "cls_token": token})
    assert torch.equal(fitted["cls_token"], token + positions[:, :1])
    assert torch.equal(fitted["pos_embed"], positions[:, 1:])


def test_trap__dinov3_pools_the_class_token(images: Tensor, randomise: Callable[..., Any]) -> None:
    """timm averages over patches by default."""
    arguments = {"embed_dim": 48, "depth": 2, "num_heads": 6, "num_classes": 0}
    by_default = timm.create_model("vit_small_patch16_dinov3_qkvb", **arguments)
    assert by_default.global_pool == "avg"
    spec = get_spec("dinov3-vits16")
    assert (spec.pooling, spec.architecture_args["global_pool"]) == ("class-token", "token")
    model = randomise(timm.create_model(spec.architecture, **spec.architecture_args, **arguments))
    assert model.num_prefix_tokens == 5
    by_default.load_state_dict(model.state_dict(), strict=True)
    found = pooled(model, "class-token", images)
    with torch.inference_mode():
        assert torch.equal(found, model(images))
        assert apart(found, by_default.eval()(images)) > 0.01


def test_trap__dinov3_biases_are_in_one() -> None:
    """And its fixed rotary periods, masks and mask token are no weights."""
    file = PUBLISHED["dinov3-vits16"]
    assert {"mask_token", "rope_embed.periods", "blocks.0.attn.qkv.bias_mask"} <= set(file.extras or {})
    fitted = fit("dinov3-vits16", file.state())
    assert {"blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "reg_token", "blocks.0.gamma_1"} <= set(fitted)


def test_trap__unverified_files_say_so() -> None:
    """The names in SiT's and RAD-DINO's files are deduced; GMML published none."""
    assert {spec.name for spec in ZOO if not spec.is_verified} == {"sit", "rad-dino"}
    assert all(spec.remark for spec in ZOO if not spec.is_verified)
    assert not [spec for spec in ZOO if spec.method == "gmml"]


def test_trap__timm_has_no_tag_for_most_self_supervised_resnets() -> None:
    tags = " ".join(timm.list_pretrained("resnet50.*"))
    assert not re.search("swav|moco|simclr|byol|barlow|deepcluster|inat", tags)


# A4: preprocessing


def test_trap__dino_resizes_to_256_not_248() -> None:
    model = timm.create_model("vit_small_patch8_224.dino", num_classes=0, depth=1)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    assert transform.transforms[0].size == 248
    for spec in ZOO:
        if spec.method in {"dino", "mae"}:
            assert (spec.preprocess.resize, spec.preprocess.crop) == (256, 224)
            assert spec.preprocess.interpolation == "bicubic"


def test_trap__moco_v3_is_bilinear() -> None:
    """It is a transformer, but not of DINO's authors."""
    for name in ("moco-v3", "moco-v3-vits16", "moco-v3-vitb16"):
        assert get_spec(name).preprocess.interpolation == "bilinear"


def test_trap__torchvisions_second_weights_resize_to_232() -> None:
    assert get_spec("supervised").preprocess.resize == 256
    assert get_spec("supervised-v2").preprocess.resize == 232


def test_trap__dinov3_squashes() -> None:
    """Its authors resize both sides to 256 and crop nothing: the borders of a wide image are seen."""
    image = Image.fromarray(np.repeat([[0] * 100 + [255] * 300 + [0] * 100], 200, axis=0).astype(np.uint8))
    preprocess = get_spec("dinov3-vits16").preprocess
    assert (preprocess.mode, preprocess.resize, preprocess.crop) == ("squash", 256, 256)
    assert crop_image(image, preprocess)[128, [0, 255]].max() == 0
    assert crop_image(image, get_spec("dino").preprocess).min() == 255


def test_trap__rad_dino_has_statistics_of_radiographs() -> None:
    preprocess = get_spec("rad-dino").preprocess
    assert (preprocess.mean, preprocess.std, preprocess.crop) == ((0.5307,) * 3, (0.2583,) * 3, 518)


def test_trap__resolved_input_size_stays_518(randomise: Callable[..., Any]) -> None:
    """timm's configuration still says 518 for a model of 224; DINOv2's authors evaluate at 224."""
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224, depth=1)
    assert resolve_model_data_config(model)["input_size"] == (3, 518, 518)
    assert resolve_model_data_config(model, args={"input_size": (3, 224, 224)})["input_size"] == (3, 224, 224)
    for spec in ZOO:
        if spec.name.startswith("dinov2"):
            assert (spec.preprocess.resize, spec.preprocess.crop) == (256, 224)
    spec = replace(get_spec("dinov2-vits14"), checkpoint=None, source="random", architecture_args={"depth": 1})
    tokens = build_model(spec).model.forward_features(torch.zeros(1, 3, 224, 224))
    assert tokens.shape == (1, 257, 384)


# B: protocols


def test_trap__class_tokens_need_norm_and_prefix(tiny_vit: Any, images: Tensor) -> None:
    """timm's defaults give patches, not normalised, as maps."""
    with torch.inference_mode():
        by_default = tiny_vit.forward_intermediates(images, indices=4, intermediates_only=True)
        blocks = vit_tokens(tiny_vit.state_dict(), images, heads=6)
    assert [tuple(value.shape) for value in by_default] == [(2, 48, 8, 8)] * 4
    assert apart(blocks[-1][:, 1:].transpose(1, 2).reshape(2, 48, 8, 8), by_default[-1]) > 0.1
    expected = torch.cat([block[:, 0] for block in blocks[2:]], dim=1)  # oldest first
    assert apart(pooled(tiny_vit, "class-token-last-4", images), expected) < 1e-5


def test_trap__class_token_is_the_first_of_the_prefix(images: Tensor, randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, embed_dim=48, depth=5))
    with torch.inference_mode():
        last = model.forward_intermediates(
            images, indices=1, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
        )
    assert last[0][1].shape == (2, 5, 48)
    found = pooled(model, "class-token-last-4", images)
    assert found.shape == (2, 4 * 48)
    assert torch.equal(found[:, -48:], last[0][1][:, 0])


def test_trap__interleaved_class_and_mean_is_a_permutation(tiny_vit: Any, images: Tensor) -> None:
    """DINO stacks the two on a new last axis: the same numbers in another order, and the same linear probe."""
    with torch.inference_mode():
        tokens = tiny_vit.forward_features(images)
    dino = torch.stack([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=-1).reshape(2, -1)
    found = pooled(tiny_vit, "class-and-mean", images)
    assert apart(found, dino) > 0.1
    order = torch.arange(96).reshape(48, 2).T.reshape(-1)
    assert torch.equal(found, dino[:, order])
    torch.testing.assert_close(found @ found.T, dino @ dino.T)


def test_trap__dino_neighbours_use_the_last_block_only() -> None:
    """384 features, not the 1536 of the linear protocol; both are one option away from each other."""
    linear, neighbours = get_spec("dino"), get_spec("dino@pool=class-token")
    assert (linear.pooling, linear.dim) == ("class-token-last-4", 1536)
    assert neighbours.pooling == "class-token"
    assert neighbours.name != linear.name


def test_trap__dino_protocols_differ_by_size() -> None:
    """ViT-S: class tokens of four blocks; ViT-B: class token and mean of one. Both happen to be 1536."""
    assert {get_spec(name).pooling for name in ("dino", "dino-vits16")} == {"class-token-last-4"}
    assert {get_spec(name).pooling for name in ("dino-vitb16", "dino-vitb8")} == {"class-and-mean"}
    assert {spec.dim for spec in ZOO if spec.method == "dino" and spec.architecture != "resnet50"} == {1536}


def test_trap__fewer_than_100_test_images_have_neighbours() -> None:
    """DINO's loop steps by a hundredth of the test set, and fails below 100."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    labels = np.arange(60) % 3
    features[:, 0] += 5.0 * labels
    job = Job(KNN(), ("a",), train=np.arange(30), validation=np.arange(30, 40))
    (fitted,) = fit_jobs([job], Embedded({"a": features}, labels, 3))
    assert fitted.predict_proba([features[40:]]).shape == (20, 3)


def test_trap__dino_and_dinov2_votes_agree() -> None:
    """exp(similarity / T) and a softmax over more neighbours than are used choose the same class."""
    rng = np.random.default_rng(0)
    similarities = -np.sort(-rng.uniform(-1, 1, (50, 200)).astype(np.float32), axis=1)
    labels = rng.integers(0, 5, (50, 200))
    weights = torch.softmax(torch.from_numpy(similarities).double() / 0.07, dim=1)[:, :20].numpy()
    tally = np.stack([np.bincount(row, weight, 5) for row, weight in zip(labels[:, :20], weights, strict=True)])
    found = votes(similarities[:, :20], labels[:, :20], 5)
    np.testing.assert_array_equal(found.argmax(axis=1), tally.argmax(axis=1))


# C: timm


def test_trap__timm_loads_renamed_layers_in_silence(
    randomise: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for another number of classes than the file has, timm only logs what it cannot load."""
    state = small_resnet(randomise)
    renamed = {key.replace("layer4.", "stage4."): value for key, value in state.items()}
    path = tmp_path / "weights.pth"
    torch.save(renamed, path)
    with caplog.at_level(logging.ERROR):
        model = timm.create_model(
            "resnet18.a1_in1k", pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(path)}, **NARROW
        )
    loaded = model.state_dict()
    assert torch.equal(loaded["layer3.1.bn2.weight"], state["layer3.1.bn2.weight"])
    assert not torch.equal(loaded["layer4.1.bn2.weight"], state["layer4.1.bn2.weight"])
    for spec in (small("supervised"), replace(get_spec("timm:resnet18.a1_in1k"), architecture_args=NARROW)):
        with pytest.raises(CheckpointError, match=r"layer4\.0\.conv1\.weight"):
            build_model(spec, path)


def test_trap__timm_checkpoint_path_converts_nothing(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """Neither classifiers nor grey input; dvme does both, and still strictly."""
    path = tmp_path / "weights.pth"
    torch.save(small_resnet(randomise), path)
    for arguments in ({"num_classes": 0}, {"in_chans": 1}):
        with pytest.raises(RuntimeError):
            timm.create_model("resnet18", checkpoint_path=str(path), **NARROW, **arguments)
    grey = replace(small("supervised"), preprocess=replace(small("supervised").preprocess, mean=(0.4,), std=(0.2,)))
    assert build_model(grey, path).model.conv1.weight.shape == (64, 1, 7, 7)


def test_trap__in_chans_one_sums(randomise: Callable[..., Any], tmp_path: Path) -> None:
    """As timm does. With a normalisation per channel it is not what three equal channels give."""
    state = small_resnet(randomise)
    torch.save(state, tmp_path / "weights.pth")
    spec = small("supervised")
    grey_spec = replace(spec, preprocess=replace(spec.preprocess, mean=(0.449,), std=(0.226,)))
    model = build_model(grey_spec, tmp_path / "weights.pth").model
    assert torch.equal(model.conv1.weight, state["conv1.weight"].sum(dim=1, keepdim=True))
    overlay = {"state_dict": dict(state)}
    theirs = timm.create_model(
        "resnet18.a1_in1k", pretrained=True, in_chans=1, pretrained_cfg_overlay=overlay, **NARROW
    )
    torch.testing.assert_close(model.conv1.weight, theirs.conv1.weight)
    colour = Backbone(spec, build_model(spec, tmp_path / "weights.pth").model, CPU)
    grey = Backbone(grey_spec, model, CPU)
    pixels = torch.randint(0, 256, (1, 64, 64, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    difference = apart(colour.embed(pixels.expand(-1, -1, -1, 3).contiguous()), grey.embed(pixels))
    assert 1e-4 < difference < 0.5
    grey_name = get_spec("supervised@in-chans=1").name
    assert grey_name != "supervised"


def test_trap__dinov2_resampling_without_antialias() -> None:
    """timm antialiases always; the authors only with registers, and without them by a tenth of a patch too large."""
    assert get_spec("dinov2-vitb14").position_resampling == "dino"
    assert get_spec("dinov2-vitb14-reg").position_resampling == "antialiased"
    assert get_spec("dino").position_resampling == "dino"
    specs = [
        replace(
            get_spec("dinov2-vits14"),
            checkpoint=None,
            source="random",
            architecture_args={"depth": 1},
            position_resampling=resampling,
        )
        for resampling in ("dino", "antialiased")
    ]
    own, timms = (build_model(spec).model.pos_embed.detach() for spec in specs)
    assert own.shape == timms.shape == (1, 257, 384)
    assert torch.equal(own[:, 0], timms[:, 0])
    assert apart(own[:, 1:], timms[:, 1:]) > 0.1


def test_trap__transformers_take_one_size() -> None:
    """Unless told otherwise; dvme tells them, if patches fill the size."""
    spec = replace(get_spec("dino"), checkpoint=None, source="random", architecture_args={"depth": 1, "img_size": 64})
    model = timm.create_model(spec.architecture, num_classes=0, **spec.architecture_args)
    with pytest.raises(AssertionError, match="doesn't match model"):
        model(torch.zeros(1, 3, 96, 96))
    larger = replace(spec, preprocess=replace(spec.preprocess, resize=96, crop=96))
    assert build_model(larger).model(torch.zeros(1, 3, 96, 96)).shape == (1, 384)
    odd = replace(spec, preprocess=replace(spec.preprocess, resize=100, crop=100))
    with pytest.raises(OptionError, match="try 96 or 104"):
        build_model(odd)


def test_trap__pooled_output_is_the_output_without_classifier(images: Tensor, randomise: Callable[..., Any]) -> None:
    resnet18 = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    with torch.inference_mode():
        assert torch.equal(resnet18(images), resnet18.forward_head(resnet18.forward_features(images), pre_logits=True))
        torch.testing.assert_close(pooled(resnet18, "average", images), resnet18(images))


def test_trap__class_token_is_what_timm_gives(tiny_vit: Any, images: Tensor) -> None:
    assert isinstance(tiny_vit, VisionTransformer)
    with torch.inference_mode():
        assert torch.equal(pooled(tiny_vit, "class-token", images), tiny_vit(images))


def test_trap__timm_is_new_enough_for_dinov3() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floor = next(
        re.fullmatch(r"timm>=([\d.]+)", line.split(";")[0]) for line in requirements if line.startswith("timm")
    )
    assert floor is not None
    assert tuple(map(int, floor[1].split("."))) >= (1, 0, 20)
