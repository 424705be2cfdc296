"""Backbones from files in their published layouts, as a user types it."""

from __future__ import annotations

import json
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck
from typer.testing import CliRunner

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.loading import registry
from dvme.backbones.loading.building import build_model
from dvme.data.encoded import Encoded
from dvme.data.reading import Reading
from dvme.extraction import decoding
from dvme_cache import EmbeddingCache
from dvme_cli.app import app

N_IMAGES = 3
State = dict[str, Tensor]
Arguments = dict[str, Any]


FULL: tuple[Arguments, Arguments] = {"layers": (3, 4, 6, 3)}, {"depth": 12}
SHALLOW: tuple[Arguments, Arguments] = {"layers": (1, 1, 1, 1)}, {"depth": 4}
"""Of a ResNet-50 and of a transformer."""


def resnet(seed: int, blocks: Sequence[int]) -> State:
    torch.manual_seed(seed)
    return ResNet(Bottleneck, list(blocks)).state_dict()


def trunk(seed: int, prefix: str, blocks: Sequence[int]) -> State:
    return {prefix + name: value for name, value in resnet(seed, blocks).items() if not name.startswith("fc.")}


def write_checkpoints(folder: Path, blocks: Sequence[int], depth: int) -> dict[str, Path]:
    """One file for each, with the nesting, prefixes and heads that its publisher left in."""
    torch.manual_seed(4)
    dino = timm.create_model("vit_small_patch8_224", num_classes=0, depth=depth).state_dict()
    swav_head = {"module.projection_head.0.weight": torch.zeros(8, 8), "module.prototypes.weight": torch.zeros(3, 8)}
    vissl = {"trunk": trunk(3, "_feature_blocks.", blocks), "heads": {"0.clf.0.weight": torch.zeros(8, 8)}}
    content: dict[str, Any] = {
        "supervised": OrderedDict(resnet(1, blocks)),
        "swav": trunk(2, "module.", blocks) | swav_head,
        "simclr": {"classy_state_dict": {"base_model": {"model": vissl, "meta": {}}}, "phase_idx": 999},
        "dino": dino,
    }
    files = {name: folder / f"{name}.pth" for name in content}
    for name, path in files.items():
        torch.save(content[name], path)
    return files


def with_arguments(name: str, arguments: Arguments, **changes: Any) -> BackboneSpec:
    """A backbone of the zoo with the same rules for its file, and other arguments of its architecture."""
    spec = get_spec(name)
    return replace(spec, architecture_args={**spec.architecture_args, **arguments}, **changes)


