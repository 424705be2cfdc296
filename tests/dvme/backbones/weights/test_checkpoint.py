from __future__ import annotations

import argparse
import os
import warnings
from collections import OrderedDict
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

from dvme.backbones import BackboneSpec, Checkpoint, Layout, Preprocess, get_spec
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.model.preprocess import crop_image
from dvme.backbones.weights.checkpoint import fit_keys, read_checkpoint
from dvme.backbones.weights.finding import find_weights
from dvme.errors import CheckpointError

State = dict[str, Tensor]
SHALLOW: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 512)}
CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def without_classifier(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def as_supervised(state: State) -> Any:
    return OrderedDict(state)


def as_swav(state: State) -> Any:
    """Fields of DistributedDataParallel, with the projection head and the prototypes."""
    head = {
        "projection_head.0.weight": torch.zeros(8, 8),
        "projection_head.0.bias": torch.zeros(8),
        "projection_head.1.running_mean": torch.zeros(8),
        "projection_head.1.num_batches_tracked": torch.tensor(3),
        "projection_head.3.weight": torch.zeros(4, 8),
        "prototypes.weight": torch.zeros(3, 4),
    }
    return prefixed(without_classifier(state) | head, "module.")


def as_nested_swav(state: State) -> Any:
    return {"epoch": 800, "state_dict": as_swav(state)}


def as_simclr(state: State) -> Any:
    """VISSL's nesting; the heads are the trunk's siblings."""
    trunk = prefixed(without_classifier(state), "_feature_blocks.")
    heads = {"0.clf.0.weight": torch.zeros(128, 2048)}
    base_model = {"model": {"trunk": trunk, "heads": heads}, "meta": {"name": "simclr"}}
    return {"phase_idx": 999, "classy_state_dict": {"train": True, "base_model": base_model}}


LAYOUTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "supervised": ("supervised", as_supervised),
    "swav": ("swav", as_swav),
    "swav nested": ("swav", as_nested_swav),
    "simclr": ("simclr", as_simclr),
}


@pytest.fixture(scope="module")
def resnet50(randomise: Callable[..., Any]) -> Any:
    """With its classifier, as published, but a block for each stage and few channels in the first ones."""
    return randomise(timm.create_model("resnet50", **SHALLOW))


@pytest.fixture(scope="module")
def resnet18(randomise: Callable[..., Any]) -> State:
    """The state dict of a small stand-in."""
    state: State = dict(randomise(timm.create_model("resnet18", **NARROW)).state_dict())
    return state


def on_64_pixels(spec: BackboneSpec) -> BackboneSpec:
    """The same backbone on small images, for speed."""
    return replace(spec, preprocess=replace(spec.preprocess, resize=64, crop=64))


def small(name: str) -> BackboneSpec:
    """The spec with its own key rules, but a small architecture."""
    return replace(get_spec(name), architecture="resnet18", architecture_args=NARROW, dim=NARROW_DIM)


def refusal(content: Any, spec: BackboneSpec, tmp_path: Path) -> str:
    """The one line with which a checkpoint is refused, through the file."""
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        build_model(spec, path)
    text = str(caught.value)
    assert text.startswith(f"{spec.name}: {path} does not fit: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_load_backbone__published_layouts_of_resnet50(
    layout: str, resnet50: Any, pixels: Tensor, normalised: Callable[..., Tensor], tmp_path: Path
) -> None:
    name, published = LAYOUTS[layout]
    spec = replace(on_64_pixels(get_spec(name)), architecture_args=SHALLOW)
    path = tmp_path / "weights.pth"
    torch.save(published(resnet50.state_dict()), path)
    found = load_backbone(spec, weights=path).embed(pixels)
    with torch.inference_mode():
        images = normalised(pixels, spec.preprocess)
        expected = resnet50.forward_head(resnet50.forward_features(images), pre_logits=True)
    assert found.shape == (2, 2048)
    assert found.dtype == torch.float32
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)
    assert float((expected[0] - expected[1]).abs().max()) > 0.01 * scale


def test_load_backbone__torchvision_is_the_publisher_of_supervised(
    pixels: Tensor, normalised: Callable[..., Tensor], randomise: Callable[..., Any], tmp_path: Path
) -> None:
    from torchvision.models import resnet50

    model = randomise(resnet50(), seed=1)
    path = tmp_path / "resnet50-0676ba61.pth"
    torch.save(model.state_dict(), path)
    spec = on_64_pixels(get_spec("supervised"))
    found = load_backbone(spec, weights=path).embed(pixels[:1])
    model.fc = nn.Identity()
    with torch.inference_mode():
        expected = model(normalised(pixels[:1], spec.preprocess))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_load_backbone__published_layout_of_dino(
    pixels: Tensor, normalised: Callable[..., Tensor], randomise: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = {"img_size": 64, "depth": 5}
    spec = replace(on_64_pixels(get_spec("dino")), architecture_args=arguments)
    model = randomise(timm.create_model(spec.architecture, num_classes=0, **arguments))
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    found = load_backbone(spec, weights=path).embed(pixels)
    with torch.inference_mode():
        expected = model(normalised(pixels, spec.preprocess))  # the last block's class token
    assert found.shape == (2, 1536)
    torch.testing.assert_close(found[:, -384:], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_build_model__dino_in_full_size(tmp_path: Path) -> None:
    spec = get_spec("dino")
    model = timm.create_model(spec.architecture, num_classes=0)
    state = model.state_dict()
    assert len(state) == 150  # as in the file of the publisher
    torch.save(state, tmp_path / "weights.pth")
    loaded = build_model(spec, tmp_path / "weights.pth").model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fit_keys__weights_arrive_in_their_places(layout: str, resnet18: State, tmp_path: Path) -> None:
    name, published = LAYOUTS[layout]
    path = tmp_path / "weights.pth"
    torch.save(published(resnet18), path)
    loaded = build_model(small(name), path).model.state_dict()
    assert list(loaded) == list(without_classifier(resnet18))
    assert all(torch.equal(value, resnet18[key]) for key, value in loaded.items())


def test_fit_keys__file_without_batch_counters(resnet18: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in resnet18.items() if not key.endswith("num_batches_tracked")}, path)
    loaded = build_model(small("supervised"), path).model.state_dict()
    assert torch.equal(loaded["layer4.1.bn2.running_var"], resnet18["layer4.1.bn2.running_var"])
    assert int(loaded["bn1.num_batches_tracked"]) == 0


@pytest.mark.parametrize("name", ["supervised", "swav", "simclr"])
def test_fit_keys__missing_key(name: str, resnet18: State, tmp_path: Path) -> None:
    state = {key: value for key, value in resnet18.items() if key != "layer4.1.conv2.weight"}
    text = refusal(LAYOUTS[name][1](state), small(name), tmp_path)
    assert "missing keys layer4.1.conv2.weight; is it the file" in text


@pytest.mark.parametrize(
    ("name", "stranger"),
    [
        ("supervised", "decoder.weight"),
        ("swav", "decoder.weight"),
        ("swav", "module.decoder.weight"),
        ("simclr", "decoder.weight"),
        ("simclr", "_feature_blocks.decoder.weight"),
    ],
)
def test_fit_keys__unexpected_key(name: str, stranger: str, resnet18: State, tmp_path: Path) -> None:
    content = LAYOUTS[name][1](resnet18)
    state = content["classy_state_dict"]["base_model"]["model"]["trunk"] if name == "simclr" else content
    state[stranger] = torch.zeros(1)
    assert "unexpected keys " in (text := refusal(content, small(name), tmp_path))
    assert "decoder.weight" in text


def test_fit_keys__wrong_shape(resnet18: State, tmp_path: Path) -> None:
    state = resnet18 | {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    text = refusal(state, small("supervised"), tmp_path)
    assert "wrong shapes layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 64, 3, 3)" in text


def test_fit_keys__other_architecture(resnet18: State, tmp_path: Path) -> None:
    text = refusal(resnet18, get_spec("supervised"), tmp_path)
    assert "missing keys layer1.0.conv3.weight" in text
    assert "wrong shapes " in text
    assert " in all)" in text


@pytest.mark.parametrize("name", ["supervised", "swav", "simclr"])
def test_fit_keys__renamed_last_stage(name: str, resnet18: State, tmp_path: Path) -> None:
    state = {key.replace("layer4.", "stage4."): value for key, value in resnet18.items()}
    text = refusal(LAYOUTS[name][1](state), small(name), tmp_path)
    assert "missing keys layer4.0.conv1.weight" in text
    assert "unexpected keys stage4.0.conv1.weight" in text


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("supervised", as_nested_swav, "epoch, state_dict are not tensors; it is nested differently"),
        ("supervised", as_swav, "missing keys conv1.weight"),
        ("swav", as_supervised, "unexpected keys conv1.weight"),
        ("swav", lambda state: {"model": as_swav(state)}, "model are not tensors"),
        ("simclr", as_supervised, "no 'classy_state_dict' on the way to classy_state_dict.base_model.model.trunk"),
        ("simclr", lambda state: as_simclr(state)["classy_state_dict"], "it holds train, base_model"),
        ("simclr", lambda _: {"classy_state_dict": {"base_model": 3}}, "no 'model' on the way"),
        ("dino", lambda state: {"teacher": state, "student": state}, "unexpected keys conv1.weight"),
        ("dino", lambda state: prefixed(state, "backbone."), "unexpected keys backbone.conv1.weight"),
        ("supervised", lambda _: {}, "it holds no state dict"),
        ("swav", lambda _: {"state_dict": {}}, "it holds no state dict"),
        ("supervised", lambda _: [torch.zeros(1)], "it holds no state dict"),
        ("supervised", lambda _: torch.zeros(1), "it holds no state dict"),
    ],
)
def test_fit_keys__wrong_nesting(
    name: str, wrong: Callable[[State], Any], says: str, resnet18: State, tmp_path: Path
) -> None:
    assert says in refusal(wrong(resnet18), small(name), tmp_path)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_read_checkpoint__code_is_not_executed(is_zip: bool, tmp_path: Path) -> None:
    path, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    torch.save({"state_dict": {}, "x": Trap(sprung)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=r"never runs code from a file; dvme backbones convert "):
        read_checkpoint(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap works


def test_read_checkpoint__pickled_namespace(resnet18: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": resnet18, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_backbone(small("supervised"), weights=path)
    assert f"{path} is not a plain checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_read_checkpoint__truncated(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {f"layer{index}.weight": torch.ones(64, 64) for index in range(8)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_checkpoint__truncated_before_torch_1_6(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(
        {f"layer{index}.weight": torch.ones(4, 4) for index in range(4)}, path, _use_new_zipfile_serialization=False
    )
    data = path.read_bytes()
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        bytes(64),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_read_checkpoint__not_a_checkpoint(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_read_checkpoint__every_format(kind: str, tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth.tar")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    found = read_checkpoint(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


BY_POSITION = Checkpoint(filename="x.pth", url="", match="position")


def ported() -> tuple[State, State]:
    """(a port's tensors under other names, the target's) of convolution, normalisation, classifier."""
    target = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).state_dict()
    names = ["stem.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "top.weight", "top.bias"]
    values = [value for key, value in target.items() if not key.endswith("num_batches_tracked")]
    return {name: value + 1.0 for name, value in zip(names, values, strict=True)}, dict(target)


def test_fit_keys__by_position() -> None:
    theirs, target = ported()
    fitted = fit_keys(theirs, BY_POSITION, target, source="port").state
    assert fitted.keys() == target.keys()
    assert torch.equal(fitted["0.weight"], target["0.weight"] + 1.0)
    assert torch.equal(fitted["1.running_var"], torch.full((4,), 2.0))
    assert torch.equal(fitted["2.bias"], target["2.bias"] + 1.0)
    assert int(fitted["1.num_batches_tracked"]) == 0


def test_fit_keys__by_position_ignores_batch_counters() -> None:
    theirs, target = ported()
    with_counter = {"counter.num_batches_tracked": torch.tensor(9)} | theirs
    fitted = fit_keys(with_counter, BY_POSITION, target, source="port").state
    assert torch.equal(fitted["2.weight"], theirs["top.weight"])


@pytest.mark.parametrize(("first", "second"), [("stem.weight", "top.weight"), ("bn.weight", "bn.bias")])
def test_fit_keys__by_position_swapped_order(first: str, second: str) -> None:
    theirs, target = ported()
    order = {first: second, second: first}
    swapped = {order.get(name, name): theirs[order.get(name, name)] for name in theirs}
    with pytest.raises(CheckpointError, match=rf"port does not fit: wrong order {second} "):
        fit_keys(swapped, BY_POSITION, target, source="port")


def test_fit_keys__by_position_wrong_count() -> None:
    theirs, target = ported()
    with pytest.raises(CheckpointError, match="8 tensors where the architecture has 7"):
        fit_keys(theirs | {"more.weight": torch.zeros(1)}, BY_POSITION, target, source="port")
    del theirs["top.bias"]
    with pytest.raises(CheckpointError, match="6 tensors where the architecture has 7"):
        fit_keys(theirs, BY_POSITION, target, source="port")


@pytest.fixture(scope="module")
def cat() -> Any:
    """A photograph of a cat, 451 x 300."""
    from PIL import Image
    from skimage.data import chelsea

    return Image.fromarray(chelsea())


def cropped(image: Any, preprocess: Preprocess) -> Tensor:
    return torch.from_numpy(crop_image(image, preprocess).copy())[None]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_fit_keys__real_weights_recognise_a_cat(index: int, cat: Any, normalised: Callable[..., Tensor]) -> None:
    spec = get_spec(f"efficientnet-lite{index}")
    path = find_weights(spec)
    assert path is not None
    model = timm.create_model(spec.architecture).eval()
    assert model.num_classes == 1000
    everything = Checkpoint(filename=path.name, url="", keep="", drop=None, match="position")
    model.load_state_dict(fit_keys(read_checkpoint(path), everything, model.state_dict(), source=path.name).state)
    with torch.inference_mode():
        scores = model(normalised(cropped(cat, spec.preprocess), spec.preprocess))
    assert int(scores.argmax()) in CATS


@pytest.mark.parametrize("index", [0, 1, 2])
def test_load_backbone__real_embedding_and_published_classifier_recognise_a_cat(index: int, cat: Any) -> None:
    spec = get_spec(f"efficientnet-lite{index}")
    path = find_weights(spec)
    assert path is not None
    published = torch.load(path, weights_only=True)
    embedding = load_backbone(spec).embed(cropped(cat, spec.preprocess))
    assert embedding.shape == (1, 1280)
    scores = embedding @ published["_fc.weight"].T + published["_fc.bias"]
    assert int(scores.argmax()) in CATS


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64, torch.bool])
@pytest.mark.parametrize("match", ["name", "position"])
def test_fit_keys__other_kinds_of_numbers(match: Any, dtype: torch.dtype) -> None:
    target = {"a.weight": torch.ones(2), "a.num_batches_tracked": torch.tensor(0)}
    layout = Layout(match=match)
    with pytest.raises(CheckpointError, match=f"wrong kinds of numbers a.weight {str(dtype)[6:]} instead of float32"):
        fit_keys({"a.weight": torch.ones(2).to(dtype)}, layout, target, source="x")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fit_keys__floats_of_any_width(dtype: torch.dtype) -> None:
    target = {"weight": torch.ones(2), "num_batches_tracked": torch.tensor(0)}
    content = {"weight": torch.ones(2, dtype=dtype), "num_batches_tracked": torch.tensor(3.0)}
    assert fit_keys(content, Layout(), target, source="x").state["weight"].dtype == dtype


def test_fit_keys__sparse_and_quantised() -> None:
    target = {"weight": torch.ones(2)}
    for odd, kind in ((torch.ones(2).to_sparse(), "sparse coo float32"), (quantised(), "qint8")):
        with pytest.raises(CheckpointError, match=f"weight {kind} instead of float32"):
            fit_keys({"weight": odd}, Layout(), target, source="x")


def quantised() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