@pytest.mark.parametrize("sizes", [SHALLOW, pytest.param(FULL, marks=pytest.mark.slow)], ids=["shallow", "full"])
def test_extract__four_backbones_in_one_pass(
    sizes: tuple[Arguments, Arguments],
    solar_cells: list[tuple[Path, str]],
    write_manifest: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: Counter[bytes] = Counter()
    decode = decoding.decode

    def count(image: Encoded, max_pixels: int | None, reading: Reading) -> Any:
        decoded[image.data] += 1
        return decode(image, max_pixels, reading)

    monkeypatch.setattr(decoding, "decode", count)
    files = write_checkpoints(tmp_path, sizes[0]["layers"], sizes[1]["depth"])
    for name in files:
        arguments = sizes[1] if name == "dino" else sizes[0]
        monkeypatch.setitem(registry._SPECS, name, with_arguments(name, arguments))
    manifest = write_manifest(solar_cells[:N_IMAGES], ["image", "label"])
    cache = tmp_path / "c.zarr"
    command = ["extract", str(manifest), str(cache), "--backbones", ",".join(files), "--json"]
    for name, path in files.items():
        command += ["--weights", f"{name}={path}"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    outcomes = json.loads(result.stdout)["outcomes"]
    assert [(item["backbone"], item["dim"], item["computed"]) for item in outcomes] == [
        ("supervised", 2048, N_IMAGES),
        ("swav", 2048, N_IMAGES),
        ("simclr", 2048, N_IMAGES),
        ("dino", 1536, N_IMAGES),
    ]
    assert sorted(decoded.values()) == [1] * N_IMAGES
    (features,) = EmbeddingCache.open(cache).read_aligned(["swav"], np.arange(N_IMAGES))
    assert features.std(axis=0).max() > 0


def haiku_byol(state: State) -> dict[str, Any]:
    """DeepMind's pretraining checkpoint: kernels are (height, width, in, out), statistics are modules of their own."""
    params: dict[str, dict[str, np.ndarray]] = {}
    averages: dict[str, dict[str, np.ndarray]] = {}
    for name, value in state.items():
        module, _, part = name.rpartition(".")
        if module == "fc" or part == "num_batches_tracked":
            continue
        path = haiku_path(module)
        if value.ndim == 4:
            params[path] = {"w": value.permute(2, 3, 1, 0).numpy()}
        elif part in {"weight", "bias"}:
            params.setdefault(path, {})["scale" if part == "weight" else "offset"] = value.view(1, 1, 1, -1).numpy()
        else:
            values = value.view(1, 1, 1, -1).numpy()
            averages[f"{path}/~/{'mean' if part == 'running_mean' else 'var'}_ema"] = {
                "hidden": values,
                "average": values,
                "counter": np.array(7, np.int32),
            }
    heads = {"projector/linear": {"w": np.zeros((8, 8), np.float32)}}
    online = SimpleNamespace(online_params=params | heads, online_state=averages)
    return {"experiment_state": online, "step": 300_000, "rng": np.zeros(2, np.uint32)}


def haiku_path(module: str) -> str:
    """A module of torchvision's ResNet-50 by its name in BYOL's haiku network."""
    root = "res_net50/~/"
    if module in {"conv1", "bn1"}:
        return f"{root}initial_{'conv' if module == 'conv1' else 'batchnorm'}"
    layer, block, rest = module.split(".", 2)
    prefix = f"{root}block_group_{int(layer[-1]) - 1}/~/block_{block}/~/"
    if rest.startswith("downsample"):
        return f"{prefix}shortcut_{'conv' if rest.endswith('0') else 'batchnorm'}"
    return f"{prefix}{'conv' if rest.startswith('conv') else 'batchnorm'}_{int(rest[-1]) - 1}"


def test_convert__byol_from_haiku_to_a_checked_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an eighth of the channels, but as deep as published, and checked on small images."""
    torch.manual_seed(5)
    expected = timm.create_model("resnet50", channels=(8, 16, 32, 64)).state_dict()
    narrow = with_arguments("byol", {"channels": (32, 64, 128, 256)}, dim=256)
    monkeypatch.setitem(registry._SPECS, "byol", narrow)
    published = tmp_path / "pretrain_res50x1.pkl"
    published.write_bytes(pickle.dumps(haiku_byol(expected)))
    refused = CliRunner().invoke(app, ["backbones", "check", "byol", "--weights", str(published)])
    assert refused.exit_code == 1
    assert "dvme backbones convert" in refused.stderr
    converted = CliRunner().invoke(app, ["backbones", "convert", str(published)])
    assert converted.exit_code == 0, converted.output
    assert "265 tensors of a haiku checkpoint, read without running any code of it" in converted.stdout
    target = f"{published}.safetensors"
    checked = CliRunner().invoke(app, ["backbones", "check", "byol@size=64", "--weights", target, "--json"])
    assert checked.exit_code == 0, checked.output
    report = json.loads(checked.stdout)
    assert (report["n_used"], report["left_over"], report["features"]["dim"]) == (265, {}, 256)
    loaded = build_model(get_spec("byol"), Path(target)).model
    assert torch.equal(
        loaded.state_dict()["stages.3.blocks.0.downsample.conv.weight"], expected["layer4.0.downsample.0.weight"]
    )
